//! The facts of the kernel on which processes that are kept open rest (`src/process/kept.rs`), each shown on the kernel that runs.
//!
//! A test plays the other process by running this program again, with the name of a role in [`ROLE`].

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "in tests a panic is the verdict"
)]
#![expect(unsafe_code, reason = "no crate of ours wraps setns(2), tgkill(2) and the exit of one thread")]

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use containers::process::linux::Linux;
use containers::process::{Process, Processes as _};

const ROLE: &str = "KERNEL_TEST_ROLE";

/// A process of a test. It is killed when it is dropped.
struct Other(Child);

impl Other {
    /// Runs this program in a role, and waits until it says that it plays it.
    fn play(role: &str, set_up: impl FnOnce(&mut Command)) -> Other {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "play_a_role", "--nocapture"]).env(ROLE, role);
        set_up(&mut command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(said.into_iter().any(|line| line.ends_with("ready")), "the role {role} is not played");
        Other(child)
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    /// Tells the process to go on.
    fn go_on(&mut self) {
        drop(self.0.stdin.take());
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(format!("/proc/{}/{name}", self.pid())).unwrap()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: what the other process does.
#[test]
fn play_a_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    println!("ready");
    // Until the test says so.
    let _ = io::stdin().lines().count();
    match role.as_str() {
        "exec" => {
            // The tests of this program run in a thread, which thus is not the leader.
            assert_ne!(thread_id(), std::process::id().cast_signed());
            panic!("{}", Command::new("sleep").arg("60").exec());
        }
        "leader" => {
            exit_the_leader();
            std::thread::sleep(Duration::from_secs(60));
        }
        "setns" => {
            let target = fs::File::open(std::env::var("KERNEL_TEST_NAMESPACE").unwrap()).unwrap();
            // SAFETY: setns(2) with an open descriptor changes nothing but the namespace of this thread's children.
            let moved = unsafe { libc::setns(target.as_raw_fd(), libc::CLONE_NEWPID) };
            assert_eq!(moved, 0, "{}", io::Error::last_os_error());
            std::thread::sleep(Duration::from_secs(60));
        }
        _ => {}
    }
}

fn thread_id() -> i32 {
    // SAFETY: gettid(2) has no preconditions.
    unsafe { libc::gettid() }
}

/// Ends the leader of this process, and no other thread.
fn exit_the_leader() {
    extern "C" fn exit_this_thread(_: libc::c_int) {
        // SAFETY: exit(2) ends this thread only. What the thread borrowed to others stays, since its stack is not unmapped.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    let (pid, handler) = (std::process::id(), exit_this_thread as extern "C" fn(libc::c_int));
    // SAFETY: the handler only makes a system call. The leader waits for this test, and holds no lock that others need.
    unsafe {
        libc::signal(libc::SIGUSR1, handler as libc::sighandler_t);
        assert_eq!(libc::syscall(libc::SYS_tgkill, pid, pid, libc::SIGUSR1), 0);
    }
}

fn open(linux: &Linux, pid: i32) -> Arc<dyn Process> {
    linux.open(pid).unwrap().expect("the process lives")
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Two new cgroups of one hierarchy. Removed when dropped.
struct Cgroups([PathBuf; 2]);

impl Cgroups {
    /// Two in each hierarchy of v1 and v2 where they can be made here. None, unless root makes them.
    fn make() -> Vec<Cgroups> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let mut made = Vec::new();
        for parent in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new) {
            let set = format!("kernel-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
            let cgroups = [1, 2].map(|number| parent.join(format!("{set}-{number}")));
            if parent.join("cgroup.procs").exists() && cgroups.iter().all(|cgroup| fs::create_dir(cgroup).is_ok()) {
                made.push(Cgroups(cgroups));
            }
        }
        if made.is_empty() {
            println!("skipped: no cgroup can be made here");
        }
        made
    }

    fn names(&self) -> [String; 2] {
        [0, 1].map(|index| format!("/{}\n", self.0[index].file_name().unwrap().to_str().unwrap()))
    }

    fn enter(&self, index: usize, pid: i32) {
        fs::write(self.0[index].join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for cgroup in &self.0 {
            let deadline = Instant::now() + Duration::from_secs(5);
            while fs::remove_dir(cgroup).is_err() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

#[test]
fn a_kept_descriptor_shows_the_cgroup_that_the_process_moved_to() {
    let linux = Linux::new().unwrap();
    for cgroups in Cgroups::make() {
        let other = Other::play("wait", |_| {});
        let process = open(&linux, other.pid());
        for round in 0..1_000 {
            let index = round % 2;
            cgroups.enter(index, other.pid());
            let text = process.cgroup().unwrap();
            assert_eq!(*text, *other.file("cgroup"));
            let text = str::from_utf8(&text).unwrap();
            assert!(text.contains(&cgroups.names()[index]), "{round}: {text}");
        }
        drop(other);
    }
}

#[test]
fn a_process_that_a_thread_replaces_by_another_program_is_the_same_process() {
    let linux = Linux::new().unwrap();
    for _ in 0..20 {
        let mut other = Other::play("exec", |_| {});
        let process = open(&linux, other.pid());
        let (cgroup, namespace) = (process.cgroup().unwrap(), process.pid_namespace().unwrap());
        other.go_on();
        wait_until("the other program runs", || other.file("comm") == b"sleep\n");
        assert!(process.alive());
        assert_eq!(process.cgroup().unwrap(), cgroup);
        assert!(Arc::ptr_eq(&open(&linux, other.pid()), &process));
        let afresh = open(&Linux::new().unwrap(), other.pid());
        assert_eq!((namespace, afresh.cgroup().unwrap()), (afresh.pid_namespace().unwrap(), cgroup));
    }
}

#[test]
fn a_process_stays_in_its_pid_namespace() {
    let linux = Linux::new().unwrap();
    let Ok(outer) = Command::new("unshare").args(["--pid", "--fork", "--kill-child", "sleep", "60"]).spawn() else {
        return println!("skipped: no unshare here");
    };
    let outer = Other(outer);
    let children = format!("/proc/{0}/task/{0}/children", outer.pid());
    let mut inner = None;
    let deadline = Instant::now() + Duration::from_secs(5);
    while inner.is_none() && Instant::now() < deadline {
        inner = fs::read_to_string(&children).ok().and_then(|text| text.split(' ').next()?.parse::<i32>().ok());
        std::thread::sleep(Duration::from_millis(1));
    }
    let Some(inner) = inner else { return println!("skipped: no pid namespace can be made here") };
    let mut other = Other::play("setns", |command| {
        command.env("KERNEL_TEST_NAMESPACE", format!("/proc/{inner}/ns/pid"));
    });
    let process = open(&linux, other.pid());
    let own = process.pid_namespace().unwrap();
    other.go_on();
    let for_children = |pid| fs::read_link(format!("/proc/{pid}/task/{pid}/ns/pid_for_children"));
    let moved = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", other.pid())).unwrap();
        tasks
            .flatten()
            .any(|task| fs::read_link(task.path().join("ns/pid_for_children")).ok() == for_children(inner).ok())
    };
    wait_until("setns has moved the children's namespace", moved);
    let afresh = open(&Linux::new().unwrap(), other.pid());
    assert_eq!((process.pid_namespace().unwrap(), afresh.pid_namespace().unwrap()), (own, own));
    assert_ne!(open(&linux, inner).pid_namespace().unwrap(), own);
}

#[test]
fn a_leader_that_has_exited_is_seen_and_a_live_thread_is_read() {
    let linux = Linux::new().unwrap();
    let in_which = |process: &dyn Process| String::from_utf8(process.cgroup().unwrap().to_vec()).unwrap();
    for cgroups in Cgroups::make() {
        for _ in 0..20 {
            let mut other = Other::play("leader", |_| {});
            let process = open(&linux, other.pid());
            cgroups.enter(0, other.pid());
            assert!(in_which(&*process).contains(&cgroups.names()[0]));
            other.go_on();
            wait_until("the leader has exited", || other.file("statm").starts_with(b"0 0 0"));
            assert!(process.alive(), "no pidfd shows it");
            cgroups.enter(1, other.pid());
            assert!(in_which(&*process).contains(&cgroups.names()[1]), "{}", in_which(&*process));
        }
    }
}

#[test]
fn a_process_that_has_the_pid_of_one_that_exited_is_another_one() {
    const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
    let linux = Linux::new().unwrap();
    let mut reused = 0;
    for _ in 0..200 {
        let first = Other(Command::new("sleep").arg("60").spawn().unwrap());
        let pid = first.pid();
        let process = open(&linux, pid);
        let cgroup = process.cgroup().unwrap();
        // Held, but nothing was read of it.
        let untouched = [open(&Linux::new().unwrap(), pid), Linux::new().unwrap().open_to_keep(pid).unwrap().unwrap()];
        drop(first);
        if fs::write(LAST_PID, (pid - 1).to_string()).is_err() {
            return println!("skipped: only root can choose the next pid");
        }
        let second = Other(Command::new("sleep").arg("60").spawn().unwrap());
        if second.pid() != pid {
            // Another process of this machine was quicker.
            continue;
        }
        reused += 1;
        let other = open(&linux, pid);
        assert!(!Arc::ptr_eq(&process, &other) && other.alive());
        assert_eq!(other.cgroup().unwrap(), cgroup);
        for gone in untouched.iter().chain([&process]) {
            assert!(!gone.alive());
            let namespace = other.pid_namespace().unwrap();
            for read in [
                gone.cgroup().map(drop),
                gone.pid_namespace().map(drop),
                gone.namespace_pids().map(drop),
                gone.pid_namespace_creator().map(drop),
                gone.stat().map(drop),
                gone.credentials().map(drop),
                gone.mountinfo().map(drop),
                gone.origin().map(drop),
                gone.is_within(&namespace).map(drop),
            ] {
                assert_eq!(read.unwrap_err().kind(), io::ErrorKind::NotFound);
            }
        }
    }
    assert!(reused > 0, "the pid was never given again");
}

#[test]
fn what_is_kept_of_processes_that_exited_is_closed() {
    let linux = Linux::new().unwrap();
    let others: Vec<Other> = (0..8).map(|_| Other(Command::new("sleep").arg("60").spawn().unwrap())).collect();
    let files: Vec<_> = others.iter().map(|other| PathBuf::from(format!("/proc/{}/cgroup", other.pid()))).collect();
    let is_open = |descriptor: &fs::DirEntry| fs::read_link(descriptor.path()).is_ok_and(|file| files.contains(&file));
    let kept = || fs::read_dir("/proc/self/fd").unwrap().flatten().filter(|entry| is_open(entry)).count();
    for other in &others {
        open(&linux, other.pid()).cgroup().unwrap();
    }
    assert_eq!(kept(), others.len());
    linux.sweep();
    assert_eq!(kept(), others.len());
    drop(others);
    linux.sweep();
    wait_until("they are closed", || kept() == 0);
}

#[test]
fn the_id_of_a_thread_is_no_process_to_keep() {
    let linux = Linux::new().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let sleep = move || {
        send.send(thread_id()).unwrap();
        std::thread::sleep(Duration::from_millis(500));
    };
    let thread = std::thread::Builder::new().spawn(sleep).unwrap();
    let id = receive.recv().unwrap();
    let (first, second) = (open(&linux, id), open(&linux, id));
    assert!(first.alive() && !Arc::ptr_eq(&first, &second));
    thread.join().unwrap();
}
