//! System calls about namespaces and socket peers that no crate wraps: ioctl_ns(2) and SO_PEERPIDFD.

#![expect(unsafe_code, reason = "no crate of ours wraps ioctl_ns(2) and SO_PEERPIDFD safely")]

use std::ffi::c_void;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, Result};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

/// The parent of a pid namespace (NS_GET_PARENT).
pub(super) fn parent(namespace: &OwnedFd) -> Result<OwnedFd> {
    // SAFETY: NS_GET_PARENT takes no argument and returns a new descriptor or an error.
    unsafe { ioctl(namespace, NewDescriptor::<2>) }
}

/// The user namespace that owns a namespace (NS_GET_USERNS).
pub(super) fn owner(namespace: &OwnedFd) -> Result<OwnedFd> {
    // SAFETY: NS_GET_USERNS takes no argument and returns a new descriptor or an error.
    unsafe { ioctl(namespace, NewDescriptor::<1>) }
}

/// The uid that created a user namespace (NS_GET_OWNER_UID).
pub(super) fn creator(namespace: &OwnedFd) -> Result<u32> {
    // SAFETY: NS_GET_OWNER_UID writes one uid_t.
    unsafe { ioctl(namespace, rustix::ioctl::Getter::<{ number(4) }, u32>::new()) }
}

const fn number(number: u8) -> Opcode {
    opcode::none(0xb7, number)
}

struct NewDescriptor<const NUMBER: u8>;

// SAFETY: the requests take no argument, change no memory and return a descriptor that has no other owner.
unsafe impl<const NUMBER: u8> Ioctl for NewDescriptor<NUMBER> {
    type Output = OwnedFd;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        number(NUMBER)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<OwnedFd> {
        // SAFETY: on success the kernel returns a descriptor that it made for this call.
        Ok(unsafe { OwnedFd::from_raw_fd(output as RawFd) })
    }
}

/// The pidfd of a unix socket's peer (SO_PEERPIDFD of unix(7), since Linux 6.5). The option has the same number on
/// every architecture that Docker runs on.
pub(super) fn peer_pidfd(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut pidfd: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `pidfd`, and both variables outlive the
    // call.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut pidfd).cast(),
            &raw mut length,
        )
    };
    match outcome == 0 && pidfd >= 0 {
        // SAFETY: on success the kernel returns a descriptor that it made for this call.
        true => Ok(unsafe { OwnedFd::from_raw_fd(pidfd) }),
        false => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}
