//! Why there is no answer about a process or a container.

use std::io;

use bounded::lanes::Full;

use crate::limits;
use crate::process::System;

/// Why there is no answer about a process or a container. The texts are for an operator and hold no value of a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kernel refuses to show a file of the process.
    #[error("/proc/{pid}/{file}: permission denied: run the agent as root or give it CAP_SYS_PTRACE")]
    Denied {
        /// The process.
        pid: i32,
        /// The file below /proc/PID; empty for the directory itself.
        file: &'static str,
    },
    /// A file of the process cannot be read, for another reason than rights or the process's end.
    #[error("/proc/{pid}/{file}: {reason}")]
    ProcFile {
        /// The process.
        pid: i32,
        /// The file below /proc/PID; empty for the directory itself.
        file: &'static str,
        /// The operating system's reason.
        reason: String,
    },
    /// Windows refuses to show the process. The reason names the right that is missing.
    #[error("process {pid}: {reason}")]
    ProcessDenied {
        /// The process.
        pid: i32,
        /// The right, and how to get it.
        reason: String,
    },
    /// The job objects of the process cannot be read, for another reason than rights or the process's end.
    #[error("process {pid}: {reason}")]
    ProcessUnreadable {
        /// The process.
        pid: i32,
        /// The operating system's reason.
        reason: String,
    },
    /// A line of a file of the process does not have the form that proc(5) documents.
    #[error("a line of /proc/PID/{file} cannot be parsed: expected {expected}, got \"{line}\"")]
    ProcLine {
        /// The file below /proc/PID.
        file: &'static str,
        /// What the line should have been.
        expected: &'static str,
        /// The beginning of the line, escaped.
        line: String,
    },
    /// The machine's processes cannot be read at the moment, for example without free file descriptors. Proves nothing.
    #[error("this machine's processes: {0}")]
    Processes(String),
    /// The container engine gave no answer that can be used.
    #[error("container engine {endpoint}: {error}")]
    Engine {
        /// The engine's endpoint, as [`crate::engine::Endpoint`] prints it.
        endpoint: String,
        /// Why not.
        error: EngineError,
    },
    /// Too many calls wait for the engine already.
    #[error("{0} for the container engine: is it hanging?")]
    Busy(#[from] Full),
}

/// What an [`Error`] means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A right is missing.
    Denied,
    /// The kernel or the engine said something that is malformed or over a limit.
    Malformed,
    /// The engine or the kernel cannot be asked now. Trying again may help.
    Unavailable,
    /// The caller asks for more than there is capacity.
    Exhausted,
    /// The operator must change how agent and engine are arranged.
    NotConfigured,
}

impl Error {
    /// What the error means for the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Denied { .. } | Error::ProcessDenied { .. } => ErrorKind::Denied,
            Error::ProcFile { .. } | Error::ProcLine { .. } | Error::ProcessUnreadable { .. } => ErrorKind::Malformed,
            Error::Processes(_) => ErrorKind::Unavailable,
            Error::Engine { error, .. } => match error {
                EngineError::Denied(_) => ErrorKind::Denied,
                EngineError::Unreachable { .. } => ErrorKind::Unavailable,
                EngineError::OtherPidNamespace | EngineError::UntrustedPipe { .. } | EngineError::OtherSystem => {
                    ErrorKind::NotConfigured
                }
                _ => ErrorKind::Malformed,
            },
            Error::Busy(_) => ErrorKind::Exhausted,
        }
    }

    /// Whether clause b of the proof does not hold: the engine's pids are not ours, so nothing that it says proves anything.
    pub fn is_clause_b(&self) -> bool {
        matches!(self, Error::Engine { error: EngineError::OtherPidNamespace | EngineError::UntrustedPipe { .. }, .. })
    }

    /// The error for machine-wide reads of /proc.
    pub(crate) fn processes(error: &dyn std::error::Error) -> Error {
        Error::Processes(error.to_string())
    }

    /// Sorts a failed read of a process: of /proc/PID/`file` on Linux, of the process itself on Windows.
    ///
    /// # Errors
    /// The error; `Ok` when the process is only gone.
    pub fn unless_gone(system: System, pid: i32, file: &'static str, error: &io::Error) -> Result<(), Error> {
        match (error.kind(), system) {
            (io::ErrorKind::NotFound, _) => Ok(()),
            (io::ErrorKind::PermissionDenied, System::Linux) => Err(Error::Denied { pid, file }),
            (_, System::Linux) => Err(Error::ProcFile { pid, file, reason: error.to_string() }),
            (io::ErrorKind::ResourceBusy, System::Windows) => Err(Error::Processes(error.to_string())),
            (io::ErrorKind::PermissionDenied, System::Windows) => {
                Err(Error::ProcessDenied { pid, reason: error.to_string() })
            }
            (_, System::Windows) => Err(Error::ProcessUnreadable { pid, reason: error.to_string() }),
        }
    }
}

/// Why an engine gave no answer that can be used. The texts quote no value of a reply, since a reply holds env values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The engine is unreachable, slow, or failing. The last reason is kept.
    #[error("{reason} ({tries} tries): is it running, and is this where it listens?")]
    Unreachable {
        /// What happened at the last try.
        reason: String,
        /// The number of tries.
        tries: u32,
    },
    /// Clause b of the proof: the process that listens on the socket has other process ids than ours.
    #[error(
        "its process is not in our pid namespace, so that its pids are not ours (clause b): run the agent in the engine's pid \
         namespace, or, if it is a proxy in front of an engine that is in ours, set engine_shares_pid_namespace = true"
    )]
    OtherPidNamespace,
    /// Clause b of the proof on Windows: anybody may have made the pipe.
    #[error(
        "its pipe is served by process {pid} and belongs to account {account}, which is neither LocalSystem nor an administrator \
         (clause b): look at what created the pipe"
    )]
    UntrustedPipe {
        /// The process that serves the pipe.
        pid: u32,
        /// The SID of its account, or of the pipe's owner.
        account: String,
    },
    /// A right that clause b needs is missing.
    #[error("{0} is denied: run the agent as LocalSystem, or as an administrator")]
    Denied(&'static str),
    /// The endpoint is one of another operating system.
    #[error("unix sockets exist on Linux only, and named pipes on Windows only")]
    OtherSystem,
    /// The reply is larger than [`limits::ENGINE_REPLY`].
    #[error("its reply is larger than {} MiB", limits::ENGINE_REPLY >> 20)]
    ReplyTooLarge,
    /// The engine refused the request with a status below 500.
    #[error("status {code}: {message}{}", if *code == 400 { ": does docker_version fit this engine?" } else { "" })]
    Status {
        /// The HTTP status.
        code: u16,
        /// The beginning of the engine's message, escaped.
        message: String,
    },
    /// The reply is JSON, but not of the documented form.
    #[error("its reply is not what the Docker Engine API describes (column {column})")]
    UnexpectedJson {
        /// Where.
        column: usize,
    },
    /// The reply is not JSON, or ends early.
    #[error("its reply is not whole JSON (line {line}, column {column})")]
    MalformedJson {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// The engine names no API version.
    #[error("it names no API version: set docker_version")]
    NoApiVersion,
    /// A member that every reply must have is missing or out of range.
    #[error("its reply has {0}")]
    IncompleteReply(&'static str),
    /// The engine has more containers than are listed.
    #[error("it lists {0} containers: {most} may be; name a process by --pid", most = limits::CONTAINERS_LISTED)]
    TooManyContainers(usize),
    /// The container's image id cannot be asked about.
    #[error("the container's image id is no sha256 digest")]
    ImageId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_engine_whose_pids_are_not_ours_breaks_clause_b() {
        let of = |error| Error::Engine { endpoint: "unix:///docker.sock".to_owned(), error };
        assert!(of(EngineError::OtherPidNamespace).is_clause_b());
        assert!(of(EngineError::UntrustedPipe { pid: 1, account: "S-1-5-21".to_owned() }).is_clause_b());
        assert!(!of(EngineError::Unreachable { reason: "refused".to_owned(), tries: 3 }).is_clause_b());
        assert!(!Error::Busy(Full::Lane(256)).is_clause_b());
    }
}
