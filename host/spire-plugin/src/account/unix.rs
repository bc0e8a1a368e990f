//! The account of this process on Unix.

use super::Account;

/// The effective user of this process.
pub(super) fn current() -> Account {
    Account::Uid(rustix::process::geteuid().as_raw())
}
