//! Safe forms of the calls of Windows that this crate needs. Each handle is owned, and every length that comes back is checked.

#![expect(unsafe_code, reason = "no crate of ours wraps these calls of Win32 and ntdll safely")]

use std::ffi::{OsString, c_void};
use std::io;
use std::os::windows::ffi::OsStringExt as _;
use std::os::windows::io::{AsRawHandle, FromRawHandle as _, OwnedHandle, RawHandle};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use windows_sys::Wdk::Foundation::{NtQueryObject, OBJECT_INFORMATION_CLASS, ObjectTypeInformation};
use windows_sys::Wdk::System::SystemInformation::NtQuerySystemInformation;
use windows_sys::Wdk::System::Threading::{NtQueryInformationProcess, ProcessHandleInformation};
use windows_sys::Win32::Foundation::{
    DuplicateHandle, ERROR_ACCESS_DENIED, ERROR_INVALID_HANDLE, ERROR_INVALID_PARAMETER, ERROR_NO_MORE_FILES,
    GetLastError, HANDLE, INVALID_HANDLE_VALUE, LocalFree, NTSTATUS, RtlNtStatusToDosError,
    STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_INFO_CLASS, UNICODE_STRING, WAIT_TIMEOUT,
};
use windows_sys::Win32::Security::Authorization::{GetSecurityInfo, SE_KERNEL_OBJECT};
use windows_sys::Win32::Security::{
    AdjustTokenPrivileges, GetLengthSid, GetTokenInformation, LUID_AND_ATTRIBUTES, LookupPrivilegeValueW,
    OWNER_SECURITY_INFORMATION, PSID, SE_DEBUG_NAME, SE_PRIVILEGE_ENABLED, SID_AND_ATTRIBUTES, TOKEN_ADJUST_PRIVILEGES,
    TOKEN_GROUPS, TOKEN_INFORMATION_CLASS, TOKEN_PRIVILEGES, TOKEN_QUERY, TOKEN_USER, TokenGroups, TokenUser,
};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::JobObjects::IsProcessInJob;
use windows_sys::Win32::System::Pipes::GetNamedPipeServerProcessId;
use windows_sys::Win32::System::SystemInformation::GetSystemDirectoryW;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessId, GetProcessTimes, OpenProcess, OpenProcessToken, PROCESS_NAME_WIN32,
    QueryFullProcessImageNameW, WaitForSingleObject,
};

use super::account::{Account, Sid};
use crate::limits;

/// The right to ask a job object which processes it has (winnt.h).
const JOB_OBJECT_QUERY: u32 = 4;
/// `ObjectNameInformation` of NtQueryObject, which Microsoft's bindings leave out.
const OBJECT_NAME_INFORMATION: OBJECT_INFORMATION_CLASS = 1;
/// `SystemExtendedHandleInformation` of NtQuerySystemInformation, which Microsoft's bindings leave out.
const SYSTEM_EXTENDED_HANDLE_INFORMATION: i32 = 64;
/// Bytes of one entry of either handle table. In both a header of two words stands before the entries, the first of which is
/// their number.
const HANDLE_ENTRY: usize = 40;
const HANDLE_HEADER: usize = 16;

fn raw(handle: &impl AsRawHandle) -> HANDLE {
    handle.as_raw_handle()
}

/// Takes a handle that a call made for its caller.
///
/// # Safety
/// No one else owns the handle.
unsafe fn owned(handle: HANDLE) -> OwnedHandle {
    // SAFETY: the caller's obligation.
    unsafe { OwnedHandle::from_raw_handle(handle as RawHandle) }
}

fn status(status: NTSTATUS) -> io::Error {
    // SAFETY: translates a number.
    let code = unsafe { RtlNtStatusToDosError(status) };
    io::Error::from_raw_os_error(code.cast_signed())
}

/// Opens a process. `None` if no process has the pid. The access includes PROCESS_QUERY_LIMITED_INFORMATION or
/// PROCESS_QUERY_INFORMATION.
pub(crate) fn open_process(pid: u32, access: u32) -> io::Result<Option<OwnedHandle>> {
    // SAFETY: takes numbers only.
    let handle = unsafe { OpenProcess(access, 0, pid) };
    if handle.is_null() {
        let error = io::Error::last_os_error();
        return match error.raw_os_error().map(i32::cast_unsigned) {
            Some(ERROR_INVALID_PARAMETER) => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: OpenProcess made the handle.
    let process = unsafe { owned(handle) };
    // Windows passes over the two lowest bits of a pid, which are 0 in every pid.
    // SAFETY: the handle is open.
    let opened = unsafe { GetProcessId(raw(&process)) };
    Ok((opened == pid).then_some(process))
}

/// Whether the operating system refused for a lack of rights.
pub(crate) fn is_denied(error: &io::Error) -> bool {
    error.raw_os_error().map(i32::cast_unsigned) == Some(ERROR_ACCESS_DENIED)
}

/// Whether a process still runs. The handle needs SYNCHRONIZE.
pub(crate) fn is_running(process: &OwnedHandle) -> bool {
    // SAFETY: the handle is open, and the call does not wait.
    unsafe { WaitForSingleObject(raw(process), 0) == WAIT_TIMEOUT }
}

/// When a process was created, in units of 100 ns since 1601. The handle needs PROCESS_QUERY_LIMITED_INFORMATION.
pub(crate) fn creation_time(process: &OwnedHandle) -> io::Result<u64> {
    let mut times = [windows_sys::Win32::Foundation::FILETIME::default(); 4];
    let [created, exited, kernel, user] = &mut times;
    // SAFETY: the handle is open, and the four places outlive the call.
    match unsafe { GetProcessTimes(raw(process), created, exited, kernel, user) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(u64::from(created.dwHighDateTime) << 32 | u64::from(created.dwLowDateTime)),
    }
}

/// The path of the program that a process runs. The handle needs PROCESS_QUERY_LIMITED_INFORMATION.
pub(crate) fn image_path(process: &OwnedHandle) -> io::Result<OsString> {
    let mut path = vec![0_u16; limits::WINDOWS_PATH];
    let mut length = u32::try_from(path.len()).unwrap_or(u32::MAX);
    // SAFETY: the handle is open, and at most `length` units are written to `path`, which has so many.
    if unsafe { QueryFullProcessImageNameW(raw(process), PROCESS_NAME_WIN32, path.as_mut_ptr(), &raw mut length) } == 0
    {
        return Err(io::Error::last_os_error());
    }
    Ok(OsString::from_wide(path.get(..length as usize).unwrap_or_default()))
}

/// The directory of Windows' own programs, such as C:\Windows\system32.
pub(crate) fn system_directory() -> io::Result<OsString> {
    let mut path = vec![0_u16; limits::WINDOWS_PATH];
    let size = u32::try_from(path.len()).unwrap_or(u32::MAX);
    // SAFETY: at most `size` units are written to `path`, which has so many.
    let length = unsafe { GetSystemDirectoryW(path.as_mut_ptr(), size) };
    match path.get(..length as usize) {
        Some(path) if length > 0 => Ok(OsString::from_wide(path)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The pids of the processes whose program's file has this name, whatever the case of its letters.
pub(crate) fn pids_of_program(name: &str) -> io::Result<Vec<u32>> {
    // SAFETY: takes numbers only.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made the handle.
    let snapshot = unsafe { owned(snapshot) };
    let mut entry = PROCESSENTRY32W { dwSize: size_of::<PROCESSENTRY32W>() as u32, ..PROCESSENTRY32W::default() };
    let mut pids = Vec::new();
    // SAFETY: the handle is open, and `entry` says how large it is.
    let mut more = unsafe { Process32FirstW(raw(&snapshot), &raw mut entry) };
    while more != 0 {
        let end = entry.szExeFile.iter().position(|&unit| unit == 0).unwrap_or(entry.szExeFile.len());
        let program = String::from_utf16_lossy(entry.szExeFile.get(..end).unwrap_or_default());
        if program.eq_ignore_ascii_case(name) {
            pids.push(entry.th32ProcessID);
        }
        // SAFETY: as above.
        more = unsafe { Process32NextW(raw(&snapshot), &raw mut entry) };
    }
    // SAFETY: reads the number of the last error.
    match unsafe { GetLastError() } {
        ERROR_NO_MORE_FILES => Ok(pids),
        code => Err(io::Error::from_raw_os_error(code.cast_signed())),
    }
}

/// The account that a process runs as. The handle needs PROCESS_QUERY_LIMITED_INFORMATION.
pub(crate) fn account(process: &OwnedHandle) -> io::Result<Account> {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: the handle is open, and `token` outlives the call.
    if unsafe { OpenProcessToken(raw(process), TOKEN_QUERY, &raw mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made the handle.
    let token = unsafe { owned(token) };
    let user = token_information(&token, TokenUser)?;
    let groups = token_information(&token, TokenGroups)?;
    // SAFETY: TokenUser is a TOKEN_USER, whose SID lies in the same buffer. The buffer is aligned for it.
    let user = unsafe { sid((*user.as_ptr().cast::<TOKEN_USER>()).User.Sid) };
    let header = groups.as_ptr().cast::<TOKEN_GROUPS>();
    // SAFETY: TokenGroups is a TOKEN_GROUPS: a number, and so many entries, whose SIDs lie in the same buffer.
    let groups = unsafe {
        let first: *const SID_AND_ATTRIBUTES = (&raw const (*header).Groups).cast();
        std::slice::from_raw_parts(first, (*header).GroupCount as usize)
    };
    // SAFETY: each entry has a SID.
    let groups = groups.iter().map(|group| unsafe { (sid(group.Sid), group.Attributes) });
    Ok(Account { user, groups: groups.collect() })
}

/// Some information of a token, in a buffer that is aligned for it.
fn token_information(token: &OwnedHandle, class: TOKEN_INFORMATION_CLASS) -> io::Result<Vec<u64>> {
    let mut length = 0_u32;
    // SAFETY: without a buffer the call only says how many bytes it would write.
    unsafe { GetTokenInformation(raw(token), class, ptr::null_mut(), 0, &raw mut length) };
    if length == 0 || length as usize > limits::TOKEN {
        return Err(io::Error::other("a token that is malformed or too large"));
    }
    let mut buffer = vec![0_u64; (length as usize).div_ceil(8)];
    // SAFETY: at most `length` bytes are written to `buffer`, which has at least so many.
    match unsafe { GetTokenInformation(raw(token), class, buffer.as_mut_ptr().cast(), length, &raw mut length) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(buffer),
    }
}

/// Copies a SID.
///
/// # Safety
/// The pointer is null or points to a valid SID.
unsafe fn sid(pointer: PSID) -> Sid {
    if pointer.is_null() {
        return Sid::default();
    }
    // SAFETY: the caller's obligation.
    let length = unsafe { GetLengthSid(pointer) } as usize;
    // SAFETY: a SID has so many bytes.
    Sid::new(unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), length) })
}

/// The owner of a kernel object, such as the account that made a named pipe. The handle needs READ_CONTROL.
pub(crate) fn owner(object: &impl AsRawHandle) -> io::Result<Sid> {
    let (mut owner, mut descriptor) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the handle is open, and both places outlive the call.
    let code = unsafe {
        GetSecurityInfo(
            raw(object),
            SE_KERNEL_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &raw mut owner,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut descriptor,
        )
    };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code.cast_signed()));
    }
    // SAFETY: `owner` points into the descriptor, which is freed afterwards and only here.
    unsafe {
        let owner = sid(owner);
        LocalFree(descriptor);
        Ok(owner)
    }
}

/// The pid of the process at the serving end of a named pipe.
pub(crate) fn server_of_pipe(pipe: &impl AsRawHandle) -> io::Result<u32> {
    let mut pid = 0;
    // SAFETY: the handle is open, and `pid` outlives the call.
    match unsafe { GetNamedPipeServerProcessId(raw(pipe), &raw mut pid) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(pid),
    }
}

/// The values of the handles that a process holds. The handle of the process needs PROCESS_QUERY_INFORMATION.
pub(crate) fn handle_values(process: &OwnedHandle, pid: u32) -> io::Result<Vec<usize>> {
    let of_process = table(|buffer, bytes, length| {
        // SAFETY: the handle is open, and at most `bytes` bytes are written to `buffer`.
        unsafe { NtQueryInformationProcess(raw(process), ProcessHandleInformation, buffer, bytes, length) }
    });
    match of_process {
        Ok(table) => values(&table, 0, |_| true),
        // Wine 8 shows only the handles of all processes together.
        Err(STATUS_INVALID_INFO_CLASS) => {
            let of_all = table(|buffer, bytes, length| {
                // SAFETY: at most `bytes` bytes are written to `buffer`.
                unsafe { NtQuerySystemInformation(SYSTEM_EXTENDED_HANDLE_INFORMATION, buffer, bytes, length) }
            });
            values(&of_all.map_err(status)?, 16, |entry| word(entry, 8) == Some(pid as usize))
        }
        Err(code) => Err(status(code)),
    }
}

/// Reads a table whose size changes meanwhile.
fn table(mut query: impl FnMut(*mut c_void, u32, *mut u32) -> NTSTATUS) -> Result<Vec<u64>, NTSTATUS> {
    let mut bytes = limits::HANDLE_TABLE_FIRST;
    loop {
        let mut buffer = vec![0_u64; bytes.div_ceil(8)];
        let mut length = 0_u32;
        let code = query(buffer.as_mut_ptr().cast(), u32::try_from(bytes).unwrap_or(u32::MAX), &raw mut length);
        match code {
            0.. => return Ok(buffer),
            // Some room to spare for handles that are opened meanwhile.
            STATUS_INFO_LENGTH_MISMATCH if bytes < limits::HANDLE_TABLE => {
                bytes = (bytes * 2).max(length as usize + (64 << 10)).min(limits::HANDLE_TABLE);
            }
            code => return Err(code),
        }
    }
}

/// The handle values of a table's entries that are `wanted`. `at` is where in an entry the value stands.
fn values(table: &[u64], at: usize, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<usize>> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "the table of handles is shorter than it says");
    let bytes: Vec<u8> = table.iter().flat_map(|word| word.to_le_bytes()).collect();
    let number = word(&bytes, 0).ok_or_else(malformed)?;
    let end = number.checked_mul(HANDLE_ENTRY).and_then(|length| length.checked_add(HANDLE_HEADER));
    let entries = end.and_then(|end| bytes.get(HANDLE_HEADER..end)).ok_or_else(malformed)?;
    let entries = entries.chunks_exact(HANDLE_ENTRY).filter(|entry| wanted(entry));
    Ok(entries.filter_map(|entry| word(entry, at)).collect())
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..at.checked_add(8)?)?;
    usize::try_from(u64::from_le_bytes(word.try_into().ok()?)).ok()
}

/// A handle of our own on the job object that another process holds under this value, with no right but to ask it about its
/// processes. `None` if the value is no handle there, or a handle of something else.
pub(crate) fn duplicate_job(process: &OwnedHandle, value: usize) -> io::Result<Option<OwnedHandle>> {
    // Without any right it may be a handle of anything. The name of another object, such as a pipe, must not be asked for: that call
    // may hang.
    let is_job = |handle: OwnedHandle| text_of_object(&handle, ObjectTypeInformation).is_ok_and(|name| name == "Job");
    match duplicate(process, value, 0).is_ok_and(is_job) {
        true => match duplicate(process, value, JOB_OBJECT_QUERY) {
            // The process has closed it meanwhile.
            Err(error) if error.raw_os_error().map(i32::cast_unsigned) == Some(ERROR_INVALID_HANDLE) => Ok(None),
            job => job.map(Some),
        },
        false => Ok(None),
    }
}

fn duplicate(process: &OwnedHandle, value: usize, access: u32) -> io::Result<OwnedHandle> {
    let mut handle: HANDLE = ptr::null_mut();
    // SAFETY: the process's handle is open, and the value is only looked up in its table. `handle` outlives the call.
    let duplicated =
        unsafe { DuplicateHandle(raw(process), value as HANDLE, GetCurrentProcess(), &raw mut handle, access, 0, 0) };
    match duplicated {
        0 => Err(io::Error::last_os_error()),
        // SAFETY: the call made the handle.
        _ => Ok(unsafe { owned(handle) }),
    }
}

/// The name of a job object; empty if it has none.
pub(crate) fn name_of_job(job: &OwnedHandle) -> io::Result<String> {
    text_of_object(job, OBJECT_NAME_INFORMATION)
}

/// The text with which the information of an object begins.
fn text_of_object(object: &OwnedHandle, class: OBJECT_INFORMATION_CLASS) -> io::Result<String> {
    // The text of a UNICODE_STRING has at most 65,535 bytes. It follows the structure in the same buffer.
    let mut buffer = vec![0_u64; (size_of::<UNICODE_STRING>() + 1024) / 8];
    let mut length = 0_u32;
    let mut query = |buffer: &mut Vec<u64>| {
        let bytes = u32::try_from(buffer.len() * 8).unwrap_or(0);
        // SAFETY: the handle is open, and at most `bytes` bytes are written to `buffer`.
        unsafe { NtQueryObject(raw(object), class, buffer.as_mut_ptr().cast(), bytes, &raw mut length) }
    };
    let mut code = query(&mut buffer);
    if code < 0 {
        buffer = vec![0_u64; (size_of::<UNICODE_STRING>() + (66 << 10)) / 8];
        code = query(&mut buffer);
    }
    if code < 0 {
        return Err(status(code));
    }
    // SAFETY: both classes begin with a UNICODE_STRING, for which the buffer is aligned.
    let UNICODE_STRING { Length: bytes, Buffer: text, .. } = unsafe { *buffer.as_ptr().cast::<UNICODE_STRING>() };
    if bytes == 0 {
        return Ok(String::new());
    }
    let start = (text as usize).checked_sub(buffer.as_ptr() as usize);
    let all: Vec<u8> = buffer.iter().flat_map(|word| word.to_le_bytes()).collect();
    let text = start.and_then(|start| all.get(start..start.checked_add(usize::from(bytes))?));
    let text =
        text.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a name that lies outside of its buffer"))?;
    let units: Vec<u16> = text.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    Ok(String::from_utf16_lossy(&units))
}

/// Whether a process is in a job. The process's handle needs PROCESS_QUERY_LIMITED_INFORMATION, and under wine
/// PROCESS_QUERY_INFORMATION.
pub(crate) fn is_in_job(process: &OwnedHandle, job: &OwnedHandle) -> io::Result<bool> {
    let mut inside = 0;
    // SAFETY: both handles are open, and `inside` outlives the call.
    match unsafe { IsProcessInJob(raw(process), raw(job), &raw mut inside) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(inside != 0),
    }
}

/// The privilege to open the processes of other accounts (SeDebugPrivilege), which is on only while it is used. spire-agent 1.15.2
/// and later has it on, and a plugin inherits that.
#[derive(Debug, Default)]
pub(crate) struct DebugPrivilege(Mutex<()>);

impl DebugPrivilege {
    /// Turns the privilege off, as it should be between uses.
    pub(crate) fn off() -> DebugPrivilege {
        set_debug_privilege(false);
        DebugPrivilege::default()
    }

    /// Does `work` with the privilege on, if this process's token has it.
    pub(crate) fn with<T>(&self, work: impl FnOnce() -> T) -> T {
        let _one_at_a_time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _on = DebugPrivilegeOn::new();
        work()
    }
}

/// Turns the privilege off when it is dropped, also in a panic.
struct DebugPrivilegeOn;

impl DebugPrivilegeOn {
    fn new() -> DebugPrivilegeOn {
        set_debug_privilege(true);
        DebugPrivilegeOn
    }
}

impl Drop for DebugPrivilegeOn {
    fn drop(&mut self) {
        set_debug_privilege(false);
    }
}

/// Turns the privilege on or off. Nothing happens where the token does not have it: the calls that need it are then denied.
fn set_debug_privilege(on: bool) {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: the pseudo handle of this process is always open, and `token` outlives the call.
    if unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_ADJUST_PRIVILEGES, &raw mut token) } == 0 {
        return;
    }
    // SAFETY: the call made the handle.
    let token = unsafe { owned(token) };
    let mut privileges = TOKEN_PRIVILEGES {
        PrivilegeCount: 1,
        Privileges: [LUID_AND_ATTRIBUTES {
            Attributes: if on { SE_PRIVILEGE_ENABLED } else { 0 },
            ..LUID_AND_ATTRIBUTES::default()
        }],
    };
    let [privilege] = &mut privileges.Privileges;
    // SAFETY: the name is a constant text that ends with a NUL, and `privilege` outlives the call.
    if unsafe { LookupPrivilegeValueW(ptr::null(), SE_DEBUG_NAME, &raw mut privilege.Luid) } != 0 {
        // SAFETY: the handle is open, and the call reads `privileges`.
        unsafe { AdjustTokenPrivileges(raw(&token), 0, &raw const privileges, 0, ptr::null_mut(), ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table_of(number: u64, entries: &[[u64; 5]]) -> Vec<u64> {
        [number, 0].into_iter().chain(entries.iter().flatten().copied()).collect()
    }

    #[test]
    fn a_table_that_is_shorter_than_it_says_is_refused() {
        let entries = [[7, 0, 0, 0, 0], [9, 0, 0, 0, 0]];
        assert_eq!(values(&table_of(2, &entries), 0, |_| true).unwrap(), [7, 9]);
        assert_eq!(values(&table_of(1, &entries), 0, |_| true).unwrap(), [7]);
        for number in [3, u64::MAX, u64::MAX / 40, 1 << 60] {
            assert!(values(&table_of(number, &entries), 0, |_| true).is_err(), "{number}");
        }
        assert!(values(&[], 0, |_| true).is_err());
        // Of the table of all processes only the entries of one process are wanted.
        let entries = [[0, 100, 7, 0, 0], [0, 200, 9, 0, 0]];
        let of_process = |pid| values(&table_of(2, &entries), 16, |entry| word(entry, 8) == Some(pid)).unwrap();
        assert_eq!((of_process(200), of_process(300)), (vec![9], vec![]));
    }

    #[test]
    fn this_process_is_known_with_its_program_and_account() {
        let access = windows_sys::Win32::System::Threading::PROCESS_QUERY_LIMITED_INFORMATION
            | windows_sys::Win32::System::Threading::PROCESS_SYNCHRONIZE;
        let own = open_process(std::process::id(), access).unwrap().unwrap();
        assert!(is_running(&own));
        assert!(creation_time(&own).unwrap() > 0);
        let path = image_path(&own).unwrap();
        assert!(path.eq_ignore_ascii_case(std::env::current_exe().unwrap().as_os_str()), "{path:?}");
        assert!(account(&own).unwrap().user.to_string().starts_with("S-1-5-"));
        let name = std::path::Path::new(&path).file_name().unwrap().to_str().unwrap().to_uppercase();
        assert!(pids_of_program(&name).unwrap().contains(&std::process::id()));
        assert!(pids_of_program("no such program.exe").unwrap().is_empty());
        assert!(open_process(0x7fff_fffc, access).unwrap().is_none());
        for bits in 1..4 {
            assert!(open_process(std::process::id() + bits, access).unwrap().is_none(), "no pid has these bits");
        }
    }
}
