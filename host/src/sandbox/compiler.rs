//! The compiler, in a process of its own. What it does to a component takes time, memory and stack that grow with more than the
//! component's size: a few kilobytes can take minutes or gigabytes, or end the process that compiles them. So this program starts
//! itself once more, the kernel bounds that process, and what it made is loaded here: the same program with the same settings made it
//! a moment ago, and nobody else holds the pipe that it came through.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, OnceLock};

use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, nice, pidfd_open, pidfd_send_signal,
    set_dumpable_behavior, set_parent_process_death_signal, setrlimit,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasmtime::component::Component;
use wasmtime::{Engine, OptLevel};

use super::settings::{self, Allocation};
use crate::limits;

/// The command line of the process of its own, and then the name of a [`Priority`].
const COMMAND: &str = "compile-component";
/// The exit code that says that the output is not a compiled component but why there is none.
const REFUSED: u8 = 1;
/// The one that says that the output is why it could not be tried.
const FAILED: u8 = 2;

/// Who goes before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Priority {
    /// Everybody: it has what nobody wants, and of that a part ([`pace`]). A call that wakes up takes the processor from it at once,
    /// which nice(2) alone leaves it for some milliseconds.
    Idle,
    /// It has the smallest part that nice(2) gives.
    Low,
}

impl Priority {
    const fn name(self) -> &'static str {
        match self {
            Priority::Idle => "idle",
            Priority::Low => "low",
        }
    }
}

/// Why a component is not compiled.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct NotCompiled {
    /// Why.
    pub reason: String,
    /// Whether the reason is the machine's: the same component may be compiled later.
    pub passes: bool,
}

impl NotCompiled {
    fn refused(reason: String) -> NotCompiled {
        NotCompiled { reason, passes: false }
    }

    fn passing(reason: String) -> NotCompiled {
        NotCompiled { reason, passes: true }
    }
}

/// What is said of a panic.
const PANICKED: &str = "the compiler panicked over it: usual tools make no such component";

/// The program that [`COMMAND`] is a command of.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Says which program compiles. One that does not say so, such as a test, compiles in its own process.
pub fn compile_with(program: PathBuf) {
    let _ = PROGRAM.set(program);
}

/// Has one component compiled at a time.
pub(super) struct Compiler {
    engine: Engine,
    one: Semaphore,
}

impl Compiler {
    pub(super) fn new(engine: Engine) -> Compiler {
        Compiler { engine, one: Semaphore::new(1) }
    }

    /// Compiles while the machine has nothing else to do, or at a low priority if that does not end soon.
    ///
    /// # Errors
    /// The compiler's own, or that it needs more than it may have.
    pub(super) async fn compile(&self, bytes: Arc<[u8]>) -> Result<Component, NotCompiled> {
        let _one = self.one.acquire().await;
        let image = match PROGRAM.get() {
            Some(program) => match timeout(limits::COMPILATION_IDLE, image_from(program, Priority::Idle, &bytes)).await
            {
                Ok(image) => image?,
                // A machine that is never idle must be able to get another policy too.
                Err(_) => timeout(limits::COMPILATION, image_from(program, Priority::Low, &bytes))
                    .await
                    .unwrap_or_else(|_| {
                        let seconds = limits::COMPILATION.as_secs();
                        Err(NotCompiled::passing(format!("it was not compiled within {seconds} s")))
                    })?,
            },
            None => blocking(move || image(&bytes)).await?,
        };
        let engine = self.engine.clone();
        blocking(move || super::load(&engine, &image).map_err(|error| format!("{error:#}"))).await
    }
}

/// Does what takes milliseconds on a thread that may be blocked.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, NotCompiled> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(PANICKED.to_owned()));
    done.map_err(NotCompiled::refused)
}

/// The compiled component, made by a process of its own.
async fn image_from(program: &Path, priority: Priority, bytes: &[u8]) -> Result<Vec<u8>, NotCompiled> {
    let failed = |error: io::Error| NotCompiled::passing(format!("the compiler's process: {error}"));
    let mut child = Command::new(program)
        .args([COMMAND, priority.name()])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let (Priority::Idle, Some(process)) = (priority, child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()))) {
        pace(process);
    }
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(NotCompiled::passing("the compiler's process has no pipes".to_owned()));
    };
    // So large that the C library maps it alone and gives it back whole; what is never written takes no memory.
    let mut output = Vec::with_capacity(limits::COMPILED_IMAGE + 64);
    // It may end without reading all.
    let _ = stdin.write_all(bytes).await;
    drop(stdin);
    stdout.take(limits::COMPILED_IMAGE as u64 + 1).read_to_end(&mut output).await.map_err(failed)?;
    if output.len() > limits::COMPILED_IMAGE {
        let reason = format!("it has more than {} MiB when compiled", limits::COMPILED_IMAGE >> 20);
        return Err(NotCompiled::refused(reason));
    }
    let status = child.wait().await.map_err(failed)?;
    let said = |output: &[u8]| String::from_utf8_lossy(output).into_owned();
    match status.code().map(u8::try_from) {
        Some(Ok(0)) => Ok(output),
        Some(Ok(REFUSED)) => Err(NotCompiled::refused(said(&output))),
        Some(Ok(FAILED)) => Err(NotCompiled::passing(said(&output))),
        _ if status.signal() == Some(Signal::KILL.as_raw()) => {
            Err(NotCompiled::passing("the compiler was killed, as the kernel does where memory is short".to_owned()))
        }
        _ => Err(NotCompiled::refused(format!(
            "the compiler ended with {status}: for one component it may take {} s of CPU, {} MiB of memory and {} MiB of stack",
            limits::COMPILER_CPU,
            limits::COMPILER_MEMORY >> 20,
            limits::COMPILER_STACK >> 20
        ))),
    }
}

/// Lets a process run for a part of the time, until it has ended. What nobody wants of the processors is not free: it takes the
/// caches from calls. Spread thinly no call notices, in one go those of some hundred milliseconds do. Where it cannot be done the
/// process is through sooner.
fn pace(process: Pid) {
    let Ok(process) = pidfd_open(process, PidfdFlags::empty()) else { return };
    // A thread: the runtime's timers are ten times too coarse.
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

/// What the process of its own does, if the command line says that this is one: bounds itself, reads a component from stdin, and
/// writes what it made to stdout.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next()? != COMMAND {
        return None;
    }
    let idle = arguments.next().is_some_and(|name| name == Priority::Idle.name());
    let (code, output) = compiled(if idle { Priority::Idle } else { Priority::Low })
        .unwrap_or_else(|error| (FAILED, format!("the compiler's process: {error}").into_bytes()));
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(&output).and_then(|()| stdout.flush());
    Some(ExitCode::from(if written.is_ok() { code } else { FAILED }))
}

/// Exit code and output.
fn compiled(priority: Priority) -> io::Result<(u8, Vec<u8>)> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // SIGXCPU, and a second later what cannot be ignored.
    bound(Resource::Cpu, limits::COMPILER_CPU, limits::COMPILER_CPU + 1)?;
    bound(Resource::As, limits::COMPILER_MEMORY, limits::COMPILER_MEMORY)?;
    // Where memory is short the kernel ends this process before the plugin.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // Its memory is nobody's to read, and no core is left of it. Then its /proc is root's: this comes after the write.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Without it only the threads that answer calls wait longer.
    let _ = nice(19);
    if priority == Priority::Idle {
        idle();
    }
    let mut bytes = Vec::new();
    io::stdin().take(limits::COMPONENT_FILE as u64).read_to_end(&mut bytes)?;
    // Not on the main thread, whose stack is as large as whoever starts us says.
    let thread = std::thread::Builder::new().stack_size(limits::COMPILER_STACK);
    let compiling = thread.spawn(move || image(&bytes))?;
    match compiling.join() {
        Ok(Ok(image)) => Ok((0, image)),
        Ok(Err(why)) => Ok((REFUSED, why.into_bytes())),
        Err(_) => Ok((REFUSED, PANICKED.as_bytes().to_vec())),
    }
}

/// Lowers a limit. One that is lower already stays: to raise it is not ours.
fn bound(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let before = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    Ok(setrlimit(resource, Rlimit { current: Some(soft.min(before)), maximum: Some(hard.min(before)) })?)
}

#[expect(unsafe_code, reason = "no safe wrapper of sched_setscheduler(2) is in any crate that we have")]
fn idle() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: it reads `parameters`, which outlives the call, and changes how this thread and those it starts are scheduled.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
}

/// The compiled component, or why there is none.
fn image(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut config = settings::config(Allocation::OnDemand);
    // Whoever built it has optimized it. To do so again takes a quarter of the compiler's time, and makes calls 3 % faster.
    config.cranelift_opt_level(OptLevel::None);
    Engine::new(&config).and_then(|engine| engine.precompile_component(bytes)).map_err(|error| format!("{error:#}"))
}
