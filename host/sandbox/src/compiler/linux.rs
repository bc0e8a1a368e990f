//! How Linux bounds and schedules the compiler's process.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;

use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, nice, pidfd_open, pidfd_send_signal,
    set_dumpable_behavior, set_parent_process_death_signal, setrlimit,
};

use tokio::process::{Child, Command};

use crate::limits;

/// The file of the program that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ThisProgram;

impl ThisProgram {
    pub(super) fn new() -> ThisProgram {
        ThisProgram
    }

    /// A path of the file, whatever became of its name.
    pub(super) fn path(&self) -> io::Result<PathBuf> {
        Ok(PathBuf::from("/proc/self/exe"))
    }
}

/// Does nothing: the compiler's process confines itself.
pub(super) fn prepare(_: &mut Command) {}

/// The bounds of the compiler's process, which holds them itself.
pub(super) struct Bounds;

impl Bounds {
    /// Lets the process run for a part of the time if it has only idle processors.
    pub(super) fn of(child: &Child, idle: bool) -> io::Result<Bounds> {
        if let (true, Some(pid)) = (idle, child.id()) {
            run_part_time(pid);
        }
        Ok(Bounds)
    }
}

/// Lets a process run for a part of the time, until it has ended. Idle processors are not free: the process takes caches from calls.
/// Spread thinly it delays no call; in one go it delays those of some hundred milliseconds. Where this cannot be arranged, the
/// process is through sooner.
fn run_part_time(pid: u32) {
    let Some(process) = Pid::from_raw(pid.cast_signed()) else { return };
    let Ok(process) = pidfd_open(process, PidfdFlags::empty()) else { return };
    // A thread, because the runtime's timers are ten times too coarse.
    let _ = std::thread::Builder::new().name("pace".to_owned()).spawn(move || {
        for (signal, rest) in
            [(Signal::CONT, limits::COMPILER_RUNS), (Signal::STOP, limits::COMPILER_RESTS)].iter().cycle()
        {
            if pidfd_send_signal(&process, *signal).is_err() {
                return;
            }
            std::thread::sleep(*rest);
        }
    });
}

/// Whether a process was ended by SIGKILL.
pub(super) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}

/// Bounds this process, hides it, and lowers its priority.
pub(super) fn confine(idle: bool) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // SIGXCPU, and a second later a signal that cannot be ignored.
    lower(Resource::Cpu, limits::COMPILER_CPU, limits::COMPILER_CPU + 1)?;
    lower(Resource::As, limits::COMPILER_MEMORY, limits::COMPILER_MEMORY)?;
    // Where memory is short the kernel ends this process before the plugin.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // No other process may read its memory, and it leaves no core. Its /proc belongs to root from here on: this comes after the write.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Without it only the threads that answer calls wait longer.
    let _ = nice(19);
    if idle {
        schedule_when_idle();
    }
    Ok(())
}

/// Lowers a limit. A limit that is lower already stays.
fn lower(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let before = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    Ok(setrlimit(resource, Rlimit { current: Some(soft.min(before)), maximum: Some(hard.min(before)) })?)
}

#[expect(unsafe_code, reason = "no crate of ours wraps sched_setscheduler(2) safely")]
fn schedule_when_idle() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: it reads `parameters`, which outlives the call, and changes how this thread and those it starts are scheduled.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
}
