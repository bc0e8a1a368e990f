//! One call of a component: the imports as wasmtime calls them, and the budget of the host's work for them.

use bounded::text::{cut, printable};
use wasmtime::{ResourceLimiter, Result, StoreLimits};

use crate::bindings::docker_attestor::policy::docker::Host as DockerHost;
use crate::bindings::docker_attestor::policy::log::{Host as LogHost, Level};
use crate::bindings::docker_attestor::policy::process::Host as ProcessHost;
use crate::bindings::docker_attestor::policy::sigstore::Host as SigstoreHost;
use crate::bindings::docker_attestor::policy::types::{Fault as WitFault, Host as TypesHost};
use crate::bindings::docker_attestor::policy::{docker, job_objects, process, sigstore};
use crate::error::{CallError, TooSlow};
use crate::fault::Fault;
use crate::imports::{ImportResult, Imports};
use crate::limits;
use crate::redaction::Redaction;

/// The state of one call.
pub(crate) struct Call<I> {
    imports: I,
    log: Log,
    /// Made when the component first logs something.
    redaction: Option<Redaction>,
    pub(crate) limits: Limits,
    /// The faults that the imports answered. A policy may pass them on unchanged.
    faults: Vec<Fault>,
    calls: usize,
    /// The host's work for this call so far, as fuel.
    work: u64,
    /// The part of it since other tasks could run.
    in_a_row: u64,
}

/// What the component of a call may allocate, and how much memory it has had.
#[derive(Default)]
pub(crate) struct Limits {
    pub(crate) bounds: StoreLimits,
    /// Bytes of linear memory, at most.
    pub(crate) memory: usize,
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        let grows = self.bounds.memory_growing(current, desired, maximum)?;
        self.memory = self.memory.max(desired);
        Ok(grows)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        self.bounds.memory_grow_failed(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        self.bounds.table_growing(current, desired, maximum)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        self.bounds.table_grow_failed(error)
    }

    fn instances(&self) -> usize {
        self.bounds.instances()
    }

    fn tables(&self) -> usize {
        self.bounds.tables()
    }

    fn memories(&self) -> usize {
        self.bounds.memories()
    }
}

/// What a call logged.
struct Log {
    /// `policy`, or `extension NAME`.
    name: String,
    lines: usize,
    /// The last line that was logged as an error.
    panic: Option<String>,
}

/// The work of one call of an import, as fuel: two units are about a nanosecond.
const CALL: u64 = 500;
/// The work of handing over one text, which is copied here and into the sandbox.
const TEXT: u64 = 400;
/// The work of comparing two questions.
const COMPARISON: u64 = 50;
/// The work of writing one line of the log.
const LINE: u64 = 20_000;

impl<I> Call<I> {
    /// A call of the component that logs as `name`.
    pub(crate) fn new(name: String, imports: I) -> Call<I> {
        Call {
            imports,
            log: Log { name, lines: 0, panic: None },
            redaction: None,
            limits: Limits::default(),
            faults: Vec::new(),
            calls: 0,
            work: 0,
            in_a_row: 0,
        }
    }

    /// The imports, when the call is over.
    pub(crate) fn into_imports(self) -> I {
        self.imports
    }

    /// The last line that the component logged as an error: its panic hook writes there.
    pub(crate) fn panic(&self) -> Option<&str> {
        self.log.panic.as_deref()
    }

    /// Counts a call of an import, and lets other tasks run when it is time.
    async fn begin(&mut self) -> Result<()> {
        self.calls += 1;
        wasmtime::ensure!(
            self.calls <= limits::GUEST_CALLS,
            "it called the host more than {} times",
            limits::GUEST_CALLS
        );
        self.charge(CALL)?;
        if self.in_a_row >= limits::FUEL_YIELD {
            self.in_a_row = 0;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Counts work of the host: what a component causes is its own cost.
    fn count(&mut self, work: u64) {
        self.work = self.work.saturating_add(work);
        self.in_a_row = self.in_a_row.saturating_add(work);
    }

    /// Counts work, and fails the call where it is too much.
    fn charge(&mut self, work: u64) -> Result<()> {
        self.count(work);
        wasmtime::ensure!(
            self.work <= limits::HOST_WORK,
            "what it asked of the host took more CPU than a call may (25 ms)"
        );
        Ok(())
    }

    /// Charges for texts that are handed over.
    fn hand_over(&mut self, texts: usize, bytes: usize) -> Result<()> {
        self.charge((texts as u64).saturating_mul(TEXT).saturating_add(bytes as u64))
    }
}

impl<I: Imports> Call<I> {
    /// The answer to a question. An answer that must be fetched first ends the call.
    async fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut I) -> ImportResult<T, I::Question>,
    ) -> Result<std::result::Result<T, WitFault>> {
        self.begin().await?;
        self.charge(COMPARISON * self.imports.answered() as u64)?;
        let answer = question(&mut self.imports).map_err(wasmtime::Error::new)?;
        Ok(answer.map_err(|fault| {
            // Each question has one fault at most, however often it is asked.
            if !self.faults.contains(&fault) {
                self.faults.push(fault.clone());
            }
            fault.into()
        }))
    }

    /// The values that the component was told.
    fn redaction(&mut self) -> &Redaction {
        if self.redaction.is_none() {
            let redaction = Redaction::of(self.imports.values());
            // The next charge fails the call if this was too much.
            self.count(redaction.cost());
            self.redaction = Some(redaction);
        }
        self.redaction.as_ref().unwrap_or(const { &Redaction::NONE })
    }

    /// A text of the component without the values that it was told.
    pub(crate) fn without_values(&mut self, text: &str) -> String {
        self.redaction().redact(text, false).0
    }

    /// A policy's fault with a bounded text that holds no value. A fault that an import answered stays as it is.
    pub(crate) fn checked(&mut self, fault: Fault) -> std::result::Result<Fault, CallError> {
        if fault.text.len() > limits::GUEST_TEXT {
            return Err(CallError::LongError);
        }
        match self.faults.contains(&fault) {
            true => Ok(fault),
            false => Ok(Fault { kind: fault.kind, text: self.without_values(&fault.text) }),
        }
    }
}

impl<I: Imports> ProcessHost for Call<I> {
    async fn cgroups(&mut self) -> Result<std::result::Result<Vec<process::Cgroup>, WitFault>> {
        let cgroups = self.ask(Imports::cgroups).await?;
        let lines = cgroups.as_deref().unwrap_or_default();
        let bytes = lines.iter().map(|line| line.hierarchy.len() + line.controllers.len() + line.path.len());
        self.hand_over(3 * lines.len(), bytes.sum())?;
        Ok(cgroups)
    }

    async fn cgroup_mounts(&mut self) -> Result<std::result::Result<Vec<process::CgroupMount>, WitFault>> {
        let mounts = self.ask(Imports::cgroup_mounts).await?;
        let lines = mounts.as_deref().unwrap_or_default();
        let bytes = lines.iter().map(|mount| mount.root.len() + mount.fs_type.len());
        self.hand_over(2 * lines.len(), bytes.sum())?;
        Ok(mounts)
    }
}

impl<I: Imports> job_objects::Host for Call<I> {
    async fn names(&mut self) -> Result<std::result::Result<Vec<String>, WitFault>> {
        let names = self.ask(Imports::job_object_names).await?;
        let lines = names.as_deref().unwrap_or_default();
        self.hand_over(lines.len(), lines.iter().map(String::len).sum())?;
        Ok(names)
    }
}

impl<I: Imports> DockerHost for Call<I> {
    async fn container(
        &mut self,
        engine: docker::Engine,
        id: String,
    ) -> Result<std::result::Result<Option<docker::ProvenContainer>, WitFault>> {
        self.charge(id.len() as u64)?;
        wasmtime::ensure!(
            id.len() <= limits::CLAIM,
            "it claims a container id of {} bytes: a cgroup's name has {} at most",
            id.len(),
            limits::CLAIM
        );
        let answer = self.ask(|imports| imports.container(engine, id)).await?;
        if let Ok(Some(docker::ProvenContainer { labels, env, .. })) = &answer {
            let bytes = labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
                + env.iter().map(String::len).sum::<usize>();
            self.hand_over(2 * labels.len() + env.len(), bytes)?;
            // There may be values now that the component was not told before.
            self.redaction = None;
        }
        Ok(answer)
    }
}

impl<I: Imports> SigstoreHost for Call<I> {
    async fn verify(&mut self) -> Result<std::result::Result<sigstore::Verdict, WitFault>> {
        let verdict = self.ask(Imports::verify).await?;
        let signatures = match &verdict {
            Ok(sigstore::Verdict::Verified(verified)) => &verified.signatures[..],
            _ => &[],
        };
        let bytes = signatures.iter().flat_map(texts_of).flatten().map(String::len).sum();
        self.hand_over(5 * signatures.len(), bytes)?;
        Ok(verdict)
    }
}

/// The texts of a signature.
fn texts_of(signature: &sigstore::Signature) -> [&Option<String>; 5] {
    let sigstore::Signature { subject, issuer, value, log_id, signed_entry_timestamp, .. } = signature;
    [subject, issuer, value, log_id, signed_entry_timestamp]
}

impl<I: Imports> TypesHost for Call<I> {}

impl<I: Imports> LogHost for Call<I> {
    async fn write(&mut self, level: Level, message: String) -> Result<()> {
        self.begin().await?;
        self.charge(message.len() as u64)?;
        self.log.lines += 1;
        if self.log.lines > limits::GUEST_LOG_LINES {
            return Ok(());
        }
        let line = cut(&message, limits::GUEST_LOG_LINE);
        let (text, cost) = self.redaction().redact(line, line.len() < message.len());
        self.charge(LINE + cost)?;
        let text = printable(&text);
        let name = &self.log.name;
        match level {
            Level::Debug => tracing::debug!(line = %text, "{name}"),
            Level::Info => tracing::info!(line = %text, "{name}"),
            Level::Warn => tracing::warn!(line = %text, "{name}"),
            Level::Error => {
                tracing::error!(line = %text, "{name}");
                self.log.panic = Some(text);
            }
        }
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if self.lines > limits::GUEST_LOG_LINES {
            let dropped = self.lines - limits::GUEST_LOG_LINES;
            tracing::warn!(dropped = %dropped, "{} logged more lines than a call may", self.name);
        }
    }
}

/// Ends a call that takes longer than [`limits::SANDBOX_WALL`].
pub(crate) async fn within_wall_time<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limits::SANDBOX_WALL, call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(wasmtime::Error::new(TooSlow)),
    }
}
