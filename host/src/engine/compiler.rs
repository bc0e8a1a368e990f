//! The compiler, in a process of its own. What it does to a component takes time, memory and stack that grow with more than the
//! component's size: a few kilobytes can take minutes or gigabytes, or end the process that compiles them. So this program starts
//! itself once more, the kernel bounds that process, and what it made is loaded here: the same program with the same settings made it
//! a moment ago, and nobody else holds the pipe that it came through.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, OnceLock};

use clap::ValueEnum;
use rustix::process::{Resource, Rlimit, nice, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;
use wasmtime::component::Component;
use wasmtime::{Engine, OptLevel};

use super::settings::{self, Allocation};
use crate::limits;

/// The command line of the process of its own.
pub const COMMAND: &str = "compile-component";
/// The exit code that says that the output is not a compiled component but why there is none.
const REFUSED: u8 = 1;

/// Who goes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Priority {
    /// Everybody: it has what nobody wants. A call that wakes up takes the processor from it at once, which nice(2) alone leaves it for
    /// some milliseconds.
    Idle,
    /// It has the smallest part that nice(2) gives.
    Low,
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
    pub(super) async fn compile(&self, bytes: Arc<[u8]>) -> Result<Component, String> {
        let seconds = limits::COMPILATION.as_secs();
        let Ok(Ok(_one)) = tokio::time::timeout(limits::COMPILATION, self.one.acquire()).await else {
            return Err(format!("another component has been compiled for {seconds} s: try again when it has ended"));
        };
        let image = match PROGRAM.get() {
            Some(program) => {
                let idle = image_from(program, Priority::Idle, &bytes);
                match tokio::time::timeout(limits::COMPILATION_IDLE, idle).await {
                    Ok(image) => image?,
                    // A machine that is never idle must be able to get another policy too.
                    Err(_) => tokio::time::timeout(limits::COMPILATION, image_from(program, Priority::Low, &bytes))
                        .await
                        .unwrap_or_else(|_| Err(format!("it was not compiled within {seconds} s")))?,
                }
            }
            None => blocking(move || image(&bytes)).await?,
        };
        let engine = self.engine.clone();
        blocking(move || super::load(&engine, &image).map_err(|error| format!("{error:#}"))).await
    }
}

/// Does what takes milliseconds on a thread that may be blocked.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(PANICKED.to_owned()))
}

/// The compiled component, made by a process of its own.
async fn image_from(program: &Path, priority: Priority, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("the compiler's process: {error}");
    let mut child = Command::new(program)
        .arg(COMMAND)
        .args(priority.to_possible_value().map(|value| value.get_name().to_owned()))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("the compiler's process has no pipes".to_owned());
    };
    // It may end without reading all.
    let _ = stdin.write_all(bytes).await;
    drop(stdin);
    // So large that the C library maps it alone and gives it back whole; what is never written takes no memory.
    let mut output = Vec::with_capacity(limits::COMPILED_IMAGE + 64);
    stdout.take(limits::COMPILED_IMAGE as u64 + 1).read_to_end(&mut output).await.map_err(failed)?;
    if output.len() > limits::COMPILED_IMAGE {
        return Err(format!("it has more than {} MiB when compiled", limits::COMPILED_IMAGE >> 20));
    }
    let status = child.wait().await.map_err(failed)?;
    match status.code().map(u8::try_from) {
        Some(Ok(0)) => Ok(output),
        Some(Ok(REFUSED)) => Err(String::from_utf8_lossy(&output).into_owned()),
        _ => Err(format!(
            "the compiler ended with {status}: for one component it may take {} s of CPU, {} MiB of memory and {} MiB of stack",
            limits::COMPILER_CPU,
            limits::COMPILER_MEMORY >> 20,
            limits::COMPILER_STACK >> 20
        )),
    }
}

/// What the process of its own does: bounds itself, reads a component from stdin, and writes what it made to stdout.
pub fn run(priority: Priority) -> ExitCode {
    match compiled(priority) {
        Ok((code, output)) if io::stdout().write_all(&output).is_ok() => ExitCode::from(code),
        _ => ExitCode::from(REFUSED + 1),
    }
}

/// Exit code and output.
fn compiled(priority: Priority) -> io::Result<(u8, Vec<u8>)> {
    let all = |value: u64| Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(Resource::Cpu, all(limits::COMPILER_CPU))?;
    setrlimit(Resource::As, all(limits::COMPILER_MEMORY))?;
    setrlimit(Resource::Core, all(0))?;
    // Where memory is short the kernel ends this process and not the plugin.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
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
