//! The policy's imports: every one becomes a question to [`Workload::ask`], but `log.write`.

use bounded::text::{cut, printable};
use containers::process::{self as parsed, parse_cgroup};
use containers::{Container, Error as ContainersError, Proven};
use wasmtime::{Result, StoreLimits};

use super::redaction::Values;
use crate::limits;
use crate::sandbox::bindings::docker_attestor::policy::docker::{Engine, ProvenContainer};
use crate::sandbox::bindings::docker_attestor::policy::log::Level;
use crate::sandbox::bindings::docker_attestor::policy::process::{Cgroup, CgroupMount};
use crate::sandbox::bindings::docker_attestor::policy::sigstore::{Signature, Verdict};
use crate::sandbox::bindings::docker_attestor::policy::types::Fault;
use crate::sandbox::bindings::docker_attestor::policy::{docker, job_objects, log, process, sigstore, types};
use crate::workload::{Import, Told, Workload};

/// The state of one call.
pub(crate) struct Call {
    /// Who logs: "policy", or an extension.
    name: String,
    /// None while settings are validated, and for extensions: there is no workload then.
    pub(crate) workload: Option<Workload>,
    /// The container that the component was told of, and whether of its labels and its env.
    told: Option<(Proven, bool, bool)>,
    /// Its values, once something is logged.
    values: Option<Values>,
    pub(crate) limits: StoreLimits,
    /// The question that takes a fetch before the call can go on.
    pub(crate) open: Option<Import>,
    /// The component's last error line: its panic hook writes there.
    pub(crate) panic: Option<String>,
    calls: usize,
    lines: usize,
    /// What the host did for this call, as fuel.
    work: u64,
    /// How much of it was done since other tasks could run.
    in_a_row: u64,
}

/// What a call of an import takes, as fuel: two units are about a nanosecond.
const CALL: u64 = 500;
/// What handing over one text takes: copied here, and into the sandbox.
const TEXT: u64 = 400;
/// What comparing two questions takes.
const COMPARISON: u64 = 50;
/// What writing one line of the log takes.
const LINE: u64 = 20_000;

impl Call {
    pub(crate) fn of_policy(workload: Option<Workload>) -> Call {
        Call {
            name: "policy".to_owned(),
            workload,
            told: None,
            values: None,
            limits: StoreLimits::default(),
            open: None,
            panic: None,
            calls: 0,
            lines: 0,
            work: 0,
            in_a_row: 0,
        }
    }

    /// `labels` and `env`: whether the extension is granted them.
    pub(crate) fn of_extension(name: String, container: Proven, labels: bool, env: bool) -> Call {
        let mut call = Call::of_policy(None);
        call.name = format!("extension {name}");
        call.told = Some((container, labels, env));
        call
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

    /// Counts the host's work for this call: what a component causes is its own cost.
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

    /// What the policy is told, or the trap that gets out of the sandbox to fetch it.
    async fn ask(&mut self, import: Import) -> Result<Option<Told>> {
        self.begin().await?;
        // The question is compared with each that was asked before.
        let asked = self.workload.as_ref().map_or(0, |workload| workload.asked().len());
        self.charge(COMPARISON * asked as u64)?;
        let Some(workload) = &mut self.workload else { return Ok(None) };
        match workload.ask(&import) {
            Some(told) => Ok(Some(told.clone())),
            None => {
                self.open = Some(import);
                Err(wasmtime::format_err!("the answer is fetched outside the sandbox"))
            }
        }
    }
}

/// The lines of /proc/PID/cgroup in the contract's form.
fn cgroups(text: &[u8]) -> std::result::Result<Vec<Cgroup>, ContainersError> {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let lines = parse_cgroup(text)?.into_iter().map(|line| Cgroup {
        hierarchy: lossy(line.hierarchy),
        controllers: lossy(line.controllers),
        path: lossy(line.path),
    });
    Ok(lines.collect())
}

/// Only a proven container has the contract's form.
impl From<&Proven> for ProvenContainer {
    fn from(proven: &Proven) -> ProvenContainer {
        let Container { id, labels, env, image, image_id, image_manifest_digest } = proven.container().clone();
        ProvenContainer { id, labels, env, image, image_id, image_manifest_digest }
    }
}

fn no_workload<T>() -> Result<Result<T, Fault>> {
    Ok(Err(Fault::NotConfigured("there is no workload while settings are validated".to_owned())))
}

impl process::Host for Call {
    async fn cgroups(&mut self) -> Result<Result<Vec<Cgroup>, Fault>> {
        match self.ask(Import::Cgroups).await? {
            Some(Told::Cgroups(told)) => {
                let cgroups = told.and_then(|text| Ok(cgroups(&text)?));
                let lines = cgroups.as_deref().unwrap_or_default();
                let bytes = lines.iter().map(|line| line.hierarchy.len() + line.controllers.len() + line.path.len());
                self.hand_over(3 * lines.len(), bytes.sum())?;
                Ok(cgroups)
            }
            _ => no_workload(),
        }
    }

    async fn cgroup_mounts(&mut self) -> Result<Result<Vec<CgroupMount>, Fault>> {
        match self.ask(Import::CgroupMounts).await? {
            Some(Told::CgroupMounts(told)) => {
                let mounts = told.as_deref().unwrap_or_default();
                let bytes = mounts.iter().map(|mount| mount.root.len() + mount.fs_type.len());
                self.hand_over(2 * mounts.len(), bytes.sum())?;
                let mount = |mount: &parsed::CgroupMount| CgroupMount {
                    root: mount.root.clone(),
                    fs_type: mount.fs_type.clone(),
                };
                Ok(told.map(|mounts| mounts.iter().map(mount).collect()))
            }
            _ => no_workload(),
        }
    }
}

impl job_objects::Host for Call {
    async fn names(&mut self) -> Result<Result<Vec<String>, Fault>> {
        match self.ask(Import::JobObjectNames).await? {
            Some(Told::JobObjectNames(told)) => {
                let names = told.as_deref().unwrap_or_default();
                self.hand_over(names.len(), names.iter().map(String::len).sum())?;
                Ok(told)
            }
            _ => no_workload(),
        }
    }
}

impl docker::Host for Call {
    async fn container(&mut self, engine: Engine, id: String) -> Result<Result<Option<ProvenContainer>, Fault>> {
        self.charge(id.len() as u64)?;
        wasmtime::ensure!(
            id.len() <= limits::CLAIM,
            "it claims a container id of {} bytes: a cgroup's name has {} at most",
            id.len(),
            limits::CLAIM
        );
        match self.ask(Import::Container(engine, id)).await? {
            Some(Told::Container(Ok(Some(proven)))) => {
                let Container { labels, env, .. } = proven.container();
                let bytes = labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
                    + env.iter().map(String::len).sum::<usize>();
                self.hand_over(2 * labels.len() + env.len(), bytes)?;
                let container = ProvenContainer::from(&proven);
                self.told.get_or_insert((proven, true, true));
                Ok(Ok(Some(container)))
            }
            Some(Told::Container(Ok(None))) => Ok(Ok(None)),
            Some(Told::Container(Err(fault))) => Ok(Err(fault)),
            _ => no_workload(),
        }
    }
}

impl sigstore::Host for Call {
    async fn verify(&mut self) -> Result<Result<Verdict, Fault>> {
        match self.ask(Import::Verify).await? {
            Some(Told::Verify(told)) => {
                let verdict = told.map(|judged| judged.verdict());
                let signatures = match &verdict {
                    Ok(Verdict::Verified(verified)) => &verified.signatures[..],
                    _ => &[],
                };
                let bytes = signatures.iter().flat_map(texts_of).flatten().map(String::len).sum();
                self.hand_over(5 * signatures.len(), bytes)?;
                Ok(verdict)
            }
            _ => no_workload(),
        }
    }
}

impl types::Host for Call {}

impl log::Host for Call {
    async fn write(&mut self, level: Level, message: String) -> Result<()> {
        self.begin().await?;
        self.charge(message.len() as u64)?;
        self.lines += 1;
        if self.lines > limits::GUEST_LOG_LINES {
            return Ok(());
        }
        let line = cut(&message, limits::GUEST_LOG_LINE);
        let (text, cost) = self.values().redact(line, line.len() < message.len());
        self.charge(LINE + cost)?;
        let text = printable(&text);
        let name = &self.name;
        match level {
            Level::Debug => tracing::debug!(line = %text, "{name}"),
            Level::Info => tracing::info!(line = %text, "{name}"),
            Level::Warn => tracing::warn!(line = %text, "{name}"),
            Level::Error => {
                tracing::error!(line = %text, "{name}");
                self.panic = Some(text);
            }
        }
        Ok(())
    }
}

/// The texts of a signature.
fn texts_of(signature: &Signature) -> [&Option<String>; 5] {
    let Signature { subject, issuer, value, log_id, signed_entry_timestamp, .. } = signature;
    [subject, issuer, value, log_id, signed_entry_timestamp]
}

impl Call {
    /// The values that the host handed over: they must not reach a log through a component.
    fn values(&mut self) -> &Values {
        if self.values.is_none() {
            let values = match &self.told {
                Some((proven, labels, env)) => Values::of(proven.container(), *labels, *env),
                None => return const { &Values::NONE },
            };
            // The next charge fails the call if this was too much.
            self.count(values.cost());
            self.values = Some(values);
        }
        self.values.as_ref().unwrap_or(const { &Values::NONE })
    }

    /// An error text of the component without the values that the host handed over.
    pub(crate) fn without_values(&mut self, text: &str) -> String {
        self.values().redact(text, false).0
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.lines > limits::GUEST_LOG_LINES {
            let dropped = self.lines - limits::GUEST_LOG_LINES;
            tracing::warn!(dropped = %dropped, "{} logged more lines than a call may", self.name);
        }
    }
}
