//! Checks the program that an agent.conf names for the plugin: it must be there, and be this program.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::path::{Path, PathBuf};

use bounded::file::{self, FileError};
use sandbox::inspect::digest;

#[cfg(unix)]
use self::unix::is_executable;
#[cfg(windows)]
use self::windows::is_executable;
use super::diagnostics::Source;
use crate::config::Problem;
use crate::config::agent_conf::AgentPlugin;
use crate::limits::PROGRAM_FILE;

/// A text that every docker-attestor holds, whatever its version: the name of the policy's contract.
const MARK: &[u8] = b"docker-attestor:policy@";
/// The workload attestors that are built into the agent (SPIRE's pkg/agent/catalog/workloadattestor.go).
const BUILT_IN: [&str; 6] = ["docker", "k8s", "slurm", "systemd", "unix", "windows"];

/// Checks `plugin_cmd` and `plugin_checksum`, and adds what is wrong to the source.
pub(super) fn check(plugin: &AgentPlugin, source: &mut Source) {
    let running = std::env::current_exe().unwrap_or_default();
    let Some(bytes) = program(plugin, &running, source) else { return };
    let found = digest(&bytes);
    let hex = found.strip_prefix("sha256:").unwrap_or(&found);
    let own = file::read(&running, PROGRAM_FILE).map(|bytes| digest(&bytes)).ok();
    let error = |text: String| Problem::new(text, plugin.position_of("plugin_cmd"));
    let path = &plugin.plugin_cmd;
    if own.as_ref() != Some(&found) {
        match bytes.windows(MARK.len()).any(|window| window == MARK) {
            true => source.warnings.push(
                error(format!("plugin_cmd: {path:?} is another build of docker-attestor than the one that validates"))
                    .with_help(format!("that build may judge this file otherwise: run {path} validate")),
            ),
            false => {
                let error = error(format!("plugin_cmd: {path:?} is another program, and not docker-attestor"));
                source.errors.push(error.with_help(format!("this program is {}", running.display())));
                return;
            }
        }
    }
    checksum(plugin, hex, source);
}

/// Reads the program at `plugin_cmd`. `None` if that is not possible, and the source says why.
fn program(plugin: &AgentPlugin, running: &Path, source: &mut Source) -> Option<Vec<u8>> {
    let AgentPlugin { name, plugin_cmd: path, .. } = plugin;
    let position = plugin.position_of("plugin_cmd");
    if path.is_empty() {
        let text = match BUILT_IN.contains(&name.as_str()) {
            true => format!("plugin_cmd is missing: the agent runs its built-in attestor {name}, and not this program"),
            false => format!("plugin_cmd is missing: the agent has no built-in attestor {name}, and does not start"),
        };
        let help = format!("plugin_cmd = {:?}", running.display().to_string());
        source.errors.push(Problem::new(text, position).with_help(help));
        return None;
    }
    match file::read(&PathBuf::from(path), PROGRAM_FILE) {
        Ok(bytes) => {
            if std::fs::metadata(path).is_ok_and(|metadata| !is_executable(&metadata)) {
                let text = format!("plugin_cmd: {path:?} is not executable: the agent cannot start it");
                source.errors.push(Problem::new(text, position).with_help(format!("chmod 755 {path}")));
            }
            Some(bytes)
        }
        Err(why @ FileError::Unreadable(_)) => {
            let problem = Problem::new(format!("plugin_cmd: {path:?} {why}"), position);
            source.errors.push(problem.with_help("validate as a user who may read the program"));
            None
        }
        Err(why) => {
            let text = format!("plugin_cmd: {path:?}: {why}: the agent cannot start it");
            source.errors.push(Problem::new(text, position));
            None
        }
    }
}

/// Compares `plugin_checksum` with the digest of the program's file, as the agent does before it starts the program.
fn checksum(plugin: &AgentPlugin, found: &str, source: &mut Source) {
    let AgentPlugin { plugin_cmd: path, plugin_checksum: checksum, .. } = plugin;
    let position = plugin.position_of("plugin_checksum");
    let help = format!("plugin_checksum = {found:?}");
    let is_digest = checksum.len() == 64 && checksum.bytes().all(|byte| byte.is_ascii_hexdigit());
    if checksum.is_empty() {
        let text = "plugin_checksum is missing: the agent starts whatever file is there";
        source.warnings.push(Problem::new(text, position).with_help(help));
    } else if !is_digest {
        let text = "plugin_checksum is no SHA-256 in 64 hexadecimal digits: the agent does not start with it";
        source.errors.push(Problem::new(text, position).with_help(help));
    } else if !checksum.eq_ignore_ascii_case(found) {
        let text = format!("plugin_checksum is not that of {path:?}: the agent does not start with it");
        source.errors.push(Problem::new(text, position).with_help(help));
    }
}
