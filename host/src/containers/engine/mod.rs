//! What a container engine says about containers.

pub mod docker;
