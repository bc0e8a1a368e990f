//! What a text may hold. A configuration comes nowhere near these bounds; a text that exceeds one is an error.
//!
//! | bound | value | reason |
//! |---|---|---|
//! | [`TEXT`] | 1 MiB | everything that is made of a text is a multiple of its size |
//! | [`DEPTH`] | 64 | parser, decoder and the drop of a [`Document`](crate::Document) recurse, and a thread's stack is finite |
//! | [`ITEMS`] | 10,000 | an item takes some 100 bytes and up to 64 keys, though the text spends 2 bytes on it (`[]`) |
//! | [`PATH`] | 4 KiB | [`Warnings`](crate::Warnings) keeps a path for each key: keys of 1 MiB would make gigabytes of 10,000 items |

/// Bytes of a text.
pub const TEXT: usize = 1 << 20;

/// Levels of objects and lists within one another.
pub const DEPTH: usize = 64;

/// Items of objects and elements of lists in a whole text. In JSON they are counted again after nested objects were taken apart.
pub const ITEMS: usize = 10_000;

/// Bytes of a path that [`Warnings`](crate::Warnings) keeps. Unknown keys with a longer path are kept with the beginning of it;
/// repeated ones are not noticed.
pub const PATH: usize = 4 << 10;
