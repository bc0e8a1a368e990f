//! `docker-attestor policy status`

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::super::style::Style;
use super::super::{Failure, Output};
use crate::error::printable;
use crate::plugin::status::{Found, ask, find};
use crate::status::Status;

pub(super) fn run(
    socket: Option<&Path>,
    output: Output,
    out: &mut impl Write,
    style: Style,
) -> Result<ExitCode, Failure> {
    let found = match socket {
        Some(path) => vec![Found { path: path.to_owned(), owner: rustix::process::geteuid().as_raw() }],
        None => find(),
    };
    let mut answers = Vec::new();
    for Found { path, owner } in found {
        match ask(&path) {
            Ok(status) => answers.push((path, owner, status)),
            // What a killed plugin left; the next plugin cleans it up.
            Err(_) if socket.is_none() => {}
            Err(error) => return Err(Failure::Usage(format!("{}: {error}", path.display()))),
        }
    }
    if output == Output::Json {
        let all: Vec<&Status> = answers.iter().map(|(_, _, status)| status).collect();
        writeln!(out, "{}", serde_json::to_string(&all).map_err(|error| Failure::Usage(error.to_string()))?)?;
    }
    if answers.is_empty() {
        let me = rustix::process::geteuid().as_raw();
        return Err(Failure::Usage(format!(
            "no plugin runs that user {me} may ask: run this as the agent's user, or as root; another directory: --socket"
        )));
    }
    if output == Output::Text {
        for (path, owner, status) in &answers {
            text(path, *owner, status, out, style)?;
        }
    }
    let failed = answers.iter().flat_map(|(_, _, status)| &status.components).any(|component| component.failing);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(path: &Path, owner: u32, status: &Status, out: &mut impl Write, style: Style) -> std::io::Result<()> {
    let Status { program, pid, agent, configured, components } = status;
    let title = format!("docker-attestor {program}, process {pid} of agent {agent}, user {owner}");
    writeln!(out, "{}", style.bold(&printable(&title)))?;
    writeln!(out, "{}", style.dim(&printable(&path.display().to_string())))?;
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
