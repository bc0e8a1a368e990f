//! The implementation on Windows, which limits no handles of a process and has no SIGHUP. Policy and extensions are
//! replaced when their files change.

use std::future::pending;
use std::io;

/// Does nothing: a process may hold some sixteen million handles.
pub(in super::super) fn raise_descriptor_limit() {}

/// Does nothing: Windows trims the pages of a program by itself.
pub(in super::super) fn give_back_program() {}

/// The requests to look at policy and extensions again. There are none.
pub(in super::super) struct ReloadRequests;

impl ReloadRequests {
    pub(in super::super) fn new() -> io::Result<ReloadRequests> {
        Ok(ReloadRequests)
    }

    /// Never returns.
    pub(in super::super) async fn next(&mut self) -> Option<()> {
        pending().await
    }
}
