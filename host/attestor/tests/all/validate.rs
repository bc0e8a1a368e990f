//! `docker-attestor validate` as a process: arguments, standard input, exit codes.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_docker-attestor");

/// Runs the program with a text on its standard input.
fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The program may refuse its arguments before it reads.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn validated(arguments: &[&str], input: &[u8]) -> (String, String, i32) {
    let Output { status, stdout, stderr } = run(&[&["validate"], arguments].concat(), input);
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), status.code().unwrap())
}

#[test]
fn a_file_is_named_in_two_ways_and_a_dash_is_standard_input() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "docker_version = \"1.41\"").unwrap();
    let path = file.path().to_str().unwrap();
    for arguments in [&[path] as &[&str], &["--config", path]] {
        let (out, _, code) = validated(arguments, b"");
        assert!(out.starts_with(&format!("{path}: valid (a plugin_data file)\n")) && code == 0, "{out}");
    }
    for arguments in [&["-"] as &[&str], &["--config", "-"]] {
        let (out, _, code) = validated(arguments, b"docker_version = 1.4");
        assert!(out.contains("<stdin>:1:18: error: docker_version: expected a string\n") && code == 1, "{out}");
    }
    for (arguments, part) in [(&[] as &[&str], "<FILE>"), (&[path, "--config", path], "cannot be used with")] {
        let (_, error, code) = validated(arguments, b"");
        assert!(error.contains(part) && code == 2, "{error}");
    }
}

#[test]
fn the_program_knows_itself_in_an_agent_conf() {
    let conf = |program: &str| format!("plugins {{ WorkloadAttestor \"shadow\" {{ plugin_cmd = {program:?} }} }}");
    let (out, _, code) = validated(&["--plugin", "shadow", "-"], conf(PROGRAM).as_bytes());
    assert!(out.contains("warning: plugin_checksum is missing") && code == 0, "{out}");
    let other = std::env::current_exe().unwrap();
    let (out, _, code) = validated(&["--plugin", "shadow", "-"], conf(other.to_str().unwrap()).as_bytes());
    assert!(out.contains("is another") && !out.contains(": valid (a plugin_data"), "{out}");
    assert!(code == 1 || out.contains("another build"), "{out}");
}

#[test]
fn standard_input_without_end_is_read_up_to_the_limit() {
    let (_, error, code) = validated(&["-"], &vec![b'#'; (1 << 20) + 1]);
    assert_eq!((error.as_str(), code), ("docker-attestor: <stdin> is larger than 1048576 bytes\n", 2));
}

#[test]
fn other_commands_show_what_is_wrong_in_the_same_way() {
    for arguments in
        [&["attest", "--pid", "1", "--config", "-"] as &[&str], &["explain", "--pid", "1", "--config", "-"]]
    {
        let output = run(arguments, b"docker_versoin = \"1.41\"\ndocker_version = true");
        let error = String::from_utf8(output.stderr).unwrap();
        for part in
            ["<stdin>:1:1: error: unknown key docker_versoin\n", "did you mean docker_version?", "<stdin>:2:18: error"]
        {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(output.status.code(), Some(1));
    }
}
