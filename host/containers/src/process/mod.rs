//! Reads about processes from the operating system.
//!
//! This module reads, parses and bounds. It does not decide what a cgroup path or a job's name means: a policy claims, and
//! [`crate::proof`] proves.

#[cfg(windows)]
pub(crate) mod account;
#[cfg(windows)]
mod jobs;
#[cfg(target_os = "linux")]
mod kept;
#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(target_os = "linux")]
mod namespaces;
pub mod recorded;
pub mod recording;
#[cfg(windows)]
pub(crate) mod win32;
#[cfg(windows)]
pub mod windows;

use std::io;
use std::sync::Arc;

use memchr::memchr;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(target_os = "linux")]
use self::linux as this;
#[cfg(windows)]
use self::windows as this;
use crate::error::Error;

/// The operating system of a machine. It decides what shows the container that a process is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// The cgroups of the process show it.
    #[default]
    Linux,
    /// The job objects of the process show it.
    Windows,
}

impl System {
    /// The operating system that this program was built for.
    pub const THIS: System = this::SYSTEM;
}

/// What the operating system shows of the container that a process is in. A claim is made from it and held against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// Linux: the text of /proc/PID/cgroup.
    Cgroup(Arc<[u8]>),
    /// Windows: the names of the container manager's job objects that the process is in.
    JobObjects(Arc<[String]>),
}

impl Evidence {
    /// Whether the process is gone: every process of Linux has a cgroup. A process of Windows may be in no job.
    pub fn is_of_no_process(&self) -> bool {
        matches!(self, Evidence::Cgroup(text) if text.is_empty())
    }
}

/// The processes of one machine.
pub trait Processes: Send + Sync {
    /// The operating system of the machine.
    fn system(&self) -> System {
        System::Linux
    }

    /// Opens one process; `None` if there is none. All reads go to this very process. Once it is gone they fail with
    /// `NotFound`, even if another process has its pid by then. On Linux its files may stay open, for the next call.
    fn open(&self, pid: i32) -> io::Result<Option<Arc<dyn Process>>>;

    /// Opens one process to keep, so that [`Process::alive`] can tell with one system call whether it still lives. It holds one
    /// descriptor.
    fn open_to_keep(&self, pid: i32) -> io::Result<Option<Arc<dyn Process>>> {
        self.open(pid)
    }

    /// Closes what is open of processes that have exited.
    fn sweep(&self) {}

    /// The time since boot, in the unit and on the clock of [`Stat::start_time`]. On Windows no clause compares times, and
    /// it is 0.
    fn now(&self) -> io::Result<u64> {
        Ok(0)
    }

    /// The text of /proc/self/cgroup: the cgroups that the attestor itself is in.
    fn own_cgroup(&self) -> io::Result<Vec<u8>> {
        not_of_this_system()
    }
}

/// One open process. Reads fail with `NotFound` once the process is gone, and with `Unsupported` where the operating system
/// has no such thing.
pub trait Process: Send + Sync {
    /// Whether the process still lives. Costs one system call.
    fn alive(&self) -> bool;
    /// Where the process comes from: its outermost container, if it is in one, and its user.
    fn origin(&self) -> io::Result<Origin>;

    /// The text of /proc/PID/cgroup. If the leader of the thread group is a zombie, that of a live thread.
    fn cgroup(&self) -> io::Result<Arc<[u8]>> {
        not_of_this_system()
    }
    /// The text of /proc/PID/mountinfo.
    fn mountinfo(&self) -> io::Result<Vec<u8>> {
        not_of_this_system()
    }
    /// The fields of /proc/PID/stat that are used.
    fn stat(&self) -> io::Result<Stat> {
        not_of_this_system()
    }
    /// The pid namespace that the process is in.
    fn pid_namespace(&self) -> io::Result<PidNamespace> {
        not_of_this_system()
    }
    /// Whether `namespace` is the process's pid namespace or an ancestor of it.
    fn is_within(&self, _namespace: &PidNamespace) -> io::Result<bool> {
        not_of_this_system()
    }
    /// The pids of the process in its pid namespaces, the innermost last (`NSpid` of /proc/PID/status).
    fn namespace_pids(&self) -> io::Result<Vec<i32>> {
        not_of_this_system()
    }
    /// The uid that owns the user namespace which owns the process's pid namespace. `None` if that user namespace is
    /// our own.
    fn pid_namespace_creator(&self) -> io::Result<Option<u32>> {
        not_of_this_system()
    }
    /// Its effective uid and gid (`Uid` and `Gid` of /proc/PID/status).
    fn credentials(&self) -> io::Result<ProcessCredentials> {
        not_of_this_system()
    }

    /// The job objects of the container manager that the process is in (Windows).
    fn job_objects(&self) -> io::Result<JobObjects> {
        not_of_this_system()
    }
}

fn not_of_this_system<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this operating system has no such thing"))
}

/// The beginning of the name of a container's job object. The container's id follows.
pub const CONTAINER_JOB: &str = "\\Container_";

/// The job objects of the container manager that a process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobObjects {
    /// No container manager runs on this machine, so that no process is in a container with process isolation.
    NoManager,
    /// Their names, such as `\Container_0123…`, in the order of the manager's handles. Empty if the process is in none.
    Names(Vec<String>),
}

/// The accounts under which the container manager of Windows may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManagerAccount {
    /// The manager runs as LocalSystem (S-1-5-18), as the service of Windows does.
    LocalSystem,
    /// Any account: for tests under wine, where all processes have the same one. A configuration cannot choose this.
    Any,
}

/// The fields of /proc/PID/stat that are used (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Field 3.
    pub state: u8,
    /// Field 22, in clock ticks since boot.
    pub start_time: u64,
}

/// The identity of a pid namespace: the inode of its file in nsfs (namespaces(7)), of which the kernel has only one
/// instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PidNamespace {
    /// The inode of the namespace.
    pub inode: u64,
}

/// The origin of a process: facts that the process cannot choose, as far as we may read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The outermost pid namespace below ours that the process is in, with the user who made it (see [`Origin::user`]).
    /// The user is `None` if the namespace belongs to our own user namespace, so that only root can have made it.
    /// On Windows: a number that stands for the container's job object, which only the container manager can make.
    pub namespace: Option<(PidNamespace, Option<u32>)>,
    /// The user of the process. For a process in a user namespace below ours, the uid that created the outermost such
    /// namespace; otherwise the real uid. On Windows: a number that stands for the account.
    pub user: u32,
}

/// The effective ids of a process, in our user namespace (proc_pid_status(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessCredentials {
    /// The effective uid.
    pub uid: u32,
    /// The effective gid.
    pub gid: u32,
}

/// Parses the effective ids of /proc/PID/status.
pub fn parse_credentials(status: &[u8]) -> io::Result<ProcessCredentials> {
    Ok(ProcessCredentials { uid: id(status, b"Uid:", 1)?, gid: id(status, b"Gid:", 1)? })
}

/// Parses the real uid of /proc/PID/status.
pub fn parse_real_uid(status: &[u8]) -> io::Result<u32> {
    id(status, b"Uid:", 0)
}

/// Parses one of the ids that `Uid:` and `Gid:` list in this order: real, effective, saved set, filesystem.
fn id(status: &[u8], name: &[u8], index: usize) -> io::Result<u32> {
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name));
    let field = line.and_then(|line| std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(index)?.parse().ok());
    field.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "status has no Uid and Gid as proc_pid_status(5) has them")
    })
}

/// Parses /proc/PID/stat. The process chooses the command's name (field 2), which may hold anything, even `)`. Fields
/// are therefore counted after the last `)`.
pub fn parse_stat(text: &[u8]) -> io::Result<Stat> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "stat has not the fields of proc_pid_stat(5)");
    let name_end = text.iter().rposition(|&byte| byte == b')').ok_or_else(malformed)?;
    let rest = text.get(name_end + 1..).unwrap_or_default();
    let mut fields = rest.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    // Field 3 is the first after the name, and field 22 comes 19 fields later.
    let state = fields.next().and_then(|field| field.first()).copied().ok_or_else(malformed)?;
    let start_time = fields
        .nth(18)
        .and_then(|field| std::str::from_utf8(field).ok()?.trim_end().parse().ok())
        .ok_or_else(malformed)?;
    Ok(Stat { state, start_time })
}

/// One line of /proc/PID/cgroup, as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupLine<'a> {
    /// The hierarchy's number; `0` is the unified hierarchy.
    pub hierarchy: &'a [u8],
    /// The controllers, as the kernel lists them.
    pub controllers: &'a [u8],
    /// The path, never normalised and never decoded.
    pub path: &'a [u8],
}

impl CgroupLine<'_> {
    /// Whether this is the unified hierarchy (cgroup v2).
    pub fn is_unified(&self) -> bool {
        self.hierarchy == b"0"
    }

    /// Whether the other line is of the same hierarchy. Hierarchies are told apart by their controllers, because their
    /// numbers may differ.
    pub fn same_hierarchy(&self, other: &CgroupLine<'_>) -> bool {
        self.controllers == other.controllers && self.is_unified() == other.is_unified()
    }
}

/// Parses the lines of /proc/PID/cgroup.
///
/// # Errors
/// [`Error::ProcLine`] for a line that cannot be parsed.
pub fn cgroup_lines(text: &[u8]) -> impl Iterator<Item = Result<CgroupLine<'_>, Error>> {
    lines(text).map(|line| {
        let fields = memchr(b':', line).and_then(|first| {
            let (hierarchy, rest) = line.split_at_checked(first)?;
            let (controllers, path) = rest.get(1..)?.split_at_checked(memchr(b':', rest.get(1..)?)?)?;
            Some(CgroupLine { hierarchy, controllers, path: path.get(1..)? })
        });
        fields.ok_or_else(|| malformed("cgroup", line, "hierarchy:controllers:path"))
    })
}

/// Parses /proc/PID/cgroup. One line that cannot be parsed fails the whole text.
///
/// # Errors
/// [`Error::ProcLine`].
pub fn parse_cgroup(text: &[u8]) -> Result<Vec<CgroupLine<'_>>, Error> {
    cgroup_lines(text).collect()
}

/// A mount of a cgroup hierarchy, as /proc/PID/mountinfo shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMount {
    /// The path in the hierarchy that the mount shows (field 4 of proc_pid_mountinfo(5)), with the kernel's octal escapes.
    pub root: String,
    /// `cgroup` or `cgroup2` (field 9).
    pub fs_type: String,
}

/// Parses the cgroup mounts of /proc/PID/mountinfo. One line that cannot be parsed fails the whole text.
///
/// # Errors
/// [`Error::ProcLine`].
pub fn cgroup_mounts(text: &[u8]) -> Result<Vec<CgroupMount>, Error> {
    let mut mounts = Vec::new();
    for line in lines(text).filter(|line| !line.is_empty()) {
        // Single spaces separate the fields. The mount source may be empty, so adjacent spaces must not be merged.
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let separator = fields
            .iter()
            .position(|&field| field == b"-")
            .ok_or_else(|| malformed("mountinfo", line, "a separator `-`"))?;
        let (Some(&root), Some(&fs_type)) = (fields.get(3), fields.get(separator + 1)) else {
            return Err(malformed("mountinfo", line, "a filesystem type after the separator"));
        };
        if separator < 6 {
            return Err(malformed("mountinfo", line, "6 fields before the separator"));
        }
        match fs_type {
            b"" => return Err(malformed("mountinfo", line, "a filesystem type after the separator")),
            b"cgroup" | b"cgroup2" => mounts.push(CgroupMount {
                root: String::from_utf8_lossy(root).into_owned(),
                fs_type: String::from_utf8_lossy(fs_type).into_owned(),
            }),
            _ => {}
        }
    }
    Ok(mounts)
}

fn lines(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let end = memchr(b'\n', text).unwrap_or(text.len());
        let (line, rest) = text.split_at(end);
        text = rest.get(1..).unwrap_or_default();
        Some(line)
    })
}

fn malformed(file: &'static str, line: &[u8], expected: &'static str) -> Error {
    let start = line.get(..line.len().min(80)).unwrap_or_default();
    Error::ProcLine { file, expected, line: start.escape_ascii().to_string() }
}
