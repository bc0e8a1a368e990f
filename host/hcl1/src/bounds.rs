//! Bounds on what a text may hold. A configuration comes nowhere near them, and a text that exceeds one is an error.
//!
//! | bound | value | reason |
//! |---|---|---|
//! | [`TEXT`] | 1 MiB | the memory for everything that is made from a text is a multiple of its size |
//! | [`DEPTH`] | 64 | parser, decoder and the drop of a [`Document`](crate::Document) recurse, and a thread's stack is finite |
//! | [`ITEMS`] | 10,000 | an item takes some 100 bytes of memory but only 2 of the text (`[]`), and flattened JSON gives it up to 64 keys |
//! | [`PATH`] | 4 KiB | [`Findings`](crate::Findings) keeps a path for each key: 10,000 items with keys of 1 MiB would take gigabytes |
//! | [`ERRORS`] | 100 | a person reads no more, and each has a path of its own |

/// Bytes of a text.
pub const TEXT: usize = 1 << 20;

/// Levels of nested objects and lists.
pub const DEPTH: usize = 64;

/// Items of objects and elements of lists in a whole text. In JSON they are counted a second time when nested objects
/// are flattened.
pub const ITEMS: usize = 10_000;

/// Bytes of a path that [`Findings`](crate::Findings) keeps. The path of an unknown key is cut there. A key with a
/// longer path is never reported as repeated.
pub const PATH: usize = 4 << 10;

/// Errors of values that [`Findings`](crate::Findings) keeps. Those after them are counted.
pub const ERRORS: usize = 100;
