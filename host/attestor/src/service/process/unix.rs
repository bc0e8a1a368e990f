//! The implementation on Unix.

use std::ffi::c_void;
use std::io;
use std::ops::Range;

use rustix::mm::{Advice, madvise};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Raises the soft limit of file descriptors to the hard limit. A process that waits to be attested holds up to three
/// descriptors and a cached container one, while systemd's soft limit of 1,024 is meant for programs that use select(2).
pub(in super::super) fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit of file descriptors cannot be raised: {error}");
    }
}

/// Gives back the pages of the program's own file. Its start and its configuration touched many pages that no attestation needs. Pages
/// that are needed again come from the page cache. Only the first segments of the file, up to the code, are given back, because this
/// process can never have changed them.
#[expect(unsafe_code, reason = "no crate of ours gives back a program's pages safely")]
pub(in super::super) fn give_back_program() {
    for pages in std::fs::read_to_string("/proc/self/maps").map_or_else(|_| Vec::new(), |maps| unchanged(&maps)) {
        let start = std::ptr::with_exposed_provenance_mut::<c_void>(pages.start);
        // SAFETY: the pages are of a private mapping of a file that was never writable, so that they are read from the file again.
        // The file cannot change while it is executed (ETXTBSY).
        let given_back = unsafe { madvise(start, pages.len(), Advice::LinuxDontNeed) };
        if let Err(error) = given_back {
            tracing::debug!("pages of the program cannot be given back: {error}");
        }
    }
}

/// The addresses of the program's first mappings in /proc/self/maps (proc_pid_maps(5)), up to the code: its tables, its constants and
/// the code. After them come the pages that the dynamic linker has changed.
fn unchanged(maps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut program = None;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(addresses), Some(rights)) = (fields.next(), fields.next()) else { break };
        let (Some(inode), Some((start, end))) = (fields.nth(2), addresses.split_once('-')) else { break };
        let (Ok(start), Ok(end)) = (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16)) else { break };
        if inode == "0" || *program.get_or_insert(inode) != inode || rights.contains('w') {
            break;
        }
        found.push(start..end);
        if rights.contains('x') {
            return found;
        }
    }
    // The memory is laid out in another way than expected.
    Vec::new()
}

/// The requests to look at policy and extensions again: SIGHUP.
pub(in super::super) struct ReloadRequests(Signal);

impl ReloadRequests {
    /// Handles the signal from now on.
    pub(in super::super) fn new() -> io::Result<ReloadRequests> {
        signal(SignalKind::hangup()).map(ReloadRequests)
    }

    /// Waits for the next request. Requests that arrive between two calls count as one. `None` if there will be no more.
    pub(in super::super) async fn next(&mut self) -> Option<()> {
        self.0.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resident pages that map files, in KiB.
    fn resident_of_files() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.split_ascii_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn the_programs_pages_are_given_back_and_come_again() {
        let before = resident_of_files();
        give_back_program();
        let after = resident_of_files();
        assert!(after + 1_000 < before, "{before} KiB before, {after} KiB after");
    }

    #[test]
    fn only_the_first_mappings_of_the_program_are_given_back() {
        let program = "5000-6000 r--p 00000000 fe:00 7  /x\n6000-9000 r-xp 00001000 fe:00 7  /x\n9000-a000 r--p 00004000 fe:00 7  /x\n";
        assert_eq!(unchanged(program), [0x5000..0x6000, 0x6000..0x9000]);
        for other in [
            "",
            "5000-6000 r--p 00000000 fe:00 7  /x\n",
            "5000-6000 rw-p 00000000 fe:00 7  /x\n6000-9000 r-xp 00001000 fe:00 7  /x\n",
            "5000-6000 r--p 00000000 fe:00 7  /x\n6000-9000 r-xp 00001000 fe:00 8  /y\n",
            "5000-6000 r-xp 00000000 00:00 0\n",
            "nonsense",
        ] {
            assert!(unchanged(other).is_empty(), "{other}");
        }
    }
}
