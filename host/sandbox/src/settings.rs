//! The settings of wasmtime. Components are compiled and run with exactly these.

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::{GUEST_MEMORY, GUEST_STACK, GUEST_TABLE, SANDBOXES};

/// The core instances of one component: its module, and the adapters between module and host.
const CORE_INSTANCES: u32 = 8;

/// The allocation of a sandbox's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Allocation {
    /// From a pool that is reserved once, so that a call costs no system call for its memory.
    Pooling,
    /// Mapped for each call. For machines where the pool's address space cannot be reserved, and for the compiler.
    OnDemand,
}

/// The configuration of wasmtime. Every setting that changes the generated code is the same for both allocations, so that a compiled
/// component loads with either.
pub(crate) fn config(allocation: Allocation) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(2 * GUEST_STACK)
        // 64 slots of the default 4 GiB would map 258 GiB.
        .memory_reservation(GUEST_MEMORY as u64)
        .memory_reservation_for_growth(0)
        .memory_guard_size(64 << 10)
        .memory_may_move(false)
        // No policy needs these features, and a feature that is off cannot be attacked.
        .wasm_tail_call(false)
        .wasm_relaxed_simd(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        // Error texts name functions; addresses within the source are of no use to an operator.
        .generate_address_map(false)
        .native_unwind_info(needs_unwind_info(std::env::consts::OS));
    if allocation == Allocation::Pooling {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(SANDBOXES)
            .total_core_instances(SANDBOXES * CORE_INSTANCES)
            .max_core_instances_per_component(CORE_INSTANCES)
            .total_memories(SANDBOXES)
            .max_memories_per_component(1)
            .max_memory_size(GUEST_MEMORY)
            .total_tables(SANDBOXES * 2)
            .max_tables_per_component(2)
            .table_elements(GUEST_TABLE)
            .total_stacks(SANDBOXES)
            // This much of a slot stays resident between calls, because a page fault costs more than clearing it.
            .linear_memory_keep_resident(64 << 10)
            .table_keep_resident(16 << 10)
            .async_stack_keep_resident(16 << 10)
            .max_unused_warm_slots(8)
            .pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// Whether code for an operating system, or for a target triple that names it, must hold unwind information. Windows walks the stack
/// by it, and wasmtime refuses to leave it out there.
pub(crate) fn needs_unwind_info(target: &str) -> bool {
    target.contains("windows")
}
