//! The tests of this crate, as one program.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the verdict")]

mod bounds;
mod language;
mod null_byte;
mod oracle;
mod properties;
mod values;
