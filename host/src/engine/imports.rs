//! The policy's imports: every one becomes a question to [`Workload::ask`], but `log.write`.

use wasmtime::{Result, StoreLimits};

use crate::bindings::docker_attestor::policy::docker::Engine;
use crate::bindings::docker_attestor::policy::log::Level;
use crate::bindings::docker_attestor::policy::process::{Cgroup, CgroupMount};
use crate::bindings::docker_attestor::policy::sigstore::Verdict;
use crate::bindings::docker_attestor::policy::types::Fault;
use crate::bindings::docker_attestor::policy::{docker, job_objects, log, process, sigstore, types};
use crate::capability::docker::Container;
use crate::capability::docker::proof::Proven;
use crate::capability::process::cgroups;
use crate::capability::{Import, Told, Workload};
use crate::error::{cut, printable};
use crate::limits;

/// The state of one call.
pub(super) struct Call {
    /// Who logs: "policy", or an extension.
    name: String,
    /// None while settings are validated, and for extensions: there is no workload then.
    pub(super) workload: Option<Workload>,
    /// What an extension may have been told of.
    container: Option<Container>,
    pub(super) limits: StoreLimits,
    /// The question that takes a fetch before the call can go on.
    pub(super) open: Option<Import>,
    /// The component's last error line: its panic hook writes there.
    pub(super) panic: Option<String>,
    calls: usize,
    lines: usize,
}

impl Call {
    pub(super) fn of_policy(workload: Option<Workload>) -> Call {
        Call {
            name: "policy".to_owned(),
            workload,
            container: None,
            limits: StoreLimits::default(),
            open: None,
            panic: None,
            calls: 0,
            lines: 0,
        }
    }

    pub(super) fn of_extension(name: String, container: Container) -> Call {
        let mut call = Call::of_policy(None);
        call.name = format!("extension {name}");
        call.container = Some(container);
        call
    }

    fn count(&mut self) -> Result<()> {
        self.calls += 1;
        wasmtime::ensure!(
            self.calls <= limits::GUEST_CALLS,
            "it called the host more than {} times",
            limits::GUEST_CALLS
        );
        Ok(())
    }

    /// What the policy is told, or the trap that gets out of the sandbox to fetch it.
    fn ask(&mut self, import: Import) -> Result<Option<Told>> {
        self.count()?;
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

fn no_workload<T>() -> Result<Result<T, Fault>> {
    Ok(Err(Fault::NotConfigured("there is no workload while settings are validated".to_owned())))
}

impl process::Host for Call {
    fn cgroups(&mut self) -> Result<Result<Vec<Cgroup>, Fault>> {
        match self.ask(Import::Cgroups)? {
            Some(Told::Cgroups(told)) => Ok(told.and_then(|text| cgroups(&text))),
            _ => no_workload(),
        }
    }

    fn cgroup_mounts(&mut self) -> Result<Result<Vec<CgroupMount>, Fault>> {
        match self.ask(Import::CgroupMounts)? {
            Some(Told::CgroupMounts(told)) => Ok(told),
            _ => no_workload(),
        }
    }
}

impl job_objects::Host for Call {
    fn names(&mut self) -> Result<Result<Vec<String>, Fault>> {
        match self.ask(Import::JobObjectNames)? {
            Some(Told::JobObjectNames(told)) => Ok(told),
            _ => no_workload(),
        }
    }
}

impl docker::Host for Call {
    fn container(&mut self, engine: Engine, id: String) -> Result<Result<Option<Container>, Fault>> {
        match self.ask(Import::Container(engine, id))? {
            Some(Told::Container(told)) => Ok(told.map(|proven| proven.map(|proven| proven.container().clone()))),
            _ => no_workload(),
        }
    }
}

impl sigstore::Host for Call {
    fn verify(&mut self) -> Result<Result<Verdict, Fault>> {
        match self.ask(Import::Verify)? {
            Some(Told::Verify(told)) => Ok(told.map(|judged| judged.verdict())),
            _ => no_workload(),
        }
    }
}

impl types::Host for Call {}

impl log::Host for Call {
    fn write(&mut self, level: Level, message: String) -> Result<()> {
        self.count()?;
        self.lines += 1;
        if self.lines > limits::GUEST_LOG_LINES {
            return Ok(());
        }
        // Values are taken out of far more than is logged, so that none is cut in two and stays.
        let message = self.without_values(cut(&message, 64 * limits::GUEST_LOG_LINE));
        let text = printable(cut(&message, limits::GUEST_LOG_LINE));
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

impl Call {
    /// The message without the values that the host handed over.
    pub(super) fn without_values(&self, message: &str) -> String {
        let proven = self.workload.as_ref().and_then(Workload::container).map(Proven::container);
        match proven.or(self.container.as_ref()) {
            Some(container) => without_values(message, container),
            None => message.to_owned(),
        }
    }
}

/// The message without values of env and labels: they must not reach a log through a component.
pub(super) fn without_values(message: &str, container: &Container) -> String {
    let env = container.env.iter().map(|env| env.split_once('=').map_or(env.as_str(), |(_, value)| value));
    let labels = container.labels.iter().map(|(_, value)| value.as_str());
    let mut values: Vec<&str> = env.chain(labels).filter(|value| value.len() >= 3 && message.contains(value)).collect();
    // One may be the beginning of another, whose rest would stay.
    values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
    values.into_iter().fold(message.to_owned(), |message, value| message.replace(value, "…"))
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.lines > limits::GUEST_LOG_LINES {
            let dropped = self.lines - limits::GUEST_LOG_LINES;
            tracing::warn!(dropped = %dropped, "{} logged more lines than a call may", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_value_stays() {
        let container = Container {
            id: String::new(),
            labels: vec![("user".to_owned(), "ann".to_owned()), ("short".to_owned(), "ab".to_owned())],
            env: vec!["A=anna".to_owned(), "B=annabelle".to_owned(), "no-value".to_owned(), "C=".to_owned()],
            image: String::new(),
            image_id: None,
            image_manifest_digest: None,
        };
        let told = "annabelle, anna and ann: A=anna, no-value, ab";
        assert_eq!(without_values(told, &container), "…, … and …: A=…, …, ab");
    }
}
