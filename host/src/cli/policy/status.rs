//! `docker-attestor policy status`

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use tokio::task::JoinSet;

use super::super::style::Style;
use super::super::{Failure, Output};
use crate::error::printable;
use crate::plugin::status::{Found, ask, find};
use crate::status::Status;

/// What one plugin says, and whose it is: another user's may say anything.
#[derive(Serialize)]
struct Answer {
    socket: PathBuf,
    owner: u32,
    #[serde(flatten)]
    status: Status,
}

pub(super) async fn run(
    socket: Option<&Path>,
    output: Output,
    out: &mut impl Write,
    style: Style,
) -> Result<ExitCode, Failure> {
    let me = rustix::process::geteuid().as_raw();
    let found = match socket {
        Some(path) => vec![Found { path: path.to_owned(), owner: me }],
        None => find(),
    };
    let mut asking: JoinSet<_> =
        found.into_iter().map(|Found { path, owner }| async move { (ask(&path).await, path, owner) }).collect();
    let (mut answers, mut silent) = (Vec::new(), Vec::new());
    while let Some(asked) = asking.join_next().await {
        match asked {
            Ok((Ok(status), socket, owner)) => answers.push(Answer { socket, owner, status }),
            // What a killed plugin left; the next plugin cleans it up.
            Ok((Err(error), ..))
                if socket.is_none() && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
            Ok((Err(error), path, owner)) => silent.push(format!("{} of user {owner}: {error}", path.display())),
            Err(error) => silent.push(error.to_string()),
        }
    }
    answers.sort_by(|one, other| one.socket.cmp(&other.socket));
    match output {
        Output::Json => {
            writeln!(out, "{}", serde_json::to_string(&answers).map_err(|error| Failure::Usage(error.to_string()))?)?;
        }
        Output::Text => answers.iter().try_for_each(|answer| text(answer, out, style))?,
    }
    if !silent.is_empty() {
        return Err(Failure::Usage(silent.join("\n")));
    }
    if answers.is_empty() {
        return Err(Failure::Usage(format!(
            "no plugin runs that user {me} may ask: run this as the agent's user, or as root; another directory: --socket"
        )));
    }
    let failed = answers.iter().flat_map(|answer| &answer.status.components).any(|component| component.failing);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(answer: &Answer, out: &mut impl Write, style: Style) -> std::io::Result<()> {
    let Answer { socket, owner, status: Status { program, pid, agent, configured, components } } = answer;
    let title = format!("docker-attestor {program}, process {pid} of agent {agent}, user {owner}");
    writeln!(out, "{}", style.bold(&printable(&title)))?;
    writeln!(out, "{}", style.dim(&printable(&socket.display().to_string())))?;
    if !configured {
        writeln!(out, "  not configured")?;
    }
    for component in components {
        let version = component.version.as_deref().unwrap_or("none");
        writeln!(out, "  {}", style.bold(&printable(&component.name)))?;
        writeln!(out, "    source   {}", printable(&component.source))?;
        writeln!(out, "    digest   {}", printable(&component.digest))?;
        writeln!(out, "    version  {}", printable(version))?;
        writeln!(out, "    since    {}, replaced {} times", component.since, component.replaced)?;
        if let Some(failure) = &component.last_failure {
            let text = format!("{} at step {}: {}", failure.at, failure.step, failure.reason);
            // One that came before what runs now is history.
            let text = if component.failing { style.bad(&printable(&text)) } else { printable(&text) };
            writeln!(out, "    failure  {text}")?;
        }
    }
    Ok(())
}
