//! The faults of the contract: what a policy answers instead of selectors, and what an import answers instead of a value.

use std::fmt;

use crate::bindings::docker_attestor::policy::types::Fault as WitFault;

/// A fault of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which case of the contract's `fault` it is.
    pub kind: FaultKind,
    /// What happened and what to do, for an operator.
    pub text: String,
}

/// The cases of the contract's `fault`. wit/policy.wit says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// What the workload shows contradicts itself.
    Workload,
    /// The machine refused to show the workload.
    Denied,
    /// The machine or the engine said something that is malformed or over a limit.
    Malformed,
    /// The engine, a registry or the log is unreachable.
    Unavailable,
    /// The attestation took too long.
    Deadline,
    /// The host is over a capacity.
    Exhausted,
    /// The capability is not configured.
    NotConfigured,
    /// A signature or an attestation of the image did not verify.
    Unverified,
    /// The policy's own error.
    Policy,
}

impl Fault {
    /// A fault with a text.
    pub fn new(kind: FaultKind, text: impl Into<String>) -> Fault {
        Fault { kind, text: text.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

impl From<WitFault> for Fault {
    fn from(fault: WitFault) -> Fault {
        let (kind, text) = match fault {
            WitFault::Workload(text) => (FaultKind::Workload, text),
            WitFault::Denied(text) => (FaultKind::Denied, text),
            WitFault::Malformed(text) => (FaultKind::Malformed, text),
            WitFault::Unavailable(text) => (FaultKind::Unavailable, text),
            WitFault::Deadline(text) => (FaultKind::Deadline, text),
            WitFault::Exhausted(text) => (FaultKind::Exhausted, text),
            WitFault::NotConfigured(text) => (FaultKind::NotConfigured, text),
            WitFault::Unverified(text) => (FaultKind::Unverified, text),
            WitFault::Policy(text) => (FaultKind::Policy, text),
        };
        Fault { kind, text }
    }
}

impl From<Fault> for WitFault {
    fn from(Fault { kind, text }: Fault) -> WitFault {
        match kind {
            FaultKind::Workload => WitFault::Workload(text),
            FaultKind::Denied => WitFault::Denied(text),
            FaultKind::Malformed => WitFault::Malformed(text),
            FaultKind::Unavailable => WitFault::Unavailable(text),
            FaultKind::Deadline => WitFault::Deadline(text),
            FaultKind::Exhausted => WitFault::Exhausted(text),
            FaultKind::NotConfigured => WitFault::NotConfigured(text),
            FaultKind::Unverified => WitFault::Unverified(text),
            FaultKind::Policy => WitFault::Policy(text),
        }
    }
}
