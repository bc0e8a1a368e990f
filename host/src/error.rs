//! Why an attestation has no answer, and which gRPC status says so.

use bounded::lanes::Full;
use containers::{Error as ContainersError, ErrorKind};
use tonic::Code;

use crate::components::load::LoadError;
use crate::sandbox::bindings::docker_attestor::policy::types::Fault;

/// Why an attestation, or a configuration, failed. `Display` is the text of the gRPC status: it reaches the agent's
/// log, so it holds no secret.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration was refused; what runs goes on.
    #[error("{0}")]
    Configuration(String),
    /// A component of a configuration cannot be put to use; what runs goes on.
    #[error("{name}: {error}")]
    Component {
        /// `policy`, or `extension NAME`.
        name: String,
        /// At which step, and why.
        error: LoadError,
    },
    /// The agent has not configured us yet.
    #[error("not configured: the agent must call Configure before Attest")]
    NotConfigured,
    /// The request names no process.
    #[error("pid {0} is not a process id: it must be 1 or more")]
    InvalidPid(i32),
    /// A capability or the policy answered with a fault.
    #[error("{}", fault_text(.0))]
    Fault(Fault),
    /// The policy trapped, broke a limit, or lied about a fact.
    #[error("policy {digest}: {reason}")]
    Policy {
        /// The digest of the policy's component.
        digest: String,
        /// What it did.
        reason: String,
    },
    /// An extension trapped, broke a limit, or returned what no selector may be.
    #[error("extension {name:?} ({digest}): {reason}")]
    Extension {
        /// Its name.
        name: String,
        /// The digest of its component.
        digest: String,
        /// What it did.
        reason: String,
    },
    /// An extension answered with an error of its own.
    #[error("extension {name:?}: {reason}")]
    Refused {
        /// Its name.
        name: String,
        /// Its words, without values that it was told.
        reason: String,
    },
    /// Too many calls at once.
    #[error("over capacity: {0} for a sandbox")]
    Exhausted(#[from] Full),
    /// The attestation took longer than it may.
    #[error("the attestation took longer than {0} s")]
    Deadline(u64),
}

impl From<crate::config::Invalid> for Error {
    fn from(invalid: crate::config::Invalid) -> Error {
        Error::Configuration(invalid.to_string())
    }
}

impl Error {
    /// The gRPC status code, as the table in the operator's page has it.
    pub fn code(&self) -> Code {
        match self {
            Error::Configuration(_) | Error::Component { .. } | Error::InvalidPid(_) => Code::InvalidArgument,
            Error::NotConfigured | Error::Refused { .. } => Code::FailedPrecondition,
            Error::Fault(fault) => match fault {
                Fault::Workload(_) | Fault::NotConfigured(_) | Fault::Policy(_) => Code::FailedPrecondition,
                Fault::Denied(_) | Fault::Unverified(_) => Code::PermissionDenied,
                Fault::Malformed(_) => Code::Internal,
                Fault::Unavailable(_) => Code::Unavailable,
                Fault::Deadline(_) => Code::DeadlineExceeded,
                Fault::Exhausted(_) => Code::ResourceExhausted,
            },
            Error::Policy { .. } | Error::Extension { .. } => Code::Internal,
            Error::Exhausted(_) => Code::ResourceExhausted,
            Error::Deadline(_) => Code::DeadlineExceeded,
        }
    }
}

impl From<ContainersError> for Fault {
    fn from(error: ContainersError) -> Fault {
        let text = error.to_string();
        match error.kind() {
            ErrorKind::Denied => Fault::Denied(text),
            ErrorKind::Malformed => Fault::Malformed(text),
            ErrorKind::Unavailable => Fault::Unavailable(text),
            ErrorKind::Exhausted => Fault::Exhausted(text),
            ErrorKind::NotConfigured => Fault::NotConfigured(text),
        }
    }
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

/// The text in a fault that is borrowed, or borrowed to be changed.
macro_rules! text {
    ($fault:expr) => {
        match $fault {
            Fault::Workload(text)
            | Fault::Denied(text)
            | Fault::Malformed(text)
            | Fault::Unavailable(text)
            | Fault::Deadline(text)
            | Fault::Exhausted(text)
            | Fault::NotConfigured(text)
            | Fault::Unverified(text)
            | Fault::Policy(text) => text,
        }
    };
}

/// The text of a fault, whichever kind it is.
pub(crate) fn fault_text(fault: &Fault) -> &str {
    text!(fault)
}

/// The same, to change it.
pub(crate) fn fault_text_mut(fault: &mut Fault) -> &mut String {
    text!(fault)
}
