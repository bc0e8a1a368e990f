//! The crate from outside: its README, and its example as SPIRE runs it.

mod example;
mod readme;
