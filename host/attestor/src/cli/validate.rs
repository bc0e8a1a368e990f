//! The command `docker-attestor validate`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use bounded::text::printable;

use super::style::Style;
use super::{Failure, attestor_of_this_machine, read_config};
use crate::config::Invalid;
use crate::config::agent_conf::FileKind;
use crate::machine::OpenMachine;

pub(super) async fn run(
    path: &Path,
    out: &mut impl Write,
    style: Style,
    open: OpenMachine,
) -> Result<ExitCode, Failure> {
    match judge(path, open).await {
        Ok((form, notes)) => {
            let path = printable(&path.display().to_string());
            writeln!(out, "{path}: {} ({form})", style.good("valid"))?;
            for note in notes {
                writeln!(out, "  {}", printable(&note))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(Failure::Configuration { path, invalid }) => {
            writeln!(out, "{}: {}", printable(&path.display().to_string()), style.bad("invalid"))?;
            for note in invalid.errors {
                writeln!(out, "  {}", printable(&note))?;
            }
            Ok(ExitCode::FAILURE)
        }
        Err(failure) => Err(failure),
    }
}

async fn judge(path: &Path, open: OpenMachine) -> Result<(&'static str, Vec<String>), Failure> {
    let (file, configuration) = read_config(path)?;
    let form = match file.kind {
        FileKind::AgentConf => "an agent.conf with the plugin WorkloadAttestor \"docker\"",
        FileKind::PluginData => "a plugin_data file",
    };
    match attestor_of_this_machine(open)?.validate(configuration).await {
        Ok(notes) => Ok((form, notes)),
        Err(error) if error.is_about_configuration() => {
            let invalid = Invalid { errors: vec![error.to_string()] };
            Err(Failure::Configuration { path: path.to_owned(), invalid })
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::ThisMachine;

    async fn validate(text: &str) -> (String, ExitCode) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut out = Vec::new();
        let code = run(file.path(), &mut out, Style::plain(), ThisMachine::open).await.unwrap();
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
            (
                "docker_version = \"1.40\"\ndocker_version = \"1.41\"",
                "\n  docker_version is written twice (line 1 and line 2): the last one counts\n",
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
    async fn an_error_in_plugin_data_file_names_that_file() {
        let data = tempfile::NamedTempFile::new().unwrap();
        let data_path = data.path().display();
        let conf =
            format!("agent {{}}\nplugins {{ WorkloadAttestor \"docker\" {{ plugin_data_file = \"{data_path}\" }} }}");
        for (text, part) in [("a = [", "unable to decode"), ("a = 1", "unknown configurations detected: a")] {
            std::fs::write(data.path(), text).unwrap();
            let (out, code) = validate(&conf).await;
            assert!(out.starts_with(&format!("{data_path}: invalid\n  {part}")), "{out}");
            assert_eq!(code, ExitCode::FAILURE);
        }
        std::fs::write(data.path(), "docker_version = \"1.41\"").unwrap();
        let (out, code) = validate(&conf).await;
        assert!(out.contains("valid (an agent.conf") && code == ExitCode::SUCCESS, "{out}");
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_no_verdict() {
        let failure = run(Path::new("/nonexistent/agent.conf"), &mut Vec::new(), Style::plain(), ThisMachine::open)
            .await
            .unwrap_err();
        assert!(failure.to_string().contains("/nonexistent/agent.conf cannot be read"));
        assert_eq!(failure.exit_code(), ExitCode::from(2));
    }
}
