//! Why an attestation or a configuration failed, and which gRPC status says so.

use std::path::PathBuf;

use bounded::lanes::Full;
use containers::ErrorKind;
use sandbox::{CallError, Fault, FaultKind};
use tonic::Code;

/// Why an attestation or a configuration failed. `Display` is the text of the gRPC status. The text reaches the agent's log, so it
/// holds no secret.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration was refused. The configuration in use stays.
    #[error("{0}")]
    Configuration(String),
    /// A component of a configuration cannot be used. The configuration in use stays.
    #[error("{name}: {path}: {step}: {reason}", path = .path.display())]
    Component {
        /// `policy`, or `extension NAME`.
        name: String,
        /// The component's file.
        path: PathBuf,
        /// The name of the step that failed.
        step: &'static str,
        /// Why the step failed.
        reason: String,
    },
    /// The agent has not configured the plugin yet.
    #[error("not configured: the agent must call Configure before Attest")]
    NotConfigured,
    /// The request names no process.
    #[error("pid {0} is not a process id: it must be 1 or more")]
    InvalidPid(i32),
    /// The machine, the engine, a registry or the policy answered with a fault.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// The policy trapped, broke a limit, or stated what is not a fact.
    #[error("policy {digest}: {reason}")]
    Policy {
        /// The digest of the policy's component.
        digest: String,
        /// What the policy did.
        reason: String,
    },
    /// An extension trapped, broke a limit, or returned a selector that it may not.
    #[error("extension {name:?} ({digest}): {reason}")]
    Extension {
        /// The extension's name.
        name: String,
        /// The digest of its component.
        digest: String,
        /// What the extension did.
        reason: String,
    },
    /// An extension answered with an error of its own.
    #[error("extension {name:?}: {reason}")]
    Refused {
        /// The extension's name.
        name: String,
        /// The extension's words, without the values that it was told.
        reason: String,
    },
    /// Too many calls wait for a sandbox.
    #[error("over capacity: {0} for a sandbox")]
    Exhausted(#[from] Full),
    /// The attestation took longer than it may.
    #[error("the attestation took longer than {0} s")]
    Deadline(u64),
}

impl Error {
    /// The gRPC status code, as the operator's page lists it.
    pub fn code(&self) -> Code {
        match self {
            Error::Configuration(_) | Error::Component { .. } | Error::InvalidPid(_) => Code::InvalidArgument,
            Error::NotConfigured | Error::Refused { .. } => Code::FailedPrecondition,
            Error::Fault(fault) => match fault.kind {
                FaultKind::Workload | FaultKind::NotConfigured | FaultKind::Policy => Code::FailedPrecondition,
                FaultKind::Denied | FaultKind::Unverified => Code::PermissionDenied,
                FaultKind::Malformed => Code::Internal,
                FaultKind::Unavailable => Code::Unavailable,
                FaultKind::Deadline => Code::DeadlineExceeded,
                FaultKind::Exhausted => Code::ResourceExhausted,
            },
            Error::Policy { .. } | Error::Extension { .. } => Code::Internal,
            Error::Exhausted(_) => Code::ResourceExhausted,
            Error::Deadline(_) => Code::DeadlineExceeded,
        }
    }

    /// Whether the configuration is the reason, not the machine.
    pub fn is_about_configuration(&self) -> bool {
        matches!(self, Error::Configuration(_) | Error::Component { .. })
    }

    /// The error of a failed call. `broke` makes the error that names the component.
    pub(crate) fn of_call(error: CallError, broke: impl FnOnce(String) -> Error) -> Error {
        match error {
            CallError::Full(full) => Error::Exhausted(full),
            CallError::Store(_) => Error::Fault(Fault::new(FaultKind::Malformed, error.to_string())),
            error => broke(error.to_string()),
        }
    }
}

/// The fault that a policy gets to see for an error about processes or containers.
pub(crate) fn fault(error: containers::Error) -> Fault {
    let kind = match error.kind() {
        ErrorKind::Denied => FaultKind::Denied,
        ErrorKind::Malformed => FaultKind::Malformed,
        ErrorKind::Unavailable => FaultKind::Unavailable,
        ErrorKind::Exhausted => FaultKind::Exhausted,
        ErrorKind::NotConfigured => FaultKind::NotConfigured,
    };
    Fault::new(kind, error.to_string())
}

/// The name of a status code as the gRPC documentation writes it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
