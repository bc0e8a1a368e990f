//! The tests of this crate, as one program.

mod language;
mod null_byte;
mod oracle;
mod values;
