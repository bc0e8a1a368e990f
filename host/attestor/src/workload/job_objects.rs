//! The interface `job-objects`: it exists on Windows only.

use sandbox::{Fault, FaultKind};

use super::Found;

pub(super) fn names() -> Found {
    Fault::new(FaultKind::NotConfigured, "job objects are Windows': this is a Linux host").into()
}
