//! The command `docker-attestor policy status`.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bounded::text::printable;
use serde::{Serialize, Serializer};
use spire_plugin::{Account, LocalSocket};

use super::super::style::Style;
use super::super::{Failure, Output};
use crate::components::history::Status;
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
            // A failure from before the component in use was activated is history, and is not highlighted.
            let text = if component.failing { style.bad(&printable(&text)) } else { printable(&text) };
            writeln!(out, "    failure  {text}")?;
        }
    }
    Ok(())
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
}
