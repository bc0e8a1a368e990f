//! Security identifiers of Windows.

use std::ffi::c_void;
use std::io;
use std::mem::{align_of, size_of};
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr::{null_mut, read};

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::ConvertSidToStringSidW;
use windows_sys::Win32::Security::{GetTokenInformation, PSID, TOKEN_QUERY, TOKEN_USER, TokenUser};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use super::Account;

/// Bytes of a token's user: its header, and a SID, which has 68 bytes at most (SECURITY_MAX_SID_SIZE).
const TOKEN_USER_SIZE: usize = 128;

/// Memory for the answer about a token, aligned as its header.
#[repr(C, align(8))]
struct Answer([u8; TOKEN_USER_SIZE]);

const _: () = assert!(align_of::<Answer>() >= align_of::<TOKEN_USER>());

/// The user of this process.
pub(super) fn current() -> Account {
    current_sid().map_or(Account::Unknown, Account::Sid)
}

/// The SID of the user of this process, as text.
#[expect(unsafe_code, reason = "std has no access tokens")]
pub(crate) fn current_sid() -> io::Result<String> {
    let mut token = null_mut();
    // SAFETY: `token` is a variable of this function. The handle of this process needs no closing.
    if unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was opened here, and nothing else closes it.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let (mut answer, mut length) = (Answer([0; TOKEN_USER_SIZE]), 0);
    let size = u32::try_from(size_of::<Answer>()).unwrap_or_default();
    // SAFETY: `answer` is a buffer of the size that is passed, and the token is open.
    let told = unsafe {
        GetTokenInformation(token.as_raw_handle(), TokenUser, (&raw mut answer).cast(), size, &raw mut length)
    };
    if told == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above wrote a TOKEN_USER at the start of `answer`, which is large enough for it and aligned.
    let user = unsafe { read((&raw const answer).cast::<TOKEN_USER>()) };
    // SAFETY: the SID lies in `answer`, which is alive.
    unsafe { text(user.User.Sid) }
}

/// The text of a SID.
///
/// # Safety
/// `sid` must be null or point to a SID.
#[expect(unsafe_code, reason = "passes the obligation on")]
pub(crate) unsafe fn text(sid: PSID) -> io::Result<String> {
    if sid.is_null() {
        return Err(io::Error::other("there is no SID"));
    }
    let mut text = null_mut();
    // SAFETY: `sid` points to a SID, as the caller must see to, and `text` is a variable of this function.
    if unsafe { ConvertSidToStringSidW(sid, &raw mut text) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let text = Allocated(text.cast());
    let mut units = Vec::new();
    let mut next = text.0.cast::<u16>();
    // SAFETY: the text ends with a zero, and the pointer goes no further than to that zero.
    while let unit @ 1.. = unsafe { read(next) } {
        units.push(unit);
        // SAFETY: as above.
        next = unsafe { next.add(1) };
    }
    String::from_utf16(&units).map_err(io::Error::other)
}

/// Memory that the system allocated for this process, freed when it is dropped.
pub(crate) struct Allocated(pub(crate) *mut c_void);

impl Drop for Allocated {
    #[expect(unsafe_code, reason = "the system's own allocator")]
    fn drop(&mut self) {
        // SAFETY: a function of the system whose result must be freed with LocalFree allocated it, and it is freed once.
        unsafe { LocalFree(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sid_is_told_as_text() {
        assert!(current_sid().unwrap().starts_with("S-1-5-"), "{:?}", current_sid());
    }
}
