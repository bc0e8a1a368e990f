//! The command `docker-attestor policy status`.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bounded::text::printable;
use serde::{Serialize, Serializer};
use spire_plugin::{Account, LocalSocket};

use super::super::style::Style;
use super::super::{Failure, Output};
use crate::components::history::{
    AttestationsStatus, ConfigurationStatus, FailedAttestation, FailedUpdate, RefusedConfiguration, Status,
};
use crate::service::status::{ask, find};

/// The maximum of sockets without an answer that are named.
const NAMED: usize = 10;

/// The answer of one plugin, and the owner of its socket. The socket of another user may answer anything.
#[derive(Serialize)]
struct Answer {
    socket: PathBuf,
    #[serde(serialize_with = "serialize_account")]
    owner: Account,
    #[serde(flatten)]
    status: Status,
}

/// A user id is a number, and a security identifier of Windows is a text.
fn serialize_account<S: Serializer>(account: &Account, serializer: S) -> Result<S::Ok, S::Error> {
    match account {
        Account::Uid(uid) => serializer.serialize_u32(*uid),
        account => serializer.collect_str(account),
    }
}

pub(super) async fn run(
    socket: Option<&Path>,
    output: Output,
    out: &mut impl Write,
    style: Style,
) -> Result<ExitCode, Failure> {
    let found = match socket {
        Some(path) => vec![LocalSocket::at(path.to_owned()).await],
        None => find().await,
    };
    print_answers(found, socket.is_some(), output, out, style).await
}

/// Asks these sockets and prints their answers. If `named`, the user named the socket and it must exist.
async fn print_answers(
    found: Vec<LocalSocket>,
    named: bool,
    output: Output,
    out: &mut impl Write,
    style: Style,
) -> Result<ExitCode, Failure> {
    // Sockets of root and of this user are asked first, so that those of other users take no file descriptors from
    // them.
    let (others, own): (Vec<_>, Vec<_>) = found.into_iter().partition(LocalSocket::is_of_another_user);
    let (mut answers, mut silent) = (Vec::new(), Vec::new());
    for found in [own, others] {
        let mut asking = ask(found);
        while let Some(asked) = asking.join_next().await {
            match asked {
                Ok((LocalSocket { path, owner }, Ok(status))) => {
                    let answer = Answer { socket: path, owner, status };
                    if output == Output::Text {
                        // Printed at once, so that a socket that never answers delays no other answer.
                        text(&answer, out, style)?;
                        out.flush()?;
                    }
                    answers.push(answer);
                }
                // The socket was left by a plugin that was killed. The next plugin removes it.
                Ok((_, Err(error)))
                    if !named && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
                Ok((LocalSocket { path, owner }, Err(error))) => {
                    silent.push(format!("{} of user {owner}: {error}", path.display()));
                }
                Err(error) => silent.push(error.to_string()),
            }
        }
    }
    if output == Output::Json {
        answers.sort_by(|one, other| one.socket.cmp(&other.socket));
        writeln!(out, "{}", serde_json::to_string(&answers).map_err(|error| Failure::Usage(error.to_string()))?)?;
    }
    if !silent.is_empty() {
        let more = silent.len().saturating_sub(NAMED);
        silent.truncate(NAMED);
        if more > 0 {
            silent.push(format!("and {more} more"));
        }
        return Err(Failure::Usage(silent.join("; ")));
    }
    if answers.is_empty() {
        return Err(Failure::Usage(format!(
            "no plugin runs that user {} may ask: run this as the agent's user (root will do on Linux); another socket: --socket",
            Account::current()
        )));
    }
    let failed = answers.iter().any(|answer| answer.status.is_failing());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(answer: &Answer, out: &mut impl Write, style: Style) -> std::io::Result<()> {
    let Answer { socket, owner, status } = answer;
    let Status { program, pid, agent, configured, configuration, attestations, components } = status;
    let title = format!("docker-attestor {program}, process {pid} of agent {agent}, user {owner}");
    writeln!(out, "{}", style.bold(&printable(&title)))?;
    writeln!(out, "{}", style.dim(&printable(&socket.display().to_string())))?;
    if !configured {
        writeln!(out, "  not configured")?;
    }
    configuration_text(configuration, out, style)?;
    if let Some(attestations) = attestations {
        attestations_text(attestations, out, style)?;
    }
    for component in components {
        let version = component.version.as_deref().unwrap_or("none");
        writeln!(out, "  {}", style.bold(&printable(&component.name)))?;
        writeln!(out, "    source   {}", printable(&component.source))?;
        writeln!(out, "    digest   {}", printable(&component.digest))?;
        writeln!(out, "    version  {}", printable(version))?;
        writeln!(out, "    since    {}, replaced {} times", component.since, component.replaced)?;
        let Some(FailedUpdate { at, step, reason }) = &component.last_failure else { continue };
        let failure = printable(&format!("{at} at step {step}: {reason}"));
        match (component.failing, component.healed) {
            (true, _) => writeln!(out, "    failing  {}; the component above stays in use", style.bad(&failure))?,
            (false, Some(healed)) => writeln!(out, "    healed   {healed}, after a failure of {failure}")?,
            (false, None) => writeln!(out, "    healed   after a failure of {failure}")?,
        }
    }
    Ok(())
}

fn configuration_text(
    ConfigurationStatus { since, failing, last_refusal }: &ConfigurationStatus,
    out: &mut impl Write,
    style: Style,
) -> std::io::Result<()> {
    if since.is_none() && last_refusal.is_none() {
        return Ok(());
    }
    writeln!(out, "  {}", style.bold("configuration"))?;
    if let Some(since) = since {
        writeln!(out, "    since    {since}")?;
    }
    let Some(RefusedConfiguration { at, reason }) = last_refusal else { return Ok(()) };
    let refusal = printable(&format!("{at}: {reason}"));
    match (failing, since) {
        (true, Some(_)) => {
            writeln!(out, "    refused  {}; the configuration above stays in use", style.bad(&refusal))
        }
        (true, None) => writeln!(out, "    refused  {}", style.bad(&refusal)),
        (false, _) => writeln!(out, "    healed   by a configuration that was accepted; refused before: {refusal}"),
    }
}

fn attestations_text(attestations: &AttestationsStatus, out: &mut impl Write, style: Style) -> std::io::Result<()> {
    let AttestationsStatus { since, with_selectors, without_selectors, failed, last_failure } = attestations;
    writeln!(out, "  {}", style.bold("attestations"))?;
    writeln!(out, "    since    {since}")?;
    writeln!(out, "    answers  {with_selectors} with selectors, {without_selectors} without, {failed} failed")?;
    let Some(FailedAttestation { at, pid, reason }) = last_failure else { return Ok(()) };
    let failure = printable(&format!("{at}, process {pid}: {reason}"));
    match attestations.all_failed() {
        true => writeln!(out, "    failing  {}; none has answered with selectors", style.bad(&failure)),
        false => writeln!(out, "    last failure  {failure}"),
    }
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    mod unix;
    #[cfg(windows)]
    mod windows;

    use std::time::{Duration, Instant};

    use spire_plugin::LocalListener;
    use tokio::io::AsyncWriteExt as _;

    #[cfg(unix)]
    use self::unix as system;
    #[cfg(windows)]
    use self::windows as system;
    use super::*;

    /// A writer that records when the first byte was written.
    #[derive(Default)]
    struct Timed(Vec<u8>, Option<Instant>);

    impl Write for Timed {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1.get_or_insert_with(Instant::now);
            Write::write(&mut self.0, bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Serves a socket that answers, or that accepts and never answers if `answer` is `None`.
    fn serve(path: &Path, answer: Option<&'static str>) {
        let mut listener = LocalListener::bind(path).unwrap();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok(mut stream) = listener.accept().await {
                match answer {
                    Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                    None => open.push(stream),
                }
            }
        });
    }

    const GOOD: &str = r#"{"program": "1.2.3", "pid": 7, "agent": 6, "configured": true, "components": []}"#;

    async fn measured(owner: &Account, silent: usize, output: Output) -> (Timed, Duration, Instant, String) {
        let place = system::Place::new();
        let mut found = Vec::new();
        for number in 0..silent {
            let path = place.path(&format!("silent{number}"));
            serve(&path, None);
            found.push(LocalSocket { path, owner: owner.clone() });
        }
        let path = place.path("good");
        serve(&path, Some(GOOD));
        found.push(LocalSocket { path, owner: Account::current() });
        let (started, mut out) = (Instant::now(), Timed::default());
        let failure = print_answers(found, false, output, &mut out, Style::plain()).await.unwrap_err();
        assert_eq!(failure.exit_code(), ExitCode::from(2));
        (out, started.elapsed(), started, failure.to_string())
    }

    #[tokio::test]
    async fn a_silent_socket_delays_no_answer() {
        for owner in system::owners() {
            let (out, _, started, failure) = measured(&owner, 1, Output::Text).await;
            let text = String::from_utf8(out.0).unwrap();
            assert!(text.contains("docker-attestor 1.2.3, process 7 of agent 6"), "{text}");
            let delay = out.1.unwrap() - started;
            assert!(delay < Duration::from_millis(300), "the silent socket of user {owner} delayed it by {delay:?}");
            assert!(failure.contains(&format!("silent0 of user {owner}: it does not answer within")), "{failure}");
        }
    }

    /// The text and the exit code for a plugin with this answer.
    async fn printed(answer: &'static str) -> (String, ExitCode) {
        let place = system::Place::new();
        let path = place.path("answering");
        serve(&path, Some(answer));
        let found = vec![LocalSocket { path, owner: Account::current() }];
        let mut out = Vec::new();
        let code = print_answers(found, true, Output::Text, &mut out, Style::plain()).await.unwrap();
        (String::from_utf8(out).unwrap(), code)
    }

    #[tokio::test]
    async fn a_healed_failure_and_a_present_one_differ_in_text_and_exit_code() {
        macro_rules! policy {
            ($rest:literal) => {
                concat!(
                    r#"{"program": "1.2.3", "pid": 7, "agent": 6, "configured": true, "components": [{"name": "policy",
                    "source": "/p.wasm", "digest": "sha256:aa", "version": null, "since": "2026-01-01T00:00:00Z", "replaced": 1,
                    "last_failure": {"at": "2026-01-02T03:04:05Z", "step": "trial", "reason": "it trapped"}, "#,
                    $rest,
                    "}]}"
                )
            };
        }
        let (text, code) = printed(policy!(r#""failing": true, "healed": null"#)).await;
        let present = "    failing  2026-01-02T03:04:05Z at step trial: it trapped; the component above stays in use\n";
        assert!(text.contains(present) && code == ExitCode::FAILURE, "{text}");
        let (text, code) = printed(policy!(r#""failing": false, "healed": "2026-01-03T00:00:00Z""#)).await;
        let healed =
            "    healed   2026-01-03T00:00:00Z, after a failure of 2026-01-02T03:04:05Z at step trial: it trapped\n";
        assert!(text.contains(healed) && code == ExitCode::SUCCESS, "{text}");
        let (text, code) = printed(policy!(r#""failing": false"#)).await;
        let older = "    healed   after a failure of 2026-01-02T03:04:05Z";
        assert!(text.contains(older) && code == ExitCode::SUCCESS, "an answer of an older plugin: {text}");
    }

    #[tokio::test]
    async fn a_refused_configuration_is_shown_until_another_one_is_accepted() {
        macro_rules! configuration {
            ($rest:literal) => {
                concat!(
                    r#"{"program": "1.2.3", "pid": 7, "agent": 6, "configured": true, "components": [], "configuration":
                    {"last_refusal": {"at": "2026-01-02T03:04:05Z", "reason": "unknown key \u001b[31ma"}, "#,
                    $rest,
                    "}}"
                )
            };
        }
        let (text, code) = printed(configuration!(r#""failing": true, "since": "2026-01-01T00:00:00Z""#)).await;
        assert!(
            text.contains("    since    2026-01-01T00:00:00Z\n    refused  2026-01-02T03:04:05Z: unknown key "),
            "{text}"
        );
        assert!(text.contains("a; the configuration above stays in use\n") && !text.contains('\u{1b}'), "{text}");
        assert_eq!(code, ExitCode::FAILURE);
        let (text, code) = printed(configuration!(r#""failing": true, "since": null"#)).await;
        assert!(
            text.contains("    refused  ") && !text.contains("stays in use") && code == ExitCode::FAILURE,
            "{text}"
        );
        let (text, code) = printed(configuration!(r#""failing": false, "since": "2026-01-03T00:00:00Z""#)).await;
        assert!(text.contains("    healed   by a configuration") && code == ExitCode::SUCCESS, "{text}");
    }

    #[tokio::test]
    async fn a_plugin_whose_attestations_all_fail_is_bad_news() {
        macro_rules! attestations {
            ($with:literal) => {
                concat!(
                    r#"{"program": "1.2.3", "pid": 7, "agent": 6, "configured": true, "components": [], "attestations":
                    {"since": "2026-01-01T00:00:00Z", "with_selectors": "#,
                    $with,
                    r#", "without_selectors": 5, "failed": 3, "last_failure":
                    {"at": "2026-01-02T03:04:05Z", "pid": 9, "reason": "extension \"team\": no"}}}"#
                )
            };
        }
        let (text, code) = printed(attestations!("0")).await;
        assert!(text.contains("    answers  0 with selectors, 5 without, 3 failed\n"), "{text}");
        let failing =
            "    failing  2026-01-02T03:04:05Z, process 9: extension \"team\": no; none has answered with selectors\n";
        assert!(text.contains(failing) && code == ExitCode::FAILURE, "{text}");
        let (text, code) = printed(attestations!("1")).await;
        assert!(text.contains("    last failure  ") && code == ExitCode::SUCCESS, "{text}");
    }
}
