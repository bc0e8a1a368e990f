//! The account of a Windows process, as its token says.

use std::fmt;

/// A security identifier of Windows, as bytes (MS-DTYP, section 2.4.2.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Sid(Vec<u8>);

/// `SE_GROUP_ENABLED`: the group counts when access is decided (winnt.h).
const GROUP_ENABLED: u32 = 4;
/// `SE_GROUP_USE_FOR_DENY_ONLY`: the group can only take access away, as Administrators does before a user elevates.
const GROUP_DENY_ONLY: u32 = 0x10;

impl Sid {
    /// Copies the bytes of a SID.
    pub(crate) fn new(bytes: &[u8]) -> Sid {
        Sid(bytes.to_vec())
    }

    /// S-1-5-18, the account of Windows' own services.
    pub(crate) fn is_local_system(&self) -> bool {
        self.0 == [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0]
    }

    /// S-1-5-32-544, the group of administrators.
    pub(crate) fn is_administrators(&self) -> bool {
        self.0 == [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 32, 2, 0, 0]
    }

    /// The last number of the SID, which tells the accounts of a machine or a domain apart.
    pub(crate) fn relative_id(&self) -> Option<u32> {
        Some(u32::from_le_bytes(self.0.get(8..)?.chunks_exact(4).last()?.try_into().ok()?))
    }
}

impl fmt::Display for Sid {
    /// Writes the form that Windows' tools print, such as S-1-5-18.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(revision), Some(authority)) = (self.0.first(), self.0.get(2..8)) else {
            return formatter.write_str("(no SID)");
        };
        let authority = authority.iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
        write!(formatter, "S-{revision}-{authority}")?;
        for number in self.0.get(8..).unwrap_or_default().chunks_exact(4) {
            let number = number.iter().rev().fold(0_u32, |number, &byte| number << 8 | u32::from(byte));
            write!(formatter, "-{number}")?;
        }
        Ok(())
    }
}

/// The user and the groups in a process's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// The user.
    pub(crate) user: Sid,
    /// The groups, with their attributes.
    pub(crate) groups: Vec<(Sid, u32)>,
}

impl Account {
    /// Whether the process is LocalSystem's, or has the rights of an administrator in use.
    pub(crate) fn is_privileged(&self) -> bool {
        let enabled = |attributes: u32| attributes & GROUP_ENABLED != 0 && attributes & GROUP_DENY_ONLY == 0;
        self.user.is_local_system()
            || self.groups.iter().any(|(group, attributes)| group.is_administrators() && enabled(*attributes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
    const ADMINISTRATORS: [u8; 16] = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 32, 2, 0, 0];
    const NETWORK_SERVICE: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 5, 20, 0, 0, 0];

    #[test]
    fn the_text_is_that_of_windows() {
        assert_eq!(Sid::new(&SYSTEM).to_string(), "S-1-5-18");
        assert_eq!(Sid::new(&ADMINISTRATORS).to_string(), "S-1-5-32-544");
        assert_eq!(Sid::new(&ADMINISTRATORS).relative_id(), Some(544));
        for malformed in [&[][..], &[1], &[1, 1, 0, 0, 0, 0, 0]] {
            assert_eq!(Sid::new(malformed).to_string(), "(no SID)");
            assert_eq!(Sid::new(malformed).relative_id(), None);
        }
    }

    /// Tokens as Windows shows them: of a service, of an elevated user, of one who has not elevated, and of a service's account.
    #[test]
    fn only_local_system_and_elevated_administrators_are_privileged() {
        let account = |user: &[u8], groups: &[(&[u8], u32)]| Account {
            user: Sid::new(user),
            groups: groups.iter().map(|(group, attributes)| (Sid::new(group), *attributes)).collect(),
        };
        let user = [1, 2, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 0xe9, 3, 0, 0];
        assert!(account(&SYSTEM, &[]).is_privileged() && Sid::new(&SYSTEM).is_local_system());
        assert!(account(&user, &[(&ADMINISTRATORS, 0x0f)]).is_privileged());
        assert!(!account(&user, &[(&ADMINISTRATORS, 0x10)]).is_privileged());
        assert!(!account(&user, &[(&ADMINISTRATORS, 0x14)]).is_privileged());
        assert!(!account(&user, &[(&SYSTEM, 0x0f)]).is_privileged());
        assert!(!account(&NETWORK_SERVICE, &[]).is_privileged() && !Sid::new(&NETWORK_SERVICE).is_local_system());
        let longer = [&SYSTEM[..], &[0; 4]].concat();
        assert!(!Sid::new(&longer).is_local_system());
    }
}
