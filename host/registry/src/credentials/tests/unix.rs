//! Helpers that are shell scripts, and the places of files on Unix.

use std::io::Write as _;
use std::time::{Duration, Instant};

use rustix::process::getuid;

use super::*;

impl Home {
    /// A shell writes it: a script that this process has open for writing cannot be run meanwhile, and other tests fork.
    fn helper(&self, name: &str, script: &str) -> &Home {
        let path = self.path(&format!("docker-credential-{name}"));
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "cat > \"$0\" && chmod 755 \"$0\"", &path])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        shell.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
        self
    }
}

#[tokio::test]
async fn without_files_there_is_nobody() {
    let home = Home::new();
    assert!(home.find("r.example/app").await.unwrap().is_none());
    home.write("docker/config.json", "\n").write("auth.json", "{}");
    assert!(home.find("r.example/app").await.unwrap().is_none());
    // Of users that have no home.
    let keyring = Keyring::new(BTreeMap::new(), &|name| match name {
        "HOME" | "XDG_RUNTIME_DIR" => Some("/dev/null".into()),
        _ => None,
    });
    assert!(keyring.find(&repository("r.example/app")).await.unwrap().is_none());
}

#[test]
fn the_files_are_looked_at_in_the_order_of_the_manual() {
    let with = |variables: &[(&str, &str)]| {
        let files = files(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()));
        files.into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
    };
    let of_user = format!("/run/containers/{}/auth.json", getuid().as_raw());
    assert_eq!(with(&[]), [of_user.as_str()]);
    assert_eq!(
        with(&[("HOME", "/home/u")]),
        ["/home/u/.docker/config.json", &of_user, "/home/u/.config/containers/auth.json"]
    );
    let all = [("HOME", "/h"), ("DOCKER_CONFIG", "/d"), ("XDG_RUNTIME_DIR", "/r"), ("XDG_CONFIG_HOME", "/c")];
    assert_eq!(with(&all), ["/d/config.json", "/r/containers/auth.json", "/c/containers/auth.json"]);
    let named = [all.as_slice(), &[("REGISTRY_AUTH_FILE", "/named")]].concat();
    assert_eq!(with(&named), ["/d/config.json", "/named"]);
}

#[tokio::test]
async fn the_nearest_scope_of_a_repository_counts() {
    let home = Home::new();
    home.helper("never", "echo called >&2; exit 1");
    let auths =
        [("r.example", "all"), ("r.example/team", "team"), ("r.example/team/app", "app"), ("r.example/v1", "v1")]
            .map(|(key, user)| format!(r#""{key}":{}"#, auth(user)))
            .join(",");
    home.write("auth.json", &format!(r#"{{"auths":{{{auths}}}}}"#));
    for (name, user) in [
        ("r.example/team/app", "app"),
        ("r.example/team/app/part", "app"),
        ("r.example/team/other", "team"),
        ("r.example/teams/app", "all"),
        ("r.example/v1", "v1"),
        ("r.example/other", "all"),
    ] {
        assert_eq!(home.user(name).await.as_deref(), Some(user), "{name}");
    }
    // Without a scheme it is no version of an API.
    home.write("docker/config.json", &format!(r#"{{"auths":{{"s.example/v1":{}}}}}"#, auth("v1")));
    assert_eq!(home.user("s.example/other").await, None);
    // A scope is more than the registry's helper.
    home.write("auth.json", &format!(r#"{{"credHelpers":{{"r.example":"never"}},"auths":{{{auths}}}}}"#));
    assert_eq!(home.user("r.example/team/app").await.as_deref(), Some("app"));
    assert!(home.find("r.example/other").await.is_err());
}

/// What asks a helper for `key` gets this user; all else is not found.
fn knows(key: &str, user: &str) -> String {
    format!(
        r#"read key; [ "$1" = get ] && [ "$key" = "{key}" ] || {{ echo "credentials not found in native keychain"; exit 1; }}
           echo '{{"ServerURL":"{key}","Username":"{user}","Secret":"{SECRET}"}}'"#
    )
}

#[tokio::test]
async fn the_registrys_helper_comes_before_the_store_and_the_store_before_the_file() {
    let home = Home::new();
    home.helper("own", &knows("r.example", "own")).helper("store", &knows("s.example", "store"));
    let file = format!(
        r#"{{"credHelpers":{{"r.example":"own","t.example":"own"}},"credsStore":"store",
            "auths":{{"r.example":{},"s.example":{{}},"t.example":{}}}}}"#,
        auth("file"),
        auth("file")
    );
    home.write("docker/config.json", &file);
    assert_eq!(home.user("r.example/app").await.as_deref(), Some("own"));
    assert_eq!(home.user("s.example/app").await.as_deref(), Some("store"));
    assert_eq!(home.user("t.example/app").await.as_deref(), Some("file"));
    assert_eq!(home.user("u.example/app").await, None);
}

#[tokio::test]
async fn helpers_know_docker_hub_by_the_key_of_docker_or_as_it_is_written() {
    let home = Home::new();
    home.helper("store", &knows(HUB_KEY, "store")).helper("own", &knows("docker.io", "own"));
    home.write("docker/config.json", r#"{"credsStore":"store"}"#);
    assert_eq!(home.user("busybox").await.as_deref(), Some("store"));
    home.write("docker/config.json", r#"{"credHelpers":{"docker.io":"own"}}"#);
    assert_eq!(home.user("busybox").await.as_deref(), Some("own"));
}

#[tokio::test]
async fn every_form_of_an_entry_is_understood() {
    let padded = STANDARD.encode(format!("u:{SECRET}\0\0"));
    for (entry, login) in [
        (format!(r#"{{"username":"u","password":"{SECRET}"}}"#), password("u")),
        (format!(r#"{{"auth":"{padded}","email":"u@example"}}"#), password("u")),
        (r#"{"auth":"dTo=","identitytoken":"hunter2"}"#.to_owned(), Login::Identity(SECRET.to_owned())),
        (r#"{"registrytoken":"hunter2"}"#.to_owned(), Login::Bearer(SECRET.to_owned())),
    ] {
        let home = Home::new();
        home.write("docker/config.json", &format!(r#"{{"auths":{{"r.example":{entry}}},"HttpHeaders":{{"a":"b"}}}}"#));
        assert!(home.find("r.example/app").await.unwrap() == Some(login), "{entry}");
    }
    let home = Home::new();
    home.helper("id", r#"echo '{"Username":"<token>","Secret":"hunter2"}'"#);
    home.write("docker/config.json", r#"{"credsStore":"id"}"#);
    assert!(home.find("r.example/app").await.unwrap() == Some(Login::Identity(SECRET.to_owned())));
}

#[tokio::test]
async fn a_file_that_is_malformed_is_named_without_its_content() {
    let home = Home::new();
    for text in [
        "hunter2",
        r#"{"auths":{"r.example":{"auth":"hunter2"#,
        r#"{"auths":{"r.example":"hunter2"}}"#,
        r#"{"auths":{"r.example":{"auth":["hunter2"]}}}"#,
        r#"{"auths":{"r.example":{"auth":"hunter2!"}}}"#,
        // base64 of "hunter2", without a colon
        r#"{"auths":{"r.example":{"auth":"aHVudGVyMg=="}}}"#,
    ] {
        home.write("docker/config.json", text);
        let error = home.find("r.example/app").await.err().unwrap();
        assert!(error.starts_with(&home.path("docker/config.json")), "{error}");
        assert!(!error.contains("aHVudGVyMg"), "{error}");
    }
    home.write("docker/config.json", &" ".repeat((1 << 20) + 1));
    assert!(home.find("r.example/app").await.err().unwrap().ends_with("larger than 1048576 bytes"));
    std::fs::remove_file(home.path("docker/config.json")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(home.path("docker/config.json")).status().unwrap().success());
    assert!(home.find("r.example/app").await.err().unwrap().ends_with("not a regular file"));
}

#[tokio::test]
async fn a_helper_that_fails_is_named_without_what_it_printed() {
    for (script, why) in [
        ("echo hunter2; echo hunter2 >&2; exit 1", "docker-credential-h failed"),
        ("echo hunter2", "docker-credential-h answers something else than credentials"),
        ("echo '{\"Username\":\"hunter2\"}'", "docker-credential-h answers something else than credentials"),
        ("exit 0", "docker-credential-h answers something else than credentials"),
        ("while :; do echo hunter2hunter2hunter2; done", "docker-credential-h"),
        ("kill -9 $$", "docker-credential-h failed"),
    ] {
        let home = Home::new();
        home.helper("h", script).write("docker/config.json", r#"{"credsStore":"h"}"#);
        let error = home.find("r.example/app").await.err().unwrap();
        assert!(error.contains(why), "{script}: {error}");
    }
    for name in ["missing", "../h", "a b", "h;id", ""] {
        let home = Home::new();
        home.write("docker/config.json", &format!(r#"{{"credHelpers":{{"r.example":"{name}"}}}}"#));
        assert!(home.find("r.example/app").await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn a_helper_that_hangs_is_killed_with_all_that_it_started() {
    let home = Home::new();
    home.helper("h", "sleep 300 & echo $! > \"$0.pid\"; wait").write("docker/config.json", r#"{"credsStore":"h"}"#);
    let error = home.find("r.example/app").await.err().unwrap();
    assert!(error.ends_with("docker-credential-h does not answer within 5 s"), "{error}");
    let pid = std::fs::read_to_string(home.path("docker-credential-h.pid")).unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    let before = Instant::now();
    // Where nobody waits for orphans it stays a zombie.
    while !state().is_empty() && !state().contains(") Z ") {
        assert!(before.elapsed() < Duration::from_secs(5), "{}", state());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_a_helper_leaves_running_does_not_hold_us_up() {
    let home = Home::new();
    home.helper("h", &format!("sleep 300 & echo $! > \"$0.pid\"\n{}", knows("r.example", "u")));
    home.write("docker/config.json", r#"{"credsStore":"h"}"#);
    let before = Instant::now();
    assert_eq!(home.user("r.example/app").await.as_deref(), Some("u"));
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
    // It may be an agent that others use.
    let pid = std::fs::read_to_string(home.path("docker-credential-h.pid")).unwrap();
    assert!(std::process::Command::new("kill").arg(pid.trim()).status().unwrap().success());
}
