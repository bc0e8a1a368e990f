//! The compiler, in a process of its own.
//!
//! Compiling a component takes time, memory and stack that grow with more than the component's size: a few kilobytes can take minutes
//! or gigabytes, or end the process that compiles them. So the program starts itself once more, the kernel bounds that process, and
//! the result is loaded here. The same program with the same settings made the result a moment ago, and no other process holds the
//! pipe that it came through.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasmtime::component::Component;
use wasmtime::{Engine, OptLevel};

#[cfg(target_os = "linux")]
use self::linux as system;
#[cfg(windows)]
use self::windows as system;
use crate::settings::{self, Allocation};
use crate::{Compiled, limits};

/// The command line of the compiler's process. The name of a [`Priority`] follows.
const COMMAND: &str = "compile-component";
/// The exit code for a component that is refused: the output is the reason.
const REFUSED: u8 = 1;
/// The exit code for a component that could not be tried: the output is the reason.
const FAILED: u8 = 2;
/// The reason for a component that makes the compiler panic.
const PANICKED: &str = "the compiler panicked over it: usual tools make no such component";

/// Where components are compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compilation(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// In a process of this very program.
    ThisProgram(system::ThisProgram),
    /// In a process of the program in this file.
    Program(PathBuf),
    /// In this process.
    ThisProcess,
}

impl Compilation {
    /// In a process of its own that runs this very program, even if the program's file was replaced or deleted. (Windows deletes and
    /// overwrites no file of a running program, and a file that was renamed is found by its new name.) The program calls [`run`]
    /// first of all.
    pub fn in_own_process() -> Compilation {
        Compilation(Place::ThisProgram(system::ThisProgram::new()))
    }

    /// In a process of its own that runs the program in this file.
    ///
    /// # Safety
    /// The program must be built of the same version of this crate, and call [`run`] first of all. Machine code that it prints runs in
    /// this process.
    #[expect(unsafe_code, reason = "passes the obligation on")]
    pub unsafe fn in_process_of(program: PathBuf) -> Compilation {
        Compilation(Place::Program(program))
    }

    /// In this process, without bounds: for components that are trusted, as in tests.
    pub fn in_this_process() -> Compilation {
        Compilation(Place::ThisProcess)
    }
}

/// How far the compiler's process yields to other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Priority {
    /// The process has only idle processors, and those for a part of the time. A call that wakes up takes the processor from it at
    /// once. (With nice(2) alone the call would wait some milliseconds.)
    Idle,
    /// The process has the smallest share that nice(2) gives.
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

/// Why a component was not compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotCompiled {
    /// The reason.
    pub reason: String,
    /// Whether the machine is the reason, so that the same component may be compiled later.
    pub retryable: bool,
}

impl NotCompiled {
    fn permanent(reason: String) -> NotCompiled {
        NotCompiled { reason, retryable: false }
    }

    fn transient(reason: String) -> NotCompiled {
        NotCompiled { reason, retryable: true }
    }
}

/// Compiles one component at a time.
pub(crate) struct Compiler {
    engine: Engine,
    compilation: Compilation,
    permit: Semaphore,
}

impl Compiler {
    pub(crate) fn new(engine: Engine, compilation: Compilation) -> Compiler {
        Compiler { engine, compilation, permit: Semaphore::new(1) }
    }

    /// Compiles on idle processors, or at a low priority if that does not end soon.
    pub(crate) async fn compile(&self, bytes: Arc<[u8]>) -> Result<Compiled, NotCompiled> {
        let _permit = self.permit.acquire().await;
        let image = match &self.compilation.0 {
            Place::ThisProcess => blocking(move || compile(&bytes)).await?,
            Place::Program(program) => compile_in_processes(program, &bytes).await?,
            Place::ThisProgram(program) => {
                let program = program.path().map_err(|error| {
                    NotCompiled::transient(format!("the file of this program, which compiles, is not told: {error}"))
                })?;
                compile_in_processes(&program, &bytes).await?
            }
        };
        let engine = self.engine.clone();
        blocking(move || load_own(&engine, &image).map_err(|error| format!("{error:#}"))).await
    }
}

/// The compiled component, made by a process that has idle processors only, or else by one of a low priority.
async fn compile_in_processes(program: &Path, bytes: &[u8]) -> Result<Vec<u8>, NotCompiled> {
    if let Ok(compiled) = timeout(limits::COMPILATION_IDLE, compile_in_process(program, Priority::Idle, bytes)).await {
        return compiled;
    }
    // A machine that is never idle must be able to get another policy too.
    timeout(limits::COMPILATION, compile_in_process(program, Priority::Low, bytes)).await.unwrap_or_else(|_| {
        let seconds = limits::COMPILATION.as_secs();
        Err(NotCompiled::transient(format!("it was not compiled within {seconds} s")))
    })
}

/// Does work of milliseconds on a thread that may be blocked.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, NotCompiled> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(PANICKED.to_owned()));
    done.map_err(NotCompiled::permanent)
}

/// The compiled component, made by a process of its own.
async fn compile_in_process(program: &Path, priority: Priority, bytes: &[u8]) -> Result<Vec<u8>, NotCompiled> {
    let failed = |error: io::Error| NotCompiled::transient(format!("the compiler's process: {error}"));
    let mut command = Command::new(program);
    command
        .args([COMMAND, priority.name()])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    system::prepare(&mut command);
    let mut child = command.spawn().map_err(failed)?;
    // The process waits for the component, which it gets once it has its bounds.
    let _bounds = system::Bounds::of(&child, priority == Priority::Idle).map_err(failed)?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(NotCompiled::transient("the compiler's process has no pipes".to_owned()));
    };
    // So large that the C library maps it alone and gives it back whole. Pages that are never written take no memory.
    let mut output = Vec::with_capacity(limits::COMPILED_IMAGE + 64);
    // The process may end without reading all.
    let _ = stdin.write_all(bytes).await;
    drop(stdin);
    stdout.take(limits::COMPILED_IMAGE as u64 + 1).read_to_end(&mut output).await.map_err(failed)?;
    if output.len() > limits::COMPILED_IMAGE {
        let reason = format!("it has more than {} MiB when compiled", limits::COMPILED_IMAGE >> 20);
        return Err(NotCompiled::permanent(reason));
    }
    let status = child.wait().await.map_err(failed)?;
    let reason = |output: &[u8]| String::from_utf8_lossy(output).into_owned();
    match status.code().map(u8::try_from) {
        Some(Ok(0)) => Ok(output),
        Some(Ok(REFUSED)) if !output.is_empty() => Err(NotCompiled::permanent(reason(&output))),
        Some(Ok(FAILED)) => Err(NotCompiled::transient(reason(&output))),
        _ if system::was_killed(status) => {
            Err(NotCompiled::transient("the compiler was killed, as the kernel does where memory is short".to_owned()))
        }
        _ => Err(NotCompiled::permanent(format!(
            "the compiler ended with {status}: for one component it may take {} s of CPU, {} MiB of memory and {} MiB of stack",
            limits::COMPILER_CPU,
            limits::COMPILER_MEMORY >> 20,
            limits::COMPILER_STACK >> 20
        ))),
    }
}

/// The main function of the compiler's process: bounds itself, reads a component from stdin, and writes the compiled one to stdout.
/// `None` when the command line says that this is another process.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next()? != COMMAND {
        return None;
    }
    let idle = arguments.next().is_some_and(|name| name == Priority::Idle.name());
    let (code, output) = compile_stdin(if idle { Priority::Idle } else { Priority::Low })
        .unwrap_or_else(|error| (FAILED, format!("the compiler's process: {error}").into_bytes()));
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(&output).and_then(|()| stdout.flush());
    Some(ExitCode::from(if written.is_ok() { code } else { FAILED }))
}

/// The exit code and the output of the compiler's process.
fn compile_stdin(priority: Priority) -> io::Result<(u8, Vec<u8>)> {
    system::confine(priority == Priority::Idle)?;
    let mut bytes = Vec::new();
    io::stdin().take(limits::COMPONENT_FILE as u64).read_to_end(&mut bytes)?;
    // Not on the main thread, whose stack is as large as the parent's limits say.
    let thread = std::thread::Builder::new().stack_size(limits::COMPILER_STACK);
    let compiling = thread.spawn(move || compile(&bytes))?;
    match compiling.join() {
        Ok(Ok(image)) => Ok((0, image)),
        Ok(Err(why)) => Ok((REFUSED, why.into_bytes())),
        Err(_) => Ok((REFUSED, PANICKED.as_bytes().to_vec())),
    }
}

/// The compiled component, or the compiler's reason.
fn compile(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut config = settings::config(Allocation::OnDemand);
    // The component's own build has optimized it. To do so again takes a quarter of the compiler's time, and makes calls 3 % faster.
    config.cranelift_opt_level(OptLevel::None);
    Engine::new(&config).and_then(|engine| engine.precompile_component(bytes)).map_err(|error| format!("{error:#}"))
}

/// Compiles a component ahead of time, optimized, for [`crate::Sandbox::load`]. The target's baseline CPU features are used, so that
/// the result runs on other machines than this one.
///
/// # Errors
/// The compiler's own.
pub fn precompile(component: &[u8], target: &str) -> Result<Vec<u8>, NotCompiled> {
    let mut config = settings::config(Allocation::OnDemand);
    config.native_unwind_info(settings::needs_unwind_info(target));
    config
        .target(target)
        .and_then(|config| Engine::new(config))
        .and_then(|engine| engine.precompile_component(component))
        .map_err(|error| NotCompiled::permanent(format!("{error:#}")))
}

/// Loads a component that this program compiled.
#[expect(unsafe_code, reason = "the image comes from this very program")]
fn load_own(engine: &Engine, image: &[u8]) -> wasmtime::Result<Compiled> {
    // SAFETY: the image was made with this wasmtime and these settings a moment ago, by this process or by one of the same program,
    // whose output no other process could write. `Compilation` can name no other program without an obligation. (wasmtime checks
    // version and settings; how far code is optimized is free.)
    unsafe { load(engine, image) }
}

/// Loads a compiled component.
///
/// # Safety
/// The image must be an unaltered result of this module.
#[expect(unsafe_code, reason = "the only call that loads compiled code")]
pub(crate) unsafe fn load(engine: &Engine, image: &[u8]) -> wasmtime::Result<Compiled> {
    // SAFETY: the caller's obligation.
    unsafe { Component::deserialize(engine, image) }.map(Compiled)
}
