//! Why a call failed, or a component cannot run.

use bounded::lanes::Full;
use wasmtime::Trap;

use crate::limits;

/// Why a call of a component failed, in an operator's words. The failure costs this call only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Too many calls wait for a sandbox. The component was not called.
    #[error("over capacity: {0} for a sandbox")]
    Full(#[from] Full),
    /// The store of the call cannot be set up. The component was not called.
    #[error("the sandbox's fuel cannot be set: {0}")]
    Store(String),
    /// The component trapped, or broke a limit or the contract.
    #[error("{reason}{}", .panic.as_ref().map(|panic| format!(" ({panic})")).unwrap_or_default())]
    Broke {
        /// What it did.
        reason: String,
        /// The last line that the component logged as an error. Its panic hook writes there.
        panic: Option<String>,
    },
    /// `validate` returned too much.
    #[error("its validate returned more diagnostics, or longer ones, than it may")]
    Diagnostics,
    /// The component answered with an error whose text is too long.
    #[error("its error text is longer than {} bytes", limits::GUEST_TEXT)]
    LongError,
}

impl CallError {
    pub(crate) fn of(error: &wasmtime::Error, panic: Option<&str>) -> CallError {
        let reason = match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => "it used more CPU than a call may (100 ms)".to_owned(),
            Some(Trap::StackOverflow) => {
                format!("it used more stack than a call may ({} KiB)", limits::GUEST_STACK >> 10)
            }
            Some(trap) => format!("it trapped: {trap}"),
            None if error.is::<TooSlow>() => format!("it did not end within {} s", limits::SANDBOX_WALL.as_secs()),
            None => format!("it broke a limit or the contract: {}", error.root_cause()),
        };
        CallError::Broke { reason, panic: panic.map(str::to_owned) }
    }
}

/// The call took longer than [`limits::SANDBOX_WALL`].
#[derive(Debug, thiserror::Error)]
#[error("the call took too long")]
pub(crate) struct TooSlow;

/// A compiled component does not fit: it imports what does not exist, or does not export what it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LinkError(String);

impl LinkError {
    pub(crate) fn of(error: wasmtime::Error) -> LinkError {
        LinkError(format!("{error:#}"))
    }
}

/// The sandbox cannot be made on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the sandbox cannot be made: {0}")]
pub struct SetupError(pub(crate) String);

/// A component that comes with the program does not fit.
impl From<LinkError> for SetupError {
    fn from(LinkError(text): LinkError) -> SetupError {
        SetupError(text)
    }
}
