//! Policies and extensions from files: loaded, tried, and remembered.

pub mod history;
pub mod load;
pub mod trial;
