//! The process at the other end of a TCP connection of this machine.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use windows_sys::Win32::Foundation::ERROR_INSUFFICIENT_BUFFER;
use windows_sys::Win32::NetworkManagement::IpHelper::{
    GetExtendedTcpTable, MIB_TCPROW_OWNER_PID, TCP_TABLE_OWNER_PID_CONNECTIONS,
};
use windows_sys::Win32::Networking::WinSock::AF_INET;

use crate::limits::TCP_TABLE;

/// The id of the process whose socket has the address `peer` and is connected to `local`. `None` if the system lists no such connection.
pub(super) fn process_of(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
    let (SocketAddr::V4(peer), SocketAddr::V4(local)) = (peer, local) else { return Ok(None) };
    let table = table()?;
    let row = rows(&table).find(|row| {
        address(row.dwLocalAddr, row.dwLocalPort) == peer && address(row.dwRemoteAddr, row.dwRemotePort) == local
    });
    // A connection that its process has closed belongs to process 0.
    Ok(row.map(|row| row.dwOwningPid).filter(|&process| process != 0))
}

/// The system's table of TCP connections: their number, and a row of [`MIB_TCPROW_OWNER_PID`] for each.
#[expect(unsafe_code, reason = "no crate of ours wraps GetExtendedTcpTable")]
fn table() -> io::Result<Vec<u32>> {
    let mut bytes: u32 = 16 << 10;
    loop {
        let mut table = vec![0_u32; bytes.div_ceil(4) as usize];
        // SAFETY: at most `bytes` bytes are written to `table`, which has at least so many.
        let code = unsafe {
            GetExtendedTcpTable(
                table.as_mut_ptr().cast(),
                &raw mut bytes,
                0,
                u32::from(AF_INET),
                TCP_TABLE_OWNER_PID_CONNECTIONS,
                0,
            )
        };
        match code {
            0 => return Ok(table),
            // The call says how many bytes it needs. Some room to spare for connections that come meanwhile.
            ERROR_INSUFFICIENT_BUFFER if bytes < TCP_TABLE => bytes = bytes.saturating_add(16 << 10).min(TCP_TABLE),
            code => return Err(io::Error::from_raw_os_error(code.cast_signed())),
        }
    }
}

/// The rows of a table, as many as it says and has.
fn rows(table: &[u32]) -> impl Iterator<Item = MIB_TCPROW_OWNER_PID> {
    let (number, rows) = table.split_first().unwrap_or((&0, &[]));
    rows.as_chunks::<6>().0.iter().take(*number as usize).map(|row| {
        let [state, local, local_port, remote, remote_port, process] = *row;
        MIB_TCPROW_OWNER_PID {
            dwState: state,
            dwLocalAddr: local,
            dwLocalPort: local_port,
            dwRemoteAddr: remote,
            dwRemotePort: remote_port,
            dwOwningPid: process,
        }
    })
}

/// An address of the table. Address and port stand there in the network's order, and the port in the lower half of its word.
fn address(ip: u32, port: u32) -> SocketAddrV4 {
    let [high, low, ..] = port.to_le_bytes();
    SocketAddrV4::new(Ipv4Addr::from(ip.to_le_bytes()), u16::from_be_bytes([high, low]))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_process_at_the_other_end_is_told() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        // Before that wine does not know whose socket it is.
        client.write_all(b"x").unwrap();
        let (server, peer) = listener.accept().unwrap();
        let local = server.local_addr().unwrap();
        assert_eq!(process_of(peer, local).unwrap(), Some(std::process::id()));
        // The other end of another connection is no answer.
        assert_eq!(process_of(peer, client.local_addr().unwrap()).unwrap(), None);
        assert_eq!(process_of(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), local).unwrap(), None);
    }

    #[test]
    fn a_table_that_is_shorter_than_it_says_has_the_rows_that_are_there() {
        let row = [5, 0x0100_007f, 0x0000_1027, 0x0100_007f, 0x0000_1127, 42];
        let table: Vec<u32> = [1_000].into_iter().chain(row).chain([7, 7]).collect();
        let found: Vec<_> = rows(&table).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].dwOwningPid, 42);
        assert_eq!(address(found[0].dwLocalAddr, found[0].dwLocalPort).to_string(), "127.0.0.1:10000");
        assert_eq!(rows(&[]).count() + rows(&[0]).count() + rows(&[3, 1, 2]).count(), 0);
    }
}
