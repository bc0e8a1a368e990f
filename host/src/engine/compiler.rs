//! The compiler, bounded. Its time and memory grow with more than the size of a component: a few kilobytes can take minutes and
//! gigabytes, and a thread cannot be stopped. So a component that nobody has compiled yet is compiled by a process of its own
//! first, which the kernel bounds and whose result nobody sees; here it is compiled only when that has ended well. (Code that was
//! compiled elsewhere is never loaded.)

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, OnceLock};

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::{Semaphore, oneshot};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::settings::{self, Allocation};
use crate::limits;

/// The command line of the process of its own.
pub const COMMAND: &str = "compile-component";
/// The priority of a compilation (nice(2)), the lowest: it takes what calls leave.
const LOWEST: i32 = 19;

/// The program that [`COMMAND`] is a command of.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Says which program tries the compiler. A program that does not say so, such as a test, does without.
pub fn try_with(program: PathBuf) {
    let _ = PROGRAM.set(program);
}

/// Compiles one component at a time.
pub(super) struct Compiler {
    engine: Engine,
    one: Arc<Semaphore>,
}

impl Compiler {
    pub(super) fn new(engine: Engine) -> Compiler {
        Compiler { engine, one: Arc::new(Semaphore::new(1)) }
    }

    /// Compiles on a thread of the lowest priority.
    ///
    /// # Errors
    /// The compiler's own, or that it needs more time or memory than it may have.
    pub(super) async fn compile(&self, bytes: Arc<[u8]>) -> Result<Component, String> {
        let seconds = limits::COMPILATION.as_secs();
        let one = tokio::time::timeout(limits::COMPILATION, Arc::clone(&self.one).acquire_owned()).await;
        let Ok(Ok(one)) = one else {
            return Err(format!("another component has been compiled for {seconds} s: try again when it has ended"));
        };
        if let Some(program) = PROGRAM.get() {
            tokio::time::timeout(limits::COMPILATION, try_out(program, &bytes))
                .await
                .unwrap_or_else(|_| Err(format!("it was not compiled within {seconds} s")))?;
        }
        let engine = self.engine.clone();
        let (compiled, result) = oneshot::channel();
        let thread = std::thread::Builder::new().name("compiler".to_owned()).stack_size(limits::COMPILER_STACK);
        let compiling = thread.spawn(move || {
            // On Linux the priority is the thread's own (nice(2)); without it only the threads that answer calls wait longer.
            let _ = nice(LOWEST);
            let _ = compiled.send(compile(&engine, &bytes));
            drop(one);
        });
        compiling.map_err(|error| format!("no thread can be started: {error}"))?;
        match tokio::time::timeout(limits::COMPILATION, result).await {
            Ok(Ok(compiled)) => compiled.map_err(|error| format!("{error:#}")),
            Ok(Err(_)) => Err("the compiler broke down on it".to_owned()),
            Err(_) => Err(format!("it was not compiled within {seconds} s")),
        }
    }
}

/// Compiles a component, in an engine of its own: an engine keeps the memory that its compiler grew to.
fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
    trim_freed_memory();
    let image = Engine::new(&settings::config(Allocation::OnDemand))?.precompile_component(bytes)?;
    super::load(engine, &image)
}

/// A compiler frees a hundred megabytes. The C library learns from that to keep as much for later, unless it is told a threshold:
/// the one that it starts with.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "declares a function of the C library, which is safe to call")]
fn trim_freed_memory() {
    use std::ffi::c_int;
    unsafe extern "C" {
        // mallopt(3): takes any numbers, and its lock.
        safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }
    const M_TRIM_THRESHOLD: c_int = -1;
    mallopt(M_TRIM_THRESHOLD, 128 << 10);
}

/// Other C libraries keep less.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim_freed_memory() {}

/// Has a process of its own compile the component, and waits for it to end well.
async fn try_out(program: &PathBuf, bytes: &[u8]) -> Result<(), String> {
    let failed = |error: io::Error| format!("the compiler cannot be tried: {error}");
    let mut child = Command::new(program)
        .arg(COMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may end without reading all.
        let _ = stdin.write_all(bytes).await;
    }
    let status = child.wait().await.map_err(failed)?;
    match status.code() {
        // What the compiler refuses it refuses here too, and says why.
        Some(0 | 1) => Ok(()),
        _ => Err(format!(
            "the compiler would take more than {} s of CPU or {} MiB of memory for it",
            limits::COMPILER_CPU,
            limits::COMPILER_MEMORY >> 20
        )),
    }
}

/// What the process of its own does: bounds itself, reads a component from stdin, and compiles it.
pub fn run() -> ExitCode {
    let all = |value: u64| Rlimit { current: Some(value), maximum: Some(value) };
    let bounded = setrlimit(Resource::Cpu, all(limits::COMPILER_CPU))
        .and_then(|()| setrlimit(Resource::As, all(limits::COMPILER_MEMORY)))
        .and_then(|()| setrlimit(Resource::Core, all(0)));
    let _ = nice(LOWEST);
    let mut bytes = Vec::new();
    let read = io::stdin().take(limits::COMPONENT_FILE as u64).read_to_end(&mut bytes);
    // Not on the main thread, whose stack is as large as whoever starts us says.
    let thread = std::thread::Builder::new().stack_size(limits::COMPILER_STACK / 2);
    let compiling = thread.spawn(move || {
        Engine::new(&settings::config(Allocation::OnDemand))
            .and_then(|engine| engine.precompile_component(&bytes))
            .map(drop)
    });
    let compiled = compiling.map_err(drop).and_then(|compiling| compiling.join().map_err(drop));
    match (bounded, read, compiled) {
        (Ok(()), Ok(_), Ok(Ok(()))) => ExitCode::SUCCESS,
        (Ok(()), Ok(_), Ok(Err(_))) => ExitCode::FAILURE,
        _ => ExitCode::from(2),
    }
}
