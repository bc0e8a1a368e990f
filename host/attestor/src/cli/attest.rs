//! The command `docker-attestor attest`: one process, or with `--all` every container of the node.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use bounded::text::printable;
use containers::ContainerId;
use containers::engine::{Engine, ListedContainer};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config::ConfigFile;
use super::style::Style;
use super::suggestion::Suggestion;
use super::{
    Attested, Failure, Output, PLACEHOLDER, attestor_of, configured, engine_failure, other_container, waiting,
};
use crate::attestor::Attestor;
use crate::error::code_name;
use crate::machine::Machine;
use crate::workload::Question;

pub(super) fn run(attested: Attested, output: Output, out: &mut impl Write, style: Style) -> Result<ExitCode, Failure> {
    let unreachable = attested.explanation.is_engine_unreachable();
    let selectors = attested.explanation.outcome.map_err(|error| match unreachable {
        true => Failure::Unreachable(error),
        false => Failure::Attestation(error),
    })?;
    if output == Output::Json {
        let mut answer =
            json!({"pid": attested.pid, "selectors": selectors, "policy": attested.explanation.policy.digest});
        if let (Some(path), Some(answer)) = (attested.recorded, answer.as_object_mut()) {
            answer.insert("recorded".to_owned(), json!(path.to_string_lossy()));
        }
        writeln!(out, "{answer}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}", style.dim(&printable(&attested.subject)))?;
    if selectors.is_empty() {
        writeln!(
            out,
            "no selectors: in no container that the engine knows and that is proven; `docker-attestor explain` tells why"
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    for selector in &selectors {
        writeln!(out, "{}", style.good(&printable(&format!("docker:{selector}"))))?;
    }
    let (trust_domain, placeholders) = match attested.trust_domain.as_deref() {
        Some(trust_domain) => (trust_domain, "PARENT and WORKLOAD are placeholders"),
        None => (PLACEHOLDER, "example.org, PARENT and WORKLOAD are placeholders"),
    };
    let Some(Suggestion { entry, changing }) = Suggestion::of(trust_domain, &selectors) else {
        let why = "no entry is suggested: it has no label and no image, and env values may be secrets";
        writeln!(out, "\n{}", style.dim(why))?;
        return Ok(ExitCode::SUCCESS);
    };
    let caption = format!("an entry that matches it (choose the selectors that say what you mean; {placeholders}):");
    writeln!(out, "\n{}\n{}", style.dim(&caption), style.bold(&entry))?;
    if !changing.is_empty() {
        let text = format!("these change with a deployment: {}", changing.join(", "));
        writeln!(out, "{}", style.dim(&printable(&text)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One line of `attest --all`: a container, and what the attestation of its init process came to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ContainerLine {
    /// The container's id.
    pub(super) id: String,
    /// Its name. Empty if the engine does not say.
    pub(super) name: String,
    /// The image as the container's creator named it.
    pub(super) image: String,
    /// The init process that was attested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<i32>,
    /// The selectors, without the `docker:` prefix. There is at least one, unless there is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) selectors: Option<Vec<String>>,
    /// Why there are no selectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl fmt::Display for ContainerLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&super::container::title(&self.id, &self.name))
    }
}

/// Attests the init process of every running container, and prints a line for each.
///
/// # Errors
/// The configuration is refused, or the engine does not list its containers. A container that cannot be attested is a line.
pub(super) async fn all(
    machine: Arc<dyn Machine>,
    mut config: Option<ConfigFile>,
    out: &mut impl Write,
) -> Result<ExitCode, Failure> {
    let configuration = configured(&mut config)?;
    let engine = machine.engine(&configuration, Arc::new(|_| {}));
    let attestor = attestor_of(machine)?;
    super::configure(&attestor, configuration, config).await?;
    let mut code = ExitCode::SUCCESS;
    for listed in engine.list(false).await.map_err(engine_failure)? {
        let line = container_line(&attestor, &*engine, listed).await;
        if line.error.is_some() {
            code = ExitCode::FAILURE;
        }
        let text = serde_json::to_string(&line).map_err(|error| Failure::Usage(error.to_string()))?;
        writeln!(out, "{text}")?;
    }
    Ok(code)
}

async fn container_line(attestor: &Attestor, engine: &dyn Engine, listed: ListedContainer) -> ContainerLine {
    let ListedContainer { id, name, image } = listed;
    let mut line = ContainerLine { id: id.as_str().to_owned(), name, image, pid: None, selectors: None, error: None };
    match engine.inspect(&id).await {
        Err(error) => line.error = Some(error.to_string()),
        Ok(inspected) => match inspected.map(|inspected| inspected.pid).filter(|pid| *pid > 0) {
            None => line.error = Some("it does not run any more".to_owned()),
            Some(pid) => {
                line.pid = Some(pid);
                match waiting(selectors(attestor, &id, pid), || attestor.progress()).await {
                    Ok(selectors) => line.selectors = Some(selectors),
                    Err(why) => line.error = Some(why),
                }
            }
        },
    }
    line
}

/// The selectors of a container's init process, or why there are none.
async fn selectors(attestor: &Attestor, id: &ContainerId, pid: i32) -> Result<Vec<String>, String> {
    let failed = |error: crate::error::Error| format!("{error} ({})", code_name(error.code()));
    let explanation = attestor.explain(pid).await.map_err(failed)?;
    let selectors = explanation.outcome.map_err(failed)?;
    match other_container(&explanation.transcript, id) {
        Some(other) => Err(format!("process {pid} is in container {other}")),
        None if !selectors.is_empty() => Ok(selectors),
        None => {
            let mut exchanges = explanation.transcript.exchanges().iter();
            let claim = exchanges.find(|exchange| matches!(exchange.question, Question::Container(..)));
            let why = claim.map_or_else(|| "no container id was found".to_owned(), |claim| claim.note.to_string());
            Err(format!("no selectors: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use containers::engine::recorded::RecordedContainer;

    use super::*;
    use crate::cli::stage::{id, node, pid};

    #[tokio::test]
    async fn every_running_container_is_one_line_with_its_selectors_or_the_reason_for_none() {
        let labelled = |app: &str| RecordedContainer {
            labels: [("app".to_owned(), app.to_owned())].into(),
            image: "web:1".to_owned(),
            ..RecordedContainer::default()
        };
        let stopped = RecordedContainer { pid: -1, ..labelled("stopped") };
        // The engine lies about the process of this one.
        let liar = RecordedContainer { id: Some(id(9)), ..labelled("liar") };
        let machine = node(vec![labelled("one"), stopped, liar]);
        let mut out = Vec::new();
        assert_eq!(all(machine, None, &mut out).await.unwrap(), ExitCode::FAILURE);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<ContainerLine> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [one, liar] = &*lines else { panic!("{text}") };
        assert_eq!((&*one.id, &*one.name, &*one.image, one.pid), (&*id(0), "svc0", "web:1", Some(pid(0))));
        assert_eq!(one.selectors.as_deref().unwrap(), ["label:app:one", "image_id:web:1"]);
        assert!(one.error.is_none());
        assert!(liar.selectors.is_none());
        assert!(liar.error.as_deref().unwrap().contains("answered with another id"), "{text}");
    }
}
