//! The tests of the crate that need no private item, in one test program.

mod storm;
