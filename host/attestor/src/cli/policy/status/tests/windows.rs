//! Places for sockets of tests, on Windows.

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;

use spire_plugin::Account;

/// The beginning of the names of pipes.
pub(super) struct Place(String);

impl Place {
    pub(super) fn new() -> Place {
        Place(format!(r"\\.\pipe\docker-attestor-test-{:016x}", RandomState::new().hash_one(0)))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("{}-{name}", self.0))
    }
}

/// The account of this process. A pipe of a test has no other owner, and a pipe that has is not asked.
pub(super) fn owners() -> [Account; 1] {
    [Account::current()]
}
