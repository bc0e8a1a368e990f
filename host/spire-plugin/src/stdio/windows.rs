//! The implementation on Windows, where a process inherits the handles of its parent.

use windows_sys::Win32::Foundation::{HANDLE_FLAG_INHERIT, SetHandleInformation};
use windows_sys::Win32::System::Console::{GetStdHandle, STD_ERROR_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE};

/// Keeps the standard handles from the child processes that the plugin starts from now on. The agent made them such that
/// they are inherited, and a child that held the agent's pipes open would block the agent's stop. A child can still be
/// given them, since std duplicates what it hands to a child.
#[expect(unsafe_code, reason = "std does not change the inheritance of handles")]
pub(crate) fn keep_from_children() {
    for number in [STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE] {
        // SAFETY: neither call has a pointer. The handle is null or invalid if there is none, and the second call then fails.
        unsafe { SetHandleInformation(GetStdHandle(number), HANDLE_FLAG_INHERIT, 0) };
    }
}

#[cfg(test)]
mod tests {
    use windows_sys::Win32::Foundation::GetHandleInformation;

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "std does not tell the inheritance of handles")]
    fn no_standard_handle_is_inherited_any_more() {
        keep_from_children();
        for number in [STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE] {
            let mut flags = 0;
            // SAFETY: `flags` is a variable of this function.
            let told = unsafe { GetHandleInformation(GetStdHandle(number), &raw mut flags) };
            assert!(told == 0 || flags & HANDLE_FLAG_INHERIT == 0, "{number:#x} is inherited");
        }
    }
}
