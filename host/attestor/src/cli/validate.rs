//! The command `docker-attestor validate`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use bounded::text::printable;

use serde_json::json;

use super::config::ConfigFile;
use super::diagnostics::Source;
use super::style::Style;
use super::{Failure, Output, attestor_of_this_machine, program};
use crate::machine::OpenMachine;

pub(super) async fn run(
    path: &Path,
    plugin: Option<&str>,
    output: Output,
    out: &mut impl Write,
    style: Style,
    open: OpenMachine,
) -> Result<ExitCode, Failure> {
    let mut file = ConfigFile::read(path, plugin)?;
    if let (Some(plugin), Some(source)) = (&file.plugin, file.sources.first_mut()) {
        program::check(plugin, source);
    }
    let mut notes = Vec::new();
    if let Some(configuration) = file.configuration.take() {
        match attestor_of_this_machine(open)?.validate(configuration).await {
            Ok(more) => notes = more,
            Err(error) if error.is_about_configuration() => file.refuse(&error),
            Err(error) => return Err(error.into()),
        }
    }
    let valid = file.errors() == 0;
    let code = if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if output == Output::Json {
        let problems: Vec<serde_json::Value> = file.sources.iter().flat_map(Source::to_json).collect();
        let answer = json!({"file": file.name(), "valid": valid, "problems": problems, "notes": notes});
        writeln!(out, "{answer}")?;
        return Ok(code);
    }
    let warnings: usize = file.sources.iter().map(|source| source.warnings.len()).sum();
    let findings = [counted(file.errors(), "error"), counted(warnings, "warning")].into_iter().flatten();
    let findings = findings.collect::<Vec<_>>().join(", ");
    let name = printable(file.name());
    match valid {
        false => writeln!(out, "{name}: {}: {findings}", style.bad("invalid"))?,
        true => {
            let form = match &file.plugin {
                Some(plugin) => format!("an agent.conf with the plugin WorkloadAttestor {:?}", plugin.name),
                None => "a plugin_data file".to_owned(),
            };
            let findings = if findings.is_empty() { findings } else { format!(": {findings}") };
            writeln!(out, "{name}: {} ({}){findings}", style.good("valid"), printable(&form))?;
        }
    }
    file.sources.iter().try_for_each(|source| source.print(out, style))?;
    if valid {
        notes.iter().try_for_each(|note| writeln!(out, "  {}", printable(note)))?;
    }
    Ok(code)
}

/// The number and what is counted, or `None` for zero.
fn counted(number: usize, what: &str) -> Option<String> {
    match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        number => Some(format!("{number} {what}s")),
    }
}

#[cfg(test)]
mod tests {
    use sandbox::inspect::digest;

    use super::*;
    use crate::machine::ThisMachine;

    async fn run_on(path: &Path, plugin: Option<&str>) -> (String, ExitCode) {
        let mut out = Vec::new();
        let code = run(path, plugin, Output::Text, &mut out, Style::plain(), ThisMachine::open).await.unwrap();
        (String::from_utf8(out).unwrap(), code)
    }

    /// What is printed about a text after the file's name, in which FILE stands for the name.
    async fn validate(text: impl AsRef<[u8]>) -> (String, ExitCode) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let (out, code) = run_on(file.path(), None).await;
        (out.replace(&file.path().display().to_string(), "FILE"), code)
    }

    fn this_program() -> String {
        std::env::current_exe().unwrap().display().to_string()
    }

    fn checksum_of(path: &str) -> String {
        digest(&std::fs::read(path).unwrap()).trim_start_matches("sha256:").to_owned()
    }

    /// An agent.conf whose plugin is this program, and has these keys too.
    fn agent_conf(keys: &str) -> String {
        let (program, checksum) = (this_program(), checksum_of(&this_program()));
        agent_conf_without_program(&format!("plugin_cmd = {program:?}\nplugin_checksum = {checksum:?}\n{keys}"))
    }

    fn agent_conf_without_program(keys: &str) -> String {
        format!("agent {{}}\nplugins {{ WorkloadAttestor \"docker\" {{\n{keys}\n}} }}")
    }

    #[tokio::test]
    async fn the_verdict_is_in_the_text_and_in_the_exit_code() {
        for (config, part, code) in [
            ("docker_version = \"1.41\"", "FILE: valid (a plugin_data file)\n", ExitCode::SUCCESS),
            (
                &agent_conf("plugin_data {}"),
                "FILE: valid (an agent.conf with the plugin WorkloadAttestor \"docker\")\n",
                ExitCode::SUCCESS,
            ),
            (
                "docker_version = \"1.40\"\ndocker_version = \"1.41\"",
                "FILE:2:18: warning: docker_version is written twice (line 1 and line 2): the last one counts\n",
                ExitCode::SUCCESS,
            ),
            ("a = 1\nb = 2", "FILE:2:1: error: unknown key b\n", ExitCode::FAILURE),
            ("a = ", "FILE: valid", ExitCode::SUCCESS),
            ("a = [", "FILE: invalid: 1 error\n", ExitCode::FAILURE),
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
    async fn everything_wrong_is_shown_at_once_as_a_compiler_does() {
        let text = "docker_version = 1.41\nuse_new_container_locator = \"yes\"\n\
                    sigstore {\n  rekor_ur = \"https://r\"\n  on_failure = \"allow\"\n}\n\
                    extension \"a\" { path = \"/p\" unpinned = true grants = [\"label\"] }";
        let (out, code) = validate(text).await;
        assert_eq!(code, ExitCode::FAILURE);
        let expected = "\
FILE: invalid: 5 errors
FILE:1:18: error: docker_version: expected a string
    1 | docker_version = 1.41
      |                  ^^^^
FILE:2:29: error: use_new_container_locator: expected true or false, without quotes
    2 | use_new_container_locator = \"yes\"
      |                             ^^^^^
FILE:4:3: error: unknown key sigstore.rekor_ur
    4 |   rekor_ur = …
      |   ^^^^^^^^
      = help: did you mean rekor_url?
FILE:5:16: error: sigstore.on_failure: \"allow\" is neither \"deny\" nor \"omit\"
    5 |   on_failure = \"allow\"
      |                ^^^^^^^
FILE:7:55: error: extension \"a\".grants: \"label\" is none: write some of \"labels\", \"env\", \"image\", \"process\"
    7 | extension \"a\" { path = \"/p\" unpinned = true grants = [\"label\"] }
      |                                                       ^^^^^^^
      = help: did you mean \"labels\"?
";
        assert_eq!(out, expected);
    }

    #[tokio::test]
    async fn what_would_stop_the_agent_or_start_another_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        std::fs::copy("/bin/sh", &other).unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "docker-attestor:policy@1.0.0").unwrap();
        let (program, other, plain) = (this_program(), other.display().to_string(), plain.display().to_string());
        let folder = folder.path().display().to_string();
        let none = "0".repeat(64);
        for (config, part) in [
            (
                agent_conf_without_program("plugin_data {}"),
                "FILE:2:28: error: plugin_cmd is missing: the agent runs its built-in attestor docker".to_owned(),
            ),
            (agent_conf_without_program("plugin_cmd = \"\""), "FILE:3:14: error: plugin_cmd is missing".to_owned()),
            (
                agent_conf_without_program("plugin_cmd = \"/nonexistent/x\""),
                "FILE:3:14: error: plugin_cmd: \"/nonexistent/x\": no such file: the agent cannot".to_owned(),
            ),
            (
                agent_conf_without_program(&format!("plugin_cmd = {folder:?}")),
                format!("plugin_cmd: {folder:?}: not a regular file"),
            ),
            (
                agent_conf_without_program(&format!("plugin_cmd = {other:?}")),
                format!("FILE:3:14: error: plugin_cmd: {other:?} is another program, and not docker-attestor"),
            ),
            (
                agent_conf_without_program(&format!("plugin_cmd = {plain:?}")),
                format!("plugin_cmd: {plain:?} is not executable"),
            ),
            (
                agent_conf_without_program(&format!("plugin_cmd = {program:?}\nplugin_checksum = {none:?}")),
                format!("= help: plugin_checksum = {:?}", checksum_of(&program)),
            ),
            (
                agent_conf_without_program(&format!("plugin_cmd = {program:?}\nplugin_checksum = {none:?}")),
                format!("FILE:4:19: error: plugin_checksum is not that of {program:?}"),
            ),
            (
                agent_conf_without_program(&format!("plugin_cmd = {program:?}\nplugin_checksum = \"abc\"")),
                "plugin_checksum is no SHA-256".to_owned(),
            ),
            (agent_conf("plugin_data {}\nplugin_data_file = \"/x\""), "the agent does not start with both".to_owned()),
            (
                agent_conf("plugin_data_file = \"/nonexistent/x\""),
                "FILE:5:20: error: plugin_data_file: \"/nonexistent/x\": no such file".to_owned(),
            ),
            (agent_conf("plugin_chekcsum = \"x\""), "did you mean plugin_checksum?".to_owned()),
            (agent_conf("plugin_cmd = \"/x\""), "plugin_cmd is written twice (line 3 and line 5)".to_owned()),
            (agent_conf("plugin_data { polcy {} }"), "FILE:5:15: error: unknown key polcy".to_owned()),
        ] {
            let (out, code) = validate(&config).await;
            assert!(out.contains(&part) && code == ExitCode::FAILURE, "{config}: {part}: {out}");
        }
    }

    #[tokio::test]
    async fn a_checksum_in_capitals_counts_and_a_missing_one_is_warned_of() {
        let (program, checksum) = (this_program(), checksum_of(&this_program()).to_uppercase());
        let config = agent_conf_without_program(&format!("plugin_cmd = {program:?}\nplugin_checksum = {checksum:?}"));
        let (out, code) = validate(&config).await;
        assert!(out.starts_with("FILE: valid (an agent.conf") && !out.contains("warning"), "{out}");
        assert_eq!(code, ExitCode::SUCCESS);
        let (out, code) = validate(&agent_conf_without_program(&format!("plugin_cmd = {program:?}"))).await;
        assert!(out.contains("warning: plugin_checksum is missing: the agent starts whatever file is there"), "{out}");
        assert_eq!(code, ExitCode::SUCCESS);
    }

    #[tokio::test]
    async fn another_build_of_this_program_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let build = folder.path().join("docker-attestor");
        std::fs::copy(this_program(), &build).unwrap();
        let bytes = [std::fs::read(&build).unwrap(), vec![0]].concat();
        std::fs::write(&build, bytes).unwrap();
        let path = build.display().to_string();
        let checksum = checksum_of(&path);
        let keys = format!("plugin_cmd = {path:?}\nplugin_checksum = {checksum:?}");
        let (out, code) = validate(agent_conf_without_program(&keys)).await;
        assert!(out.contains("is another build of docker-attestor") && out.contains("1 warning\n"), "{out}");
        assert_eq!(code, ExitCode::SUCCESS);
    }

    #[tokio::test]
    async fn a_plugin_of_another_name_is_found_by_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let shadow = agent_conf("plugin_data {}").replace("\"docker\"", "\"docker_shadow\"");
        std::fs::write(file.path(), &shadow).unwrap();
        let (out, code) = run_on(file.path(), Some("docker_shadow")).await;
        assert!(out.contains("valid (an agent.conf with the plugin WorkloadAttestor \"docker_shadow\")"), "{out}");
        assert_eq!(code, ExitCode::SUCCESS);
        let (out, code) = run_on(file.path(), None).await;
        assert!(
            out.contains("no plugin WorkloadAttestor \"docker\"")
                && out.contains("\"docker_shadow\": name one with --plugin"),
            "{out}"
        );
        assert_eq!(code, ExitCode::FAILURE);
        std::fs::write(file.path(), "plugins { WorkloadAttestor \"docker_shadow\" {} }").unwrap();
        let (out, _) = run_on(file.path(), Some("docker_shadow")).await;
        assert!(out.contains("no built-in attestor docker_shadow, and does not start"), "{out}");
        std::fs::write(file.path(), "docker_version = \"1.41\"").unwrap();
        let failure = run(file.path(), Some("x"), Output::Text, &mut Vec::new(), Style::plain(), ThisMachine::open)
            .await
            .unwrap_err();
        assert!(failure.to_string().contains("leave --plugin out") && failure.exit_code() == ExitCode::from(2));
    }

    #[tokio::test]
    async fn an_error_in_plugin_data_file_names_that_file() {
        let data = tempfile::NamedTempFile::new().unwrap();
        let data_path = data.path().display().to_string();
        let conf = agent_conf(&format!("plugin_data_file = {data_path:?}\nplugin_cdm = 1"));
        for (text, part) in [
            ("a = [", ":1:6: error: expected a value, got the end"),
            ("a = 1", ":1:1: error: unknown key a"),
            ("plugins {}", ": error: this is an agent.conf"),
        ] {
            std::fs::write(data.path(), text).unwrap();
            let (out, code) = validate(&conf).await;
            assert!(out.contains("FILE:6:1: error: unknown key plugin_cdm"), "{out}");
            assert!(out.contains(&format!("{data_path}{part}")), "{part}: {out}");
            assert_eq!(code, ExitCode::FAILURE);
        }
        std::fs::write(data.path(), "docker_version = \"1.41\"").unwrap();
        let (out, code) = validate(conf.replace("plugin_cdm = 1", "")).await;
        assert!(out.contains("valid (an agent.conf") && code == ExitCode::SUCCESS, "{out}");
    }

    #[tokio::test]
    async fn a_component_that_cannot_be_loaded_is_shown_where_it_is_named() {
        let (out, code) = validate("extension \"x\" {\n  path = \"/nonexistent/x\"\n  unpinned = true\n}").await;
        assert!(out.contains("FILE:2:10: error: extension x: /nonexistent/x: read: no such file"), "{out}");
        assert_eq!(code, ExitCode::FAILURE);
    }

    #[tokio::test]
    async fn what_is_no_text_is_refused_where_it_ceases_to_be_one() {
        let (out, code) = validate(b"a = 1\nb = \"\xff\xfe\"").await;
        assert!(out.contains("FILE:2:6: error: the text is not UTF-8 from here on\n"), "{out}");
        assert_eq!(code, ExitCode::FAILURE);
        let garbage: Vec<u8> =
            (0..100_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let (out, code) = validate(&garbage).await;
        assert!(out.starts_with("FILE: invalid: 1 error\n") && out.len() < 2_000, "{out}");
        assert_eq!(code, ExitCode::FAILURE);
    }

    #[tokio::test]
    async fn errors_beyond_what_a_person_reads_are_counted() {
        let keys: String = (0..9_000).map(|number| format!("k{number} = 1\n")).collect();
        let (out, _) = validate(keys).await;
        assert!(out.starts_with("FILE: invalid: 9000 errors\n") && out.ends_with("FILE: and 8900 more\n"), "{out}");
        let extensions: String =
            (0..200).map(|number| format!("extension \"E{number}\" {{ unpinned = true }}\n")).collect();
        let (out, _) = validate(extensions).await;
        assert!(out.contains("errors\nFILE:1:11: error: extension \"E0\": the name may have"), "{out}");
        let (out, _) = validate(format!("docker_version = {:?}", "x".repeat(1 << 19))).await;
        assert!(out.len() < 4_000, "{}", out.len());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_no_verdict() {
        let large = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(large.path(), "#".repeat((1 << 20) + 1)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (path, part) in [
            (Path::new("/nonexistent/agent.conf"), "/nonexistent/agent.conf cannot be read"),
            (folder.path(), "cannot be read"),
            (large.path(), "is larger than 1048576 bytes"),
        ] {
            let failure =
                run(path, None, Output::Text, &mut Vec::new(), Style::plain(), ThisMachine::open).await.unwrap_err();
            assert!(failure.to_string().contains(part), "{failure}");
            assert_eq!(failure.exit_code(), ExitCode::from(2));
        }
    }
}
