//! `docker-attestor validate`

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::style::Style;
use super::{Failure, read_config};
use crate::attestor::Attestor;
use crate::config::{self, Form, Invalid};
use crate::error::{Error, printable};
use crate::telemetry::metrics::Metrics;

pub(super) async fn run(path: &Path, out: &mut impl Write, style: Style) -> Result<ExitCode, Failure> {
    let outcome = match read_config(path) {
        Ok(file) => judge(&file).await,
        Err(Failure::Attestation(Error::Configuration(note))) => Err(vec![note]),
        Err(failure) => return Err(failure),
    };
    let path = printable(&path.display().to_string());
    match outcome {
        Ok((form, notes)) => {
            writeln!(out, "{path}: {} ({form})", style.good("valid"))?;
            for note in notes {
                writeln!(out, "  {}", printable(&note))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(notes) => {
            writeln!(out, "{path}: {}", style.bad("invalid"))?;
            for note in notes {
                writeln!(out, "  {}", printable(&note))?;
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn judge(file: &config::File) -> Result<(&'static str, Vec<String>), Vec<String>> {
    let form = match file.form {
        Form::AgentConf => "an agent.conf with the plugin WorkloadAttestor \"docker\"",
        Form::PluginData => "a plugin_data file",
    };
    let configuration = file.load().map_err(|Invalid { notes }| notes)?;
    let attestor =
        Attestor::new(Metrics::disabled()).map_err(|error| vec![format!("the sandbox cannot be made: {error}")])?;
    let notes = attestor.validate(configuration).await.map_err(|error| vec![error.to_string()])?;
    Ok((form, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn validate(text: &str) -> (String, ExitCode) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut out = Vec::new();
        let code = run(file.path(), &mut out, Style::plain()).await.unwrap();
        (String::from_utf8(out).unwrap(), code)
    }

    #[tokio::test]
    async fn the_verdict_is_in_the_text_and_in_the_exit_code() {
        for (config, part, code) in [
            ("docker_version = \"1.41\"", "valid (a plugin_data file)", ExitCode::SUCCESS),
            (
                "agent {}\nplugins { WorkloadAttestor \"docker\" { plugin_data {} } }",
                "valid (an agent.conf",
                ExitCode::SUCCESS,
            ),
            ("a = 1\nb = 2", "unknown configurations detected: a,b", ExitCode::FAILURE),
            ("a = ", "valid", ExitCode::SUCCESS),
            ("a = [", "invalid", ExitCode::FAILURE),
            (
                "use_new_container_locator = false\ncontainer_id_cgroup_matchers = [\"/a/<id>\", \"/*/<id>\"]",
                "\"/*/<id>\", \"/a/<id>\"",
                ExitCode::FAILURE,
            ),
        ] {
            let (out, got) = validate(config).await;
            assert!(out.contains(part) && got == code, "{config}: {out}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_no_verdict() {
        let failure = run(Path::new("/nonexistent/agent.conf"), &mut Vec::new(), Style::plain()).await.unwrap_err();
        assert!(failure.to_string().contains("/nonexistent/agent.conf cannot be read"));
    }
}
