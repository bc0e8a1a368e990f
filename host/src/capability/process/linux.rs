//! /proc of the machine itself (proc(5)), read through directory handles that stay with one process.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{PidNamespace, Process, Processes, Stat, parse_stat};
use crate::limits;

/// How far up a chain of pid namespaces is followed. The kernel nests at most 32 (pid_namespaces(7)).
const NAMESPACE_DEPTH: usize = 33;

/// The processes that /proc shows.
#[derive(Debug)]
pub struct Linux {
    proc: OwnedFd,
}

impl Linux {
    /// Opens /proc.
    pub fn new() -> io::Result<Linux> {
        Ok(Linux { proc: openat(CWD, "/proc", directory(), Mode::empty())? })
    }
}

impl Processes for Linux {
    fn open(&self, pid: i32) -> io::Result<Option<Arc<dyn Process>>> {
        let Some(number) = Pid::from_raw(pid) else { return Ok(None) };
        // The pidfd first: while it says that its process lives, the directory that was opened later is the same process's.
        let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => Some(pidfd),
            // A thread's id has a /proc directory but no pidfd (EINVAL); kernels before 5.3 have none at all (ENOSYS).
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => None,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let dir = match openat(&self.proc, pid.to_string(), directory(), Mode::empty()) {
            Ok(dir) => dir,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Arc::new(LinuxProcess { dir, pidfd })))
    }

    fn now(&self) -> u64 {
        // Hundredths of a second since boot: the unit of start times (USER_HZ is 100 on every architecture that Docker runs on).
        let uptime = read(&self.proc, "uptime").unwrap_or_default();
        let text = String::from_utf8_lossy(&uptime);
        let digits: String = text.split(' ').next().unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
        // 0 where it cannot be read: no process started before that, so nothing is proven.
        digits.parse().unwrap_or(0)
    }
}

#[derive(Debug)]
struct LinuxProcess {
    dir: OwnedFd,
    pidfd: Option<OwnedFd>,
}

impl Process for LinuxProcess {
    fn cgroup(&self) -> io::Result<Vec<u8>> {
        let text = read(&self.dir, "cgroup")?;
        // In the v1 hierarchies an exiting task shows `/`; a process whose main thread exited goes on in its other threads.
        let exiting = text
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty() && !line.starts_with(b"0:"))
            .all(|line| line.ends_with(b":/"));
        if exiting
            && self.stat()?.state == b'Z'
            && let Some(text) = self.live_thread_cgroup()?
        {
            return Ok(text);
        }
        Ok(text)
    }

    fn mountinfo(&self) -> io::Result<Vec<u8>> {
        read(&self.dir, "mountinfo")
    }

    fn stat(&self) -> io::Result<Stat> {
        parse_stat(&read(&self.dir, "stat")?)
    }

    fn pid_namespace(&self) -> io::Result<PidNamespace> {
        identity(&self.open_pid_namespace()?)
    }

    fn is_within(&self, namespace: &PidNamespace) -> io::Result<bool> {
        let mut current = self.open_pid_namespace()?;
        for _ in 0..NAMESPACE_DEPTH {
            if identity(&current)? == *namespace {
                return Ok(true);
            }
            current = match namespaces::parent(&current) {
                Ok(parent) => parent,
                // Above our own pid namespace nothing is shown (ioctl_ns(2)).
                Err(rustix::io::Errno::PERM) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(false)
    }

    fn namespace_pids(&self) -> io::Result<Vec<i32>> {
        let status = read(&self.dir, "status")?;
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "status has no NSpid (Linux 4.1 or newer has)");
        let line =
            status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"NSpid:")).ok_or_else(malformed)?;
        std::str::from_utf8(line)
            .map_err(|_| malformed())?
            .split_ascii_whitespace()
            .map(|pid| pid.parse().map_err(|_| malformed()))
            .collect()
    }

    fn pid_namespace_creator(&self) -> io::Result<Option<u32>> {
        let owner = namespaces::owner(&self.open_pid_namespace()?)?;
        let ours = openat(CWD, "/proc/self/ns/user", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        match identity(&owner)? == identity(&ours)? {
            true => Ok(None),
            false => Ok(Some(namespaces::creator(&owner)?)),
        }
    }

    fn alive(&self) -> bool {
        match &self.pidfd {
            Some(pidfd) => {
                let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
                // A pidfd is readable once its process has exited (pidfd_open(2)).
                matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
            }
            None => self.stat().is_ok_and(|stat| stat.state != b'Z' && stat.state != b'X'),
        }
    }
}

impl LinuxProcess {
    fn open_pid_namespace(&self) -> io::Result<OwnedFd> {
        openat(&self.dir, "ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(gone)
    }

    fn live_thread_cgroup(&self) -> io::Result<Option<Vec<u8>>> {
        let tasks = openat(&self.dir, "task", directory_to_list(), Mode::empty()).map_err(gone)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&tasks)?.take(1_024) {
            names.push(entry?.file_name().to_owned());
        }
        for name in names.iter().filter(|name| !name.to_bytes().starts_with(b".")) {
            let Ok(thread) = openat(&tasks, name.as_c_str(), directory(), Mode::empty()) else { continue };
            let live =
                read(&thread, "stat").and_then(|text| parse_stat(&text)).is_ok_and(|stat| !b"ZX".contains(&stat.state));
            if live && let Ok(text) = read(&thread, "cgroup") {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }
}

fn directory() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn directory_to_list() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// A process that is gone answers ESRCH through an open directory.
fn gone(error: rustix::io::Errno) -> io::Error {
    match error {
        rustix::io::Errno::SRCH => io::ErrorKind::NotFound.into(),
        error => error.into(),
    }
}

/// Reads a file below `dir`, up to [`limits::PROC_FILE`].
fn read(dir: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(gone)?;
    let mut text = Vec::with_capacity(4 << 10);
    let read = std::fs::File::from(file).take(limits::PROC_FILE as u64 + 1).read_to_end(&mut text);
    match read {
        Ok(length) if length > limits::PROC_FILE => {
            Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {} bytes", limits::PROC_FILE)))
        }
        Ok(_) => Ok(text),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            Err(io::ErrorKind::NotFound.into())
        }
        Err(error) => Err(error),
    }
}

fn identity(namespace: &OwnedFd) -> io::Result<PidNamespace> {
    let stat = fstat(namespace)?;
    Ok(PidNamespace { device: stat.st_dev, inode: stat.st_ino })
}

/// Whether we may read the namespaces of other users' processes: CAP_SYS_PTRACE is effective (capabilities(7)).
pub fn may_read_namespaces() -> bool {
    const CAP_SYS_PTRACE: u32 = 19;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << CAP_SYS_PTRACE) != 0)
}

/// The relations between namespaces, which only ioctl_ns(2) tells.
mod namespaces {
    #![expect(unsafe_code, reason = "no safe wrapper of ioctl_ns(2) exists")]

    use std::ffi::c_void;
    use std::os::fd::{FromRawFd, OwnedFd, RawFd};

    use rustix::io::Result;
    use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

    /// The parent of a pid namespace (NS_GET_PARENT).
    pub(super) fn parent(namespace: &OwnedFd) -> Result<OwnedFd> {
        // SAFETY: NS_GET_PARENT takes no argument and answers a new descriptor or an error.
        unsafe { ioctl(namespace, NewDescriptor::<2>) }
    }

    /// The user namespace that owns a namespace (NS_GET_USERNS).
    pub(super) fn owner(namespace: &OwnedFd) -> Result<OwnedFd> {
        // SAFETY: NS_GET_USERNS takes no argument and answers a new descriptor or an error.
        unsafe { ioctl(namespace, NewDescriptor::<1>) }
    }

    /// The uid that created a user namespace (NS_GET_OWNER_UID).
    pub(super) fn creator(namespace: &OwnedFd) -> Result<u32> {
        // SAFETY: NS_GET_OWNER_UID writes one uid_t.
        unsafe { ioctl(namespace, rustix::ioctl::Getter::<{ number(4) }, u32>::new()) }
    }

    const fn number(number: u8) -> Opcode {
        opcode::none(0xb7, number)
    }

    struct NewDescriptor<const NUMBER: u8>;

    // SAFETY: the requests take no argument, change no memory and answer a descriptor that nobody else owns.
    unsafe impl<const NUMBER: u8> Ioctl for NewDescriptor<NUMBER> {
        type Output = OwnedFd;

        const IS_MUTATING: bool = false;

        fn opcode(&self) -> Opcode {
            number(NUMBER)
        }

        fn as_ptr(&mut self) -> *mut c_void {
            std::ptr::null_mut()
        }

        unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<OwnedFd> {
            // SAFETY: on success the kernel answers a descriptor that it made for this call.
            Ok(unsafe { OwnedFd::from_raw_fd(output as RawFd) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_open_alive_and_in_its_own_namespace() {
        let linux = Linux::new().unwrap();
        let own = linux.open(std::process::id() as i32).unwrap().unwrap();
        assert!(own.alive());
        assert!(own.stat().unwrap().start_time <= linux.now());
        assert!(own.is_within(&own.pid_namespace().unwrap()).unwrap());
        assert_eq!(own.pid_namespace_creator().unwrap(), None);
        assert_eq!(own.namespace_pids().unwrap().last(), Some(&(std::process::id() as i32)));
        assert_eq!(own.cgroup().unwrap(), std::fs::read("/proc/self/cgroup").unwrap());
    }

    #[test]
    fn a_process_that_exited_is_not_alive_and_reads_as_gone() {
        let linux = Linux::new().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = linux.open(child.id() as i32).unwrap().unwrap();
        assert!(process.alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.alive());
        assert_eq!(process.cgroup().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(process.pid_namespace().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(linux.open(child.id() as i32).unwrap().is_none());
    }

    #[test]
    fn another_namespace_is_not_an_ancestor() {
        let linux = Linux::new().unwrap();
        let own = linux.open(std::process::id() as i32).unwrap().unwrap();
        let other = PidNamespace { inode: 1, ..own.pid_namespace().unwrap() };
        assert!(!own.is_within(&other).unwrap());
    }
}
