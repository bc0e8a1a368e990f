//! The accounts of users, as their operating system identifies them.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
pub(crate) mod windows;

use std::fmt;

#[cfg(unix)]
use self::unix as system;
#[cfg(windows)]
use self::windows as system;

/// The account of a user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Account {
    /// A user id of Unix.
    Uid(u32),
    /// A security identifier of Windows as text, for example `S-1-5-18`.
    Sid(String),
    /// An account that the operating system does not tell.
    Unknown,
}

impl Account {
    /// The account of this process.
    pub fn current() -> Account {
        system::current()
    }

    /// Whether the account may do everything on this machine: root on Unix, LocalSystem and the administrators on Windows.
    pub fn is_privileged(&self) -> bool {
        match self {
            Account::Uid(uid) => *uid == 0,
            Account::Sid(sid) => matches!(sid.as_str(), "S-1-5-18" | "S-1-5-32-544"),
            Account::Unknown => false,
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Uid(uid) => uid.fmt(formatter),
            Account::Sid(sid) => sid.fmt(formatter),
            Account::Unknown => "unknown".fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_of_this_process_is_known() {
        assert_ne!(Account::current(), Account::Unknown);
        assert_eq!(Account::current(), Account::current());
    }

    #[test]
    fn only_root_system_and_administrators_are_privileged() {
        let sid = |sid: &str| Account::Sid(sid.to_owned());
        for privileged in [Account::Uid(0), sid("S-1-5-18"), sid("S-1-5-32-544")] {
            assert!(privileged.is_privileged(), "{privileged}");
        }
        for other in [Account::Uid(1), sid("S-1-5-21-1-2-3-1001"), sid("S-1-5-19"), sid("0"), Account::Unknown] {
            assert!(!other.is_privileged(), "{other}");
        }
    }
}
