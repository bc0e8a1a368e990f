//! Tests of the crate from outside: its README, and its example as SPIRE runs it.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the verdict")]

mod example;
mod readme;
