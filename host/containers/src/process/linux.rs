//! Reads of the machine's own /proc (proc(5)), each of one process that is held by a pidfd.

use std::fs::File;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::{Errno, pread};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

pub use super::kept::processes_kept;
use super::kept::{CgroupText, KeptFiles, KeptProcesses};
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
    proc: Arc<Proc>,
    kept: KeptProcesses,
}

/// The directory /proc, and the inodes of our own namespaces; `None` where the kernel does not tell.
#[derive(Debug)]
struct Proc {
    directory: OwnedFd,
    own_pid_namespace: Option<u64>,
    own_user_namespace: Option<u64>,
}

impl Linux {
    /// Opens /proc.
    pub fn new() -> io::Result<Linux> {
        let directory = openat(CWD, "/proc", directory(), Mode::empty())?;
        // All pids here are pids of our own pid namespace, so /proc must show that namespace.
        if matches!(namespace_pids(&read_whole(&directory, "self/status")?), Ok(pids) if pids.len() > 1) {
            return Err(io::Error::other(
                "/proc is that of another pid namespace than the plugin's: mount one of its own, or run it with --pid host",
            ));
        }
        let inode = |link| namespace_inode(&directory, link).ok();
        let (own_pid_namespace, own_user_namespace) = (inode("self/ns/pid"), inode("self/ns/user"));
        let proc = Arc::new(Proc { directory, own_pid_namespace, own_user_namespace });
        Ok(Linux { proc, kept: KeptProcesses::new() })
    }

    /// Opens the process at the other end of a connected unix socket: the process that called listen(2). Its pid is
    /// `pid` (SO_PEERCRED). Returns `None` if it has ended. The process is held by a pidfd, so that a process that
    /// reuses the pid is never taken for it. The pidfd comes from SO_PEERPIDFD, which names that very process. Before
    /// Linux 6.5 there is no such option, and the pid must do.
    pub fn open_peer(&self, socket: impl AsFd, pid: i32) -> io::Result<Option<Arc<dyn Process>>> {
        match namespaces::peer_pidfd(socket.as_fd()) {
            Ok(pidfd) => {
                let process = LinuxProcess { identified: self.identified(pid, Held::Pidfd(pidfd)), kept: None };
                Ok(process.alive().then(|| Arc::new(process) as Arc<dyn Process>))
            }
            // The peer has ended and was reaped (ENODATA on Linux 6.16 and newer, ESRCH or EINVAL before).
            Err(Errno::NODATA | Errno::SRCH | Errno::INVAL) => Ok(None),
            Err(Errno::NOPROTOOPT) => self.open_to_keep(pid),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes hold of the process that has this pid now.
    fn hold(&self, pid: i32) -> io::Result<Option<Held>> {
        let Some(number) = Pid::from_raw(pid).filter(|_| pid > 0) else { return Ok(None) };
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => return Ok(Some(Held::Pidfd(pidfd))),
            Err(Errno::SRCH) => return Ok(None),
            // Kernels before 5.3 have no pidfds (ENOSYS), and some sandboxes forbid them (EPERM). The id of a thread has a directory
            // in /proc but no pidfd (EINVAL, on newer kernels ENOENT).
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        match openat(&self.proc.directory, pid.to_string(), directory(), Mode::empty()) {
            Ok(directory) => Ok(Some(Held::Directory(directory))),
            Err(Errno::NOENT | Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn identified(&self, pid: i32, held: Held) -> Arc<Identified> {
        Arc::new(Identified { proc: Arc::clone(&self.proc), pid, held, constant: Constant::default() })
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
        if let Some(kept) = self.kept.get(pid) {
            return Ok(Some(kept));
        }
        let Some(held) = self.hold(pid)? else { return Ok(None) };
        // Without a pidfd nothing tells that the pid is still the process's.
        let kept = matches!(held, Held::Pidfd(_)).then(KeptFiles::default);
        let process = Arc::new(LinuxProcess { identified: self.identified(pid, held), kept });
        if process.kept.is_some() {
            self.kept.insert(pid, Arc::clone(&process));
        }
        Ok(Some(process))
    }

    fn open_to_keep(&self, pid: i32) -> io::Result<Option<Arc<dyn Process>>> {
        // The process that is attested first is often init itself. Its pidfd is shared, and its files are not.
        let identified = match self.kept.get(pid) {
            Some(kept) => Some(Arc::clone(&kept.identified)),
            None => self.hold(pid)?.map(|held| self.identified(pid, held)),
        };
        Ok(identified.map(|identified| Arc::new(LinuxProcess { identified, kept: None }) as Arc<dyn Process>))
    }

    fn sweep(&self) {
        self.kept.sweep();
    }

    fn now(&self) -> io::Result<u64> {
        // The unit of start times is a hundredth of a second (USER_HZ is 100 on every architecture that Docker runs
        // on), and /proc/uptime shows hundredths.
        let uptime = read(open(&self.proc.directory, "uptime")?)?;
        let text = String::from_utf8_lossy(&uptime);
        let digits: String = text.split(' ').next().unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
        digits.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "/proc/uptime has no time"))
    }

    fn own_cgroup(&self) -> io::Result<Vec<u8>> {
        read_whole(&self.proc.directory, "self/cgroup")
    }
}

/// A process of this machine.
#[derive(Debug)]
pub(super) struct LinuxProcess {
    identified: Arc<Identified>,
    /// For processes that are attested, and may be again.
    kept: Option<KeptFiles>,
}

/// Which process it is, and what never changes of it.
#[derive(Debug)]
struct Identified {
    proc: Arc<Proc>,
    pid: i32,
    held: Held,
    constant: Constant,
}

/// What never changes while a process lives. A process never leaves its pid namespace: setns(2) and unshare(2) choose that of its
/// children.
#[derive(Debug, Default)]
struct Constant {
    namespace: OnceLock<PidNamespace>,
    namespace_creator: OnceLock<Option<u32>>,
    namespace_pids: OnceLock<Vec<i32>>,
}

/// The handle that keeps a process apart from a later one with the same pid.
#[derive(Debug)]
enum Held {
    /// The pid is the process's for as long as the pidfd shows that it lives.
    Pidfd(OwnedFd),
    /// Its directory in /proc, where there are no pidfds. What is read through it is of this process.
    Directory(OwnedFd),
}

impl Process for LinuxProcess {
    fn cgroup(&self) -> io::Result<Arc<[u8]>> {
        let CgroupText { text, may_be_exited } = match &self.kept {
            Some(kept) => kept.cgroup(|| self.open("cgroup"))?,
            None => read_at_start(self.open("cgroup")?, CgroupText::new)?,
        };
        // A process whose main thread has exited may still have other threads.
        if may_be_exited
            && self.kept.as_ref().is_none_or(|kept| kept.has_no_memory(|| self.open("statm")).unwrap_or(true))
            && self.stat()?.state == b'Z'
            && let Some(text) = self.live_thread_cgroup()?
        {
            return Ok(text.into());
        }
        Ok(text)
    }

    fn mountinfo(&self) -> io::Result<Vec<u8>> {
        read(self.open("mountinfo")?)
    }

    fn stat(&self) -> io::Result<Stat> {
        parse_stat(&self.read_whole("stat")?)
    }

    fn pid_namespace(&self) -> io::Result<PidNamespace> {
        if let Some(namespace) = self.identified.constant.namespace.get() {
            return Ok(*namespace);
        }
        let inode = self.namespace_inode("ns/pid")?;
        Ok(*self.identified.constant.namespace.get_or_init(|| PidNamespace { inode }))
    }

    fn is_within(&self, namespace: &PidNamespace) -> io::Result<bool> {
        let mut current = self.open("ns/pid")?;
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
        if let Some(pids) = self.identified.constant.namespace_pids.get() {
            return Ok(pids.clone());
        }
        let pids = namespace_pids(&self.read_whole("status")?)?;
        Ok(self.identified.constant.namespace_pids.get_or_init(|| pids).clone())
    }

    fn pid_namespace_creator(&self) -> io::Result<Option<u32>> {
        if let Some(creator) = self.identified.constant.namespace_creator.get() {
            return Ok(*creator);
        }
        let owner = namespaces::owner(&self.open("ns/pid")?)?;
        let creator = match Some(identity(&owner)?.inode) == self.identified.proc.own_user_namespace {
            true => None,
            false => Some(namespaces::creator(&owner)?),
        };
        Ok(*self.identified.constant.namespace_creator.get_or_init(|| creator))
    }

    fn origin(&self) -> io::Result<Origin> {
        let Proc { own_pid_namespace: pid, own_user_namespace: user, .. } = *self.identified.proc;
        let status = self.read_whole("status")?;
        let real = parse_real_uid(&status)?;
        // Without the right to read another user's namespaces, only the real uid is known.
        let namespaces = || -> io::Result<Origin> {
            // A usual container: its user namespace is ours, and its pid namespace lies directly below ours.
            if user.is_some_and(|own| self.namespace_inode("ns/user").is_ok_and(|inode| inode == own)) {
                let pids = namespace_pids(&status)
                    .map(|pids| self.identified.constant.namespace_pids.get_or_init(|| pids).len());
                match pids {
                    Ok(1) => return Ok(Origin { namespace: None, user: real }),
                    Ok(2) if self.pid_namespace_creator()?.is_none() => {
                        return Ok(Origin { namespace: Some((self.pid_namespace()?, None)), user: real });
                    }
                    _ => {}
                }
            }
            let outermost_user = outermost(self.open("ns/user")?, user)?;
            let user_of = |namespace: Option<OwnedFd>| namespace.as_ref().map(namespaces::creator).transpose();
            let namespace = match outermost(self.open("ns/pid")?, pid)? {
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
        parse_credentials(&self.read_whole("status")?)
    }

    fn alive(&self) -> bool {
        match &self.identified.held {
            Held::Pidfd(pidfd) => {
                let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
                // A pidfd is readable once its process has exited (pidfd_open(2)).
                matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
            }
            Held::Directory(_) => self.stat().is_ok_and(|stat| stat.state != b'Z' && stat.state != b'X'),
        }
    }
}

impl LinuxProcess {
    /// Opens a file of the process. It stays a file of this process, whichever process has the pid later.
    fn open(&self, name: &str) -> io::Result<OwnedFd> {
        self.at(name, open)
    }

    fn namespace_inode(&self, link: &str) -> io::Result<u64> {
        self.at(link, namespace_inode)
    }

    /// Opens or reads something below the process's directory in /proc. If the process lives afterwards, the result is of this
    /// process, because no other process can have had the pid.
    fn at<T>(&self, name: &str, open: fn(&OwnedFd, &str) -> io::Result<T>) -> io::Result<T> {
        let Identified { proc, pid, held, .. } = &*self.identified;
        match held {
            Held::Directory(directory) => open(directory, name),
            Held::Pidfd(_) => {
                let opened = open(&proc.directory, &format!("{pid}/{name}"))?;
                if self.alive() { Ok(opened) } else { Err(io::ErrorKind::NotFound.into()) }
            }
        }
    }

    fn read_whole(&self, name: &str) -> io::Result<Vec<u8>> {
        read_at_start(self.open(name)?, <[u8]>::to_vec)
    }

    fn live_thread_cgroup(&self) -> io::Result<Option<Vec<u8>>> {
        let tasks = self.open("task")?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&tasks)?.take(1_024) {
            names.push(entry?.file_name().to_owned());
        }
        for name in names.iter().filter(|name| !name.to_bytes().starts_with(b".")) {
            let Ok(thread) = openat(&tasks, name.as_c_str(), directory(), Mode::empty()) else { continue };
            let stat = read_whole(&thread, "stat").and_then(|text| parse_stat(&text));
            if stat.is_ok_and(|stat| !b"ZX".contains(&stat.state))
                && let Ok(text) = read_whole(&thread, "cgroup")
            {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }
}

fn directory() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn open(directory: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(gone)
}

/// Reads a file below `directory` that the kernel produces as one whole.
fn read_whole(directory: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    read_at_start(open(directory, name)?, <[u8]>::to_vec)
}

/// Reads a file, up to [`limits::PROC_FILE`].
fn read(file: OwnedFd) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    match File::from(file).take(limits::PROC_FILE as u64 + 1).read_to_end(&mut text) {
        Ok(length) if length > limits::PROC_FILE => Err(too_large()),
        Ok(_) => Ok(text),
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Err(io::ErrorKind::NotFound.into()),
        Err(error) => Err(error),
    }
}

/// Reads the whole of a file that the kernel produces as one (single_open in its sources). Each read begins at the start of the file,
/// because a read that continues an earlier one could join two texts.
pub(super) fn read_at_start<T>(file: impl AsFd, use_text: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    let mut first = [MaybeUninit::uninit(); 4 << 10];
    let (text, left) = pread(&file, &mut first[..], 0).map_err(gone)?;
    if !left.is_empty() {
        return Ok(use_text(text));
    }
    let mut larger = Vec::<u8>::new();
    while larger.capacity() <= limits::PROC_FILE {
        larger = Vec::with_capacity((4 * larger.capacity()).clamp(16 << 10, limits::PROC_FILE + 1));
        let (text, left) = pread(&file, larger.spare_capacity_mut(), 0).map_err(gone)?;
        if !left.is_empty() {
            return Ok(use_text(text));
        }
    }
    Err(too_large())
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {} bytes", limits::PROC_FILE))
}

/// Maps ESRCH, which reads of a process that is gone return, to `NotFound`.
fn gone(error: Errno) -> io::Error {
    match error {
        Errno::SRCH => io::ErrorKind::NotFound.into(),
        error => error.into(),
    }
}

fn identity(namespace: &OwnedFd) -> io::Result<PidNamespace> {
    let stat = fstat(namespace)?;
    Ok(PidNamespace { inode: stat.st_ino })
}

/// Whether we may read the namespaces of other users' processes: CAP_SYS_PTRACE is effective (capabilities(7)).
pub fn may_read_namespaces() -> bool {
    has_cap_sys_ptrace(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// Whether CAP_SYS_PTRACE is effective in the text of a /proc/PID/status (`CapEff`).
pub fn has_cap_sys_ptrace(status: &str) -> bool {
    const CAP_SYS_PTRACE: u32 = 19;
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
        assert_eq!(*own.cgroup().unwrap(), *std::fs::read("/proc/self/cgroup").unwrap());
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
        let read_both = || {
            let whole = read_at_start(file.reopen().unwrap(), <[u8]>::to_vec);
            let pieces = read(file.reopen().unwrap().into());
            assert_eq!(whole.as_ref().ok(), pieces.as_ref().ok());
            whole.map_err(|error| (error.kind(), pieces.unwrap_err().kind()))
        };
        for length in [0, 4095, 4096, 4097, limits::PROC_FILE] {
            std::fs::write(file.path(), vec![b'x'; length]).unwrap();
            assert_eq!(read_both().unwrap().len(), length);
        }
        std::fs::write(file.path(), vec![b'x'; limits::PROC_FILE + 1]).unwrap();
        assert_eq!(read_both().unwrap_err(), (io::ErrorKind::FileTooLarge, io::ErrorKind::FileTooLarge));
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
        assert_eq!(*peer.cgroup().unwrap(), *linux.own_cgroup().unwrap());
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
