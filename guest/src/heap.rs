//! The allocator of the component.
//!
//! Each call gets a fresh instance, whose memory ends with it. So a block is never looked for: the next one begins where the last one
//! ends, and only the last one is given back or grows in place. The first blocks lie in an arena that is a part of the initial
//! memory, because each growth of the memory costs the host two system calls that interrupt its other threads.

#![expect(unsafe_code, reason = "an allocator hands out memory")]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::{memory_grow, memory_size};
use core::cell::{Cell, UnsafeCell};

/// Bytes of the arena. A usual call needs some 20 KiB.
const ARENA: usize = 256 << 10;
/// Bytes of one page of WebAssembly.
const PAGE: usize = 64 << 10;
/// Pages by which the memory grows at least.
const GROWTH: usize = 16;

/// The blocks of one instance. An instance has one thread.
struct Heap {
    arena: UnsafeCell<[u8; ARENA]>,
    /// The first free byte, and the end of what is free. Both are 0 before the first block.
    next: Cell<usize>,
    end: Cell<usize>,
}

// SAFETY: an instance has one thread.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap { arena: UnsafeCell::new([0; ARENA]), next: Cell::new(0), end: Cell::new(0) };

impl Heap {
    /// Where a block of this size and alignment begins, if it fits into what is free.
    fn fit(&self, layout: Layout) -> Option<usize> {
        let start = self.next.get().checked_next_multiple_of(layout.align())?;
        let end = start.checked_add(layout.size())?;
        (end <= self.end.get()).then(|| {
            self.next.set(end);
            start
        })
    }

    /// Makes room for a block. What was free before is lost.
    fn make_room(&self, layout: Layout) -> Option<()> {
        if self.end.get() == 0 {
            let arena = self.arena.get() as usize;
            self.next.set(arena);
            self.end.set(arena + ARENA);
            return Some(());
        }
        let pages = layout.size().checked_add(layout.align())?.div_ceil(PAGE).max(GROWTH);
        let start = memory_size::<0>() * PAGE;
        if memory_grow::<0>(pages) == usize::MAX {
            return None;
        }
        // Where the memory grew before, the new pages follow the free ones.
        if self.end.get() != start {
            self.next.set(start);
        }
        self.end.set(start + pages * PAGE);
        Some(())
    }
}

// SAFETY: the blocks that are handed out lie in the arena or in pages of our own, and none overlaps another.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        loop {
            if let Some(start) = self.fit(layout) {
                return start as *mut u8;
            }
            if self.make_room(layout).is_none() {
                return core::ptr::null_mut();
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if block as usize + layout.size() == self.next.get() {
            self.next.set(block as usize);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let start = block as usize;
        let is_last = start + layout.size() == self.next.get();
        if size <= layout.size() || (is_last && start.checked_add(size).is_some_and(|end| end <= self.end.get())) {
            if is_last {
                self.next.set(start + size);
            }
            return block;
        }
        // SAFETY: the caller's obligation: the layout is that of the block, and the new size does not overflow.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                core::ptr::copy_nonoverlapping(block, new, layout.size());
            }
            new
        }
    }
}
