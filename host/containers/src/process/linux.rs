//! Reads of the machine's own /proc (proc(5)), through directory handles that stay with one process.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{
    Origin, PidNamespace, Process, ProcessCredentials, Processes, Stat, System, namespaces, parse_credentials,
    parse_real_uid, parse_stat,
};
use crate::limits;

/// The operating system of this file.
pub(super) const SYSTEM: System = System::Linux;

/// The processes that /proc shows.
#[derive(Debug)]
pub struct Linux {
    proc: OwnedFd,
    own: Own,
}

/// The inodes of our own namespaces; `None` where the kernel does not tell.
#[derive(Debug, Clone, Copy)]
struct Own {
    pid: Option<u64>,
    user: Option<u64>,
}

impl Linux {
    /// Opens /proc.
    pub fn new() -> io::Result<Linux> {
        let proc = openat(CWD, "/proc", directory(), Mode::empty())?;
        // All pids here are pids of our own pid namespace, so /proc must show that namespace.
        if matches!(namespace_pids(&read_whole(&proc, "self/status")?), Ok(pids) if pids.len() > 1) {
            return Err(io::Error::other(
                "/proc is that of another pid namespace than the plugin's: mount one of its own, or run it with --pid host",
            ));
        }
        let inode = |link| namespace_inode(&proc, link).ok();
        let own = Own { pid: inode("self/ns/pid"), user: inode("self/ns/user") };
        Ok(Linux { proc, own })
    }

    /// Opens the process at the other end of a connected unix socket: the process that called listen(2). Its pid is
    /// `pid` (SO_PEERCRED). Returns `None` if it has ended. The process is held by a pidfd, so that a process that
    /// reuses the pid is never taken for it. The pidfd comes from SO_PEERPIDFD, which names that very process. Before
    /// Linux 6.5 there is no such option, and the pid must do.
    pub fn open_peer(&self, socket: impl AsFd, pid: i32) -> io::Result<Option<Arc<dyn Process>>> {
        match namespaces::peer_pidfd(socket.as_fd()) {
            Ok(pidfd) => self.open_held(pid, pidfd),
            // The peer has ended and was reaped (ENODATA on Linux 6.16 and newer, ESRCH or EINVAL before).
            Err(Errno::NODATA | Errno::SRCH | Errno::INVAL) => Ok(None),
            Err(Errno::NOPROTOOPT) => self.open_to_keep(pid),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the process of a pidfd, whose pid is `pid`.
    fn open_held(&self, pid: i32, pidfd: OwnedFd) -> io::Result<Option<Arc<dyn Process>>> {
        let Some(dir) = self.open_dir(pid)? else { return Ok(None) };
        let process = LinuxProcess { dir, pidfd: Some(pidfd), own: self.own };
        // If the pidfd's process still lives, the directory that was opened after the pidfd belongs to the same
        // process.
        Ok(process.alive().then(|| Arc::new(process) as Arc<dyn Process>))
    }

    fn open_dir(&self, pid: i32) -> io::Result<Option<OwnedFd>> {
        if pid <= 0 {
            return Ok(None);
        }
        match openat(&self.proc, pid.to_string(), directory(), Mode::empty()) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT | Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The outermost namespace below our own, from `namespace` itself upwards. `own` is the inode of our own namespace.
/// `None` if `namespace` is our own, or `own` is unknown.
fn outermost(namespace: OwnedFd, own: Option<u64>) -> io::Result<Option<OwnedFd>> {
    let (mut outermost, mut current) = (None, namespace);
    for _ in 0..limits::NAMESPACE_DEPTH {
        if own.is_none_or(|own| identity(&current).is_ok_and(|current| current.inode == own)) {
            break;
        }
        let parent = namespaces::parent(&current);
        outermost = Some(current);
        current = match parent {
            Ok(parent) => parent,
            // The kernel shows nothing above our own namespace (ioctl_ns(2)).
            Err(Errno::PERM) => break,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(outermost)
}

/// Parses the pids in `NSpid:` of /proc/PID/status.
fn namespace_pids(status: &[u8]) -> io::Result<Vec<i32>> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "status has no NSpid (Linux 4.1 or newer has)");
    let line =
        status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"NSpid:")).ok_or_else(malformed)?;
    let pids = std::str::from_utf8(line).map_err(|_| malformed())?.split_ascii_whitespace();
    pids.map(|pid| pid.parse().map_err(|_| malformed())).collect()
}

/// The inode in the text of a namespace's link, `pid:[4026531836]` (namespaces(7)). Reading the text costs half as much
/// as following the link.
fn namespace_inode(dir: &OwnedFd, link: &str) -> io::Result<u64> {
    let text = readlinkat(dir, link, Vec::new()).map_err(gone)?;
    let text = text.to_string_lossy();
    let inode = text.split_once(":[").and_then(|(_, rest)| rest.strip_suffix(']')?.parse().ok());
    inode.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{link} is no link to a namespace")))
}

impl Processes for Linux {
    fn open(&self, pid: i32) -> io::Result<Option<Arc<dyn Process>>> {
        let Some(dir) = self.open_dir(pid)? else { return Ok(None) };
        Ok(Some(Arc::new(LinuxProcess { dir, pidfd: None, own: self.own })))
    }

    fn open_to_keep(&self, pid: i32) -> io::Result<Option<Arc<dyn Process>>> {
        let Some(number) = Pid::from_raw(pid) else { return Ok(None) };
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => self.open_held(pid, pidfd),
            // A thread's id has a /proc directory but no pidfd (EINVAL). Kernels before 5.3 have no pidfds (ENOSYS).
            Err(Errno::INVAL | Errno::NOSYS) => self.open(pid),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn now(&self) -> io::Result<u64> {
        // The unit of start times is a hundredth of a second (USER_HZ is 100 on every architecture that Docker runs
        // on), and /proc/uptime shows hundredths.
        let uptime = read(&self.proc, "uptime")?;
        let text = String::from_utf8_lossy(&uptime);
        let digits: String = text.split(' ').next().unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
        digits.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "/proc/uptime has no time"))
    }

    fn own_cgroup(&self) -> io::Result<Vec<u8>> {
        read_whole(&self.proc, "self/cgroup")
    }
}

#[derive(Debug)]
struct LinuxProcess {
    dir: OwnedFd,
    /// Held only for processes that are kept.
    pidfd: Option<OwnedFd>,
    own: Own,
}

impl Process for LinuxProcess {
    fn cgroup(&self) -> io::Result<Vec<u8>> {
        let text = read_whole(&self.dir, "cgroup")?;
        // In the v1 hierarchies an exiting task shows `/`. A process whose main thread has exited goes on in its other
        // threads.
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
        parse_stat(&read_whole(&self.dir, "stat")?)
    }

    fn pid_namespace(&self) -> io::Result<PidNamespace> {
        Ok(PidNamespace { inode: namespace_inode(&self.dir, "ns/pid")? })
    }

    fn is_within(&self, namespace: &PidNamespace) -> io::Result<bool> {
        let mut current = self.open_namespace("ns/pid")?;
        for _ in 0..limits::NAMESPACE_DEPTH {
            if identity(&current)? == *namespace {
                return Ok(true);
            }
            current = match namespaces::parent(&current) {
                Ok(parent) => parent,
                // The kernel shows nothing above our own pid namespace (ioctl_ns(2)).
                Err(Errno::PERM) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(false)
    }

    fn namespace_pids(&self) -> io::Result<Vec<i32>> {
        namespace_pids(&read_whole(&self.dir, "status")?)
    }

    fn pid_namespace_creator(&self) -> io::Result<Option<u32>> {
        let owner = namespaces::owner(&self.open_namespace("ns/pid")?)?;
        match Some(identity(&owner)?.inode) == self.own.user {
            true => Ok(None),
            false => Ok(Some(namespaces::creator(&owner)?)),
        }
    }

    fn origin(&self) -> io::Result<Origin> {
        let Own { pid, user } = self.own;
        let real = parse_real_uid(&read_whole(&self.dir, "status")?)?;
        // Without the right to read another user's namespaces, only the real uid is known.
        let namespaces = || -> io::Result<Origin> {
            let outermost_user = outermost(self.open_namespace("ns/user")?, user)?;
            let user_of = |namespace: Option<OwnedFd>| namespace.as_ref().map(namespaces::creator).transpose();
            let namespace = match outermost(self.open_namespace("ns/pid")?, pid)? {
                None => None,
                Some(namespace) => {
                    let owner = outermost(namespaces::owner(&namespace)?, user)?;
                    Some((identity(&namespace)?, user_of(owner)?))
                }
            };
            Ok(Origin { namespace, user: user_of(outermost_user)?.unwrap_or(real) })
        };
        match namespaces() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Origin { namespace: None, user: real }),
            origin => origin,
        }
    }

    fn credentials(&self) -> io::Result<ProcessCredentials> {
        parse_credentials(&read_whole(&self.dir, "status")?)
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
    fn open_namespace(&self, link: &str) -> io::Result<OwnedFd> {
        openat(&self.dir, link, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(gone)
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

/// Maps ESRCH, which reads through the open directory of a process that is gone return, to `NotFound`.
fn gone(error: Errno) -> io::Error {
    match error {
        Errno::SRCH => io::ErrorKind::NotFound.into(),
        error => error.into(),
    }
}

/// Reads a file below `dir`, up to [`limits::PROC_FILE`].
fn read(dir: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let mut file = open(dir, name)?;
    read_file(|free| file.read(free))
}

/// Reads a file that the kernel produces as one whole (single_open in its sources). A read that does not fill the
/// buffer is the last.
fn read_whole(dir: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let mut file = open(dir, name)?;
    let mut full = true;
    read_file(|free| {
        if !full {
            return Ok(0);
        }
        let read = file.read(free)?;
        full = read == free.len();
        Ok(read)
    })
}

fn open(dir: &OwnedFd, name: &str) -> io::Result<File> {
    Ok(openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(gone)?.into())
}

fn read_file(mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<Vec<u8>> {
    // One read suffices for nearly every file: what does not fill a page is complete, or ends with an empty read.
    let mut text = vec![0; 4 << 10];
    let mut length = 0;
    while let Some(free) = text.get_mut(length..) {
        match read(free) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            Err(error) => return Err(error),
        }
        if length > limits::PROC_FILE {
            let message = format!("larger than {} bytes", limits::PROC_FILE);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        if length == text.len() {
            text.resize(text.len() * 2, 0);
        }
    }
    text.truncate(length);
    Ok(text)
}

fn identity(namespace: &OwnedFd) -> io::Result<PidNamespace> {
    let stat = fstat(namespace)?;
    Ok(PidNamespace { inode: stat.st_ino })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_open_alive_and_in_its_own_namespace() {
        let linux = Linux::new().unwrap();
        let own = linux.open_to_keep(std::process::id() as i32).unwrap().unwrap();
        assert!(own.alive());
        assert!(own.stat().unwrap().start_time <= linux.now().unwrap());
        assert!(own.is_within(&own.pid_namespace().unwrap()).unwrap());
        assert_eq!(own.pid_namespace_creator().unwrap(), None);
        assert_eq!(own.namespace_pids().unwrap().last(), Some(&(std::process::id() as i32)));
        assert_eq!(own.cgroup().unwrap(), std::fs::read("/proc/self/cgroup").unwrap());
    }

    #[test]
    fn a_process_that_exited_is_not_alive_and_reads_as_gone() {
        let linux = Linux::new().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = linux.open_to_keep(child.id() as i32).unwrap().unwrap();
        assert!(process.alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.alive());
        assert_eq!(process.cgroup().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(process.pid_namespace().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(linux.open(child.id() as i32).unwrap().is_none());
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'x'; limits::PROC_FILE]).unwrap();
        let read = || {
            let mut file = file.reopen().unwrap();
            read_file(|free| file.read(free))
        };
        assert_eq!(read().unwrap().len(), limits::PROC_FILE);
        std::fs::write(file.path(), vec![b'x'; limits::PROC_FILE + 1]).unwrap();
        assert_eq!(read().unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[tokio::test]
    async fn the_peer_of_a_socket_is_the_process_that_listens() {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        let socket = tokio::net::UnixStream::connect(folder.path().join("socket")).await.unwrap();
        let linux = Linux::new().unwrap();
        let own = std::process::id() as i32;
        let peer = linux.open_peer(&socket, own).unwrap().unwrap();
        assert!(peer.alive());
        assert_eq!(peer.cgroup().unwrap(), linux.own_cgroup().unwrap());
        drop(listener);
        // A socket that was never connected has no peer.
        let unconnected = tokio::net::UnixDatagram::unbound().unwrap();
        assert!(linux.open_peer(&unconnected, own).unwrap().is_none());
    }

    #[test]
    fn this_process_is_in_no_namespace_below_ours() {
        let own = Linux::new().unwrap().open(std::process::id() as i32).unwrap().unwrap();
        let user = rustix::process::getuid().as_raw();
        assert_eq!(own.origin().unwrap(), Origin { namespace: None, user });
    }

    /// Any user may do what this test does: run a process in a pid namespace that a user namespace of the user's own
    /// owns.
    #[test]
    fn a_namespace_that_a_user_made_says_so() {
        let mut unshare = std::process::Command::new("unshare");
        let Ok(mut child) =
            unshare.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "sleep", "60"]).spawn()
        else {
            println!("skipped: no unshare here");
            return;
        };
        let linux = Linux::new().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let inner = (0..2_000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            let pid: i32 = std::fs::read_to_string(&children).ok()?.split_ascii_whitespace().next()?.parse().ok()?;
            let process = linux.open(pid).ok()??;
            (process.namespace_pids().ok()?.len() == 2).then_some(process)
        });
        let origin = inner.map(|process| (process.origin().unwrap(), process.pid_namespace().unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
        let Some((origin, namespace)) = origin else {
            println!("skipped: users may make no namespaces here");
            return;
        };
        let user = rustix::process::getuid().as_raw();
        assert_eq!(origin, Origin { namespace: Some((namespace, Some(user))), user });
    }

    #[test]
    fn another_namespace_is_not_an_ancestor() {
        let linux = Linux::new().unwrap();
        let own = linux.open(std::process::id() as i32).unwrap().unwrap();
        let other = PidNamespace { inode: 1 };
        assert!(!own.is_within(&other).unwrap());
    }
}
