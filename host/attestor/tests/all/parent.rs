//! The plugin stops when the process that started it has ended.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

#[test]
fn the_plugin_stops_in_order_when_its_parent_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (sockets, pid) = (folder.path().join("sockets"), folder.path().join("pid"));
    fs::create_dir(&sockets).unwrap();
    let mut shell = Command::new("sh")
        .args(["-c", "\"$0\" & echo $! >\"$1\"; wait", env!("CARGO_BIN_EXE_docker-attestor")])
        .arg(&pid)
        .env("WorkloadAttestor", "WorkloadAttestor")
        .env("PLUGIN_UNIX_SOCKET_DIR", &sockets)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(shell.stdout.take().unwrap());
    let mut handshake = String::new();
    stdout.read_line(&mut handshake).unwrap();
    assert!(handshake.starts_with("1|1|unix|"), "{handshake}");
    // The plugin is the last process that holds stdout, so stdout is closed when the plugin ends.
    let (ended, end) = mpsc::channel();
    let reads = move || ended.send(stdout.read_to_end(&mut Vec::new()));
    std::thread::Builder::new().spawn(reads).unwrap();
    assert!(end.recv_timeout(Duration::from_millis(300)).is_err(), "the plugin ended before its parent");
    assert_eq!(fs::read_dir(&sockets).unwrap().count(), 1);

    shell.kill().unwrap();
    shell.wait().unwrap();
    if end.recv_timeout(Duration::from_secs(5)).is_err() {
        let pid = fs::read_to_string(&pid).unwrap().trim().parse().ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        panic!("the plugin still ran 5 s after its parent was killed");
    }
    assert_eq!(fs::read_dir(&sockets).unwrap().count(), 0, "the socket's directory is still there");
}
