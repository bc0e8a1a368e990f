//! Why there is no answer about a process or a container.

use std::io;

use bounded::lanes::Full;

use crate::engine::EngineError;

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
            Error::Denied { .. } => ErrorKind::Denied,
            Error::ProcFile { .. } | Error::ProcLine { .. } => ErrorKind::Malformed,
            Error::Processes(_) => ErrorKind::Unavailable,
            Error::Engine { error, .. } => match error {
                EngineError::Unreachable { .. } => ErrorKind::Unavailable,
                EngineError::OtherPidNamespace => ErrorKind::NotConfigured,
                _ => ErrorKind::Malformed,
            },
            Error::Busy(_) => ErrorKind::Exhausted,
        }
    }

    /// The error for machine-wide reads of /proc.
    pub(crate) fn processes(error: &dyn std::error::Error) -> Error {
        Error::Processes(error.to_string())
    }

    /// Sorts a failed read of /proc/PID/`file`.
    ///
    /// # Errors
    /// The error; `Ok` when the process is only gone.
    pub fn unless_gone(pid: i32, file: &'static str, error: &io::Error) -> Result<(), Error> {
        match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::PermissionDenied => Err(Error::Denied { pid, file }),
            _ => Err(Error::ProcFile { pid, file, reason: error.to_string() }),
        }
    }
}
