//! Who we are to a registry: the configuration's credentials, else those that `docker login` or `podman login` left.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, getuid, kill_process_group};
use serde::Deserialize;
use sigstore_verify::types::PayloadBytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::registry::Repository;
use crate::config::{Credentials, registry_name};
use crate::limits;

/// Docker Hub's name in references, and its key in Docker's configuration.
const HUB: &str = "docker.io";
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Where programs are without a PATH.
const PATH: &str = "/usr/bin:/bin";

/// How to log in.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    Password {
        username: String,
        password: String,
    },
    /// To be traded for an access token.
    Identity(String),
    /// A token for the registry itself.
    Bearer(String),
}

/// Finds credentials.
pub(super) struct Keyring {
    configured: BTreeMap<String, Credentials>,
    files: Vec<PathBuf>,
    /// Where credential helpers are looked for.
    path: OsString,
}

/// A file of `docker login` or `podman login`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl Keyring {
    /// The configured credentials, and the files that the environment names.
    pub(super) fn new(configured: BTreeMap<String, Credentials>, env: &dyn Fn(&str) -> Option<OsString>) -> Keyring {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        Keyring { configured, files: files(&env), path: env("PATH").unwrap_or_else(|| PATH.into()) }
    }

    /// The login for a repository; none: anonymous. An error tells which file or helper is broken, and nothing of what it holds.
    pub(super) async fn find(&self, repository: &Repository) -> Result<Option<Login>, String> {
        if let Some(Credentials { username, password }) = self.configured.get(repository.host()) {
            return Ok(Some(Login::Password { username: username.clone(), password: password.clone() }));
        }
        for path in &self.files {
            if let Some(login) = self.find_in(path, repository).await? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }

    /// What is for the repository or a part of its path comes first (containers-auth.json(5)). For the registry it is Docker's
    /// order: its helper, the store, the file itself, where a store leaves entries without credentials.
    async fn find_in(&self, path: &Path, repository: &Repository) -> Result<Option<Login>, String> {
        let Some(file) = read(path).await.map_err(|why| format!("{}: {why}", path.display()))? else {
            return Ok(None);
        };
        let stored = |name: &str| {
            entries(&file.auths, name)
                .find_map(|(key, auth)| {
                    login(auth).map_err(|why| format!("{}: {key}: {why}", path.display())).transpose()
                })
                .transpose()
        };
        for name in scopes(repository) {
            if let Some(login) = stored(&name)? {
                return Ok(Some(login));
            }
        }
        let host = repository.host();
        if let Some((key, helper)) = entries(&file.cred_helpers, host).next()
            && let Some(login) = ask(helper, key, &self.path).await?
        {
            return Ok(Some(login));
        }
        if !file.creds_store.is_empty()
            && let Some(login) = ask(&file.creds_store, as_written(host), &self.path).await?
        {
            return Ok(Some(login));
        }
        stored(host)
    }
}

/// Docker's file, then those of containers-auth.json(5): one that is named replaces the others.
fn files(env: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let folder = |name: &str| env(name).map(PathBuf::from);
    let in_home = |name: &str| Some(folder("HOME")?.join(name));
    let mut files = Vec::from_iter(folder("DOCKER_CONFIG").or_else(|| in_home(".docker")));
    files.iter_mut().for_each(|folder| folder.push("config.json"));
    if let Some(named) = folder("REGISTRY_AUTH_FILE") {
        files.push(named);
        return files;
    }
    let of_user = || PathBuf::from(format!("/run/containers/{}", getuid().as_raw()));
    files.push(folder("XDG_RUNTIME_DIR").map_or_else(of_user, |folder| folder.join("containers")).join("auth.json"));
    let configuration = folder("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
    files.extend(configuration.map(|folder| folder.join("containers/auth.json")));
    files
}

/// None: there is no such file, or nothing is in it.
async fn read(path: &Path) -> Result<Option<File>, String> {
    // Users without a home have /dev/null or the like for one.
    if let Err(error) = tokio::fs::metadata(path).await
        && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
    {
        return Ok(None);
    }
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || bounded::file::read(&path, limits::LOGIN_FILE));
    let text = reading.await.map_err(|_| "not read".to_owned())?.map_err(|why| why.to_string())?;
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    // The parser's own message would quote what it read.
    let malformed = |error: serde_json::Error| format!("malformed, line {} column {}", error.line(), error.column());
    serde_json::from_slice(&text).map(Some).map_err(malformed)
}

/// The repository, and what is above it.
fn scopes(repository: &Repository) -> impl Iterator<Item = String> {
    std::iter::successors(Some(repository.path()), |path| Some(path.rsplit_once('/')?.0))
        .map(|path| format!("{}/{path}", repository.host()))
}

/// The key that `docker login` writes for a registry.
fn as_written(host: &str) -> &str {
    if host == HUB { HUB_KEY } else { host }
}

/// The entries for a registry or a scope, the one that `docker login` writes first.
fn entries<'a, T>(map: &'a BTreeMap<String, T>, name: &str) -> impl Iterator<Item = (&'a str, &'a T)> {
    let written = as_written(name);
    let others = map.iter().filter(move |(key, _)| *key != written && named(key) == name);
    map.get_key_value(written).into_iter().chain(others).map(|(key, value)| (key.as_str(), value))
}

/// The registry or the scope that a key means: it may have a scheme, and after it the path of an API's version.
fn named(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = bare.unwrap_or(key).split_once('/').unwrap_or((bare.unwrap_or(key), ""));
    let host = registry_name(host);
    match path.trim_end_matches('/') {
        "" => host,
        "v1" | "v2" if bare.is_some() || host == HUB => host,
        path => format!("{host}/{path}"),
    }
}

/// None: an entry without credentials.
fn login(auth: &Auth) -> Result<Option<Login>, String> {
    if !auth.registrytoken.is_empty() {
        return Ok(Some(Login::Bearer(auth.registrytoken.clone())));
    }
    if !auth.identitytoken.is_empty() {
        return Ok(Some(Login::Identity(auth.identitytoken.clone())));
    }
    if !auth.auth.is_empty() {
        let pair =
            PayloadBytes::from_base64(&auth.auth).ok().and_then(|bytes| String::from_utf8(bytes.into_bytes()).ok());
        let (username, password) =
            pair.as_deref().and_then(|pair| pair.split_once(':')).ok_or("auth is not base64 of USER:PASSWORD")?;
        // Docker pads old entries with NULs.
        let password = password.trim_end_matches('\0');
        return Ok(Some(Login::Password { username: username.to_owned(), password: password.to_owned() }));
    }
    let given = !auth.username.is_empty() && !auth.password.is_empty();
    Ok(given.then(|| Login::Password { username: auth.username.clone(), password: auth.password.clone() }))
}

/// Asks a credential helper (<https://github.com/docker/docker-credential-helpers>). It has a few seconds; what it prints is never
/// passed on.
async fn ask(helper: &str, key: &str, path: &OsString) -> Result<Option<Login>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if helper.is_empty() || !helper.bytes().all(fits) {
        return Err("a credential helper's name has other characters than letters, digits, dots, dashes".to_owned());
    }
    let program = format!("docker-credential-{helper}");
    let mut command = Command::new(&program);
    command.arg("get").env("PATH", path);
    let seconds = limits::HELPER.as_secs();
    let (status, output) = tokio::time::timeout(limits::HELPER, run(command, format!("{key}\n")))
        .await
        .map_err(|_| format!("the credential helper {program} does not answer within {seconds} s"))?
        .map_err(|error| format!("the credential helper {program}: {error}"))?;
    if !status.success() {
        // The one failure that means something: it has nothing for this registry.
        return match String::from_utf8_lossy(&output).contains("credentials not found") {
            true => Ok(None),
            false => Err(format!("the credential helper {program} failed")),
        };
    }
    let answer: Answer = serde_json::from_slice(&output)
        .map_err(|_| format!("the credential helper {program} answers something else than credentials"))?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Login::Identity(answer.secret),
        _ => Login::Password { username: answer.username, password: answer.secret },
    }))
}

/// A program and what it started, which end together if they are given up.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Without an id it has ended by itself, and its number may be another's by now.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// How a program ended, and what it printed.
async fn run(mut command: Command, input: String) -> io::Result<(ExitStatus, Vec<u8>)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).process_group(0);
    let mut group = Group(command.spawn()?);
    if let Some(mut stdin) = group.0.stdin.take() {
        // It may end without reading.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let mut output = Vec::new();
    let stdout = group.0.stdout.take();
    let status = {
        let reading = async {
            if let Some(stdout) = stdout {
                let mut stdout = stdout.take(limits::HELPER_OUTPUT);
                while stdout.read_buf(&mut output).await? > 0 {}
            }
            Ok(())
        };
        ended(reading, &mut group.0).await?
    };
    Ok((status, output))
}

/// What a program that has ended printed is here at once; what it started may hold its output open for as long as it likes.
async fn ended(reading: impl Future<Output = io::Result<()>>, child: &mut Child) -> io::Result<ExitStatus> {
    let mut reading = std::pin::pin!(reading);
    tokio::select! {
        read = &mut reading => {
            read?;
            child.wait().await
        }
        status = child.wait() => {
            let _ = tokio::time::timeout(limits::HELPER_REST, reading).await;
            status
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::{Duration, Instant};

    use super::super::registry::parse_reference;
    use super::*;

    const SECRET: &str = "hunter2";

    fn repository(name: &str) -> Repository {
        parse_reference(&format!("{name}@sha256:{}", "0".repeat(64))).unwrap().0
    }

    fn password(username: &str) -> Login {
        Login::Password { username: username.to_owned(), password: SECRET.to_owned() }
    }

    /// `USER:hunter2` as files have it.
    fn auth(username: &str) -> String {
        format!(r#"{{"auth":"{}"}}"#, PayloadBytes::from_bytes(format!("{username}:{SECRET}").as_bytes()).to_base64())
    }

    /// A home, with helpers.
    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Home {
            Home(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> String {
            self.0.path().join(name).display().to_string()
        }

        fn write(&self, name: &str, text: &str) -> &Home {
            let path = self.0.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            self
        }

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

        fn keyring(&self) -> Keyring {
            let path = format!("{}:/usr/bin:/bin", self.path(""));
            let variables = [("DOCKER_CONFIG", self.path("docker")), ("REGISTRY_AUTH_FILE", self.path("auth.json"))];
            Keyring::new(BTreeMap::new(), &|name| match name {
                "PATH" => Some(path.clone().into()),
                name => variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()),
            })
        }

        async fn find(&self, name: &str) -> Result<Option<Login>, String> {
            let found = self.keyring().find(&repository(name)).await;
            if let Err(text) = &found {
                assert!(!text.contains(SECRET), "{text}");
            }
            found
        }

        async fn user(&self, name: &str) -> Option<String> {
            match self.find(name).await.unwrap()? {
                Login::Password { username, password } => {
                    assert!(password == SECRET);
                    Some(username)
                }
                _ => panic!("a token"),
            }
        }
    }

    #[tokio::test]
    async fn configured_credentials_come_first() {
        let home = Home::new();
        home.write("docker/config.json", "not even JSON");
        let mut keyring = home.keyring();
        let pair = Credentials { username: "configured".to_owned(), password: SECRET.to_owned() };
        keyring.configured.insert("r.example".to_owned(), pair);
        assert!(keyring.find(&repository("r.example/app")).await.unwrap() == Some(password("configured")));
        assert!(keyring.find(&repository("other.example/app")).await.is_err());
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
            let files =
                files(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()));
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
    async fn a_registry_is_found_however_its_key_is_written() {
        for key in [
            "r.example:5000",
            "https://r.example:5000",
            "http://r.example:5000/",
            "https://r.example:5000/v1/",
            "R.example:5000",
        ] {
            let home = Home::new();
            home.write("docker/config.json", &format!(r#"{{"auths":{{"{key}":{}}}}}"#, auth("u")));
            assert_eq!(home.user("r.example:5000/team/app").await.as_deref(), Some("u"), "{key}");
            assert_eq!(home.user("r.example/team/app").await, None, "{key}");
            assert_eq!(home.user("r.example:5001/team/app").await, None, "{key}");
            assert_eq!(home.user("sub.r.example:5000/team/app").await, None, "{key}");
        }
        for key in [HUB_KEY, "index.docker.io/v1/", "index.docker.io", "docker.io", "https://registry-1.docker.io/v2/"]
        {
            let home = Home::new();
            home.write("docker/config.json", &format!(r#"{{"auths":{{"{key}":{}}}}}"#, auth("u")));
            assert_eq!(home.user("busybox").await.as_deref(), Some("u"), "{key}");
            assert_eq!(home.user("quay.io/busybox").await, None, "{key}");
        }
        let home = Home::new();
        let both = format!(r#"{{"auths":{{"docker.io":{},"{HUB_KEY}":{}}}}}"#, auth("podman"), auth("docker"));
        home.write("docker/config.json", &both);
        assert_eq!(home.user("busybox").await.as_deref(), Some("docker"));
        let empty = format!(r#"{{"auths":{{"docker.io":{},"{HUB_KEY}":{{}}}}}}"#, auth("podman"));
        home.write("docker/config.json", &empty);
        assert_eq!(home.user("busybox").await.as_deref(), Some("podman"));
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
    async fn the_first_file_with_a_login_counts() {
        let home = Home::new();
        home.write("docker/config.json", &format!(r#"{{"auths":{{"r.example":{}}}}}"#, auth("docker")));
        home.write(
            "auth.json",
            &format!(r#"{{"auths":{{"r.example":{},"s.example":{}}}}}"#, auth("podman"), auth("podman")),
        );
        assert_eq!(home.user("r.example/app").await.as_deref(), Some("docker"));
        assert_eq!(home.user("s.example/app").await.as_deref(), Some("podman"));
    }

    #[tokio::test]
    async fn every_form_of_an_entry_is_understood() {
        let padded = PayloadBytes::from_bytes(format!("u:{SECRET}\0\0").as_bytes()).to_base64();
        for (entry, login) in [
            (format!(r#"{{"username":"u","password":"{SECRET}"}}"#), password("u")),
            (format!(r#"{{"auth":"{padded}","email":"u@example"}}"#), password("u")),
            (r#"{"auth":"dTo=","identitytoken":"hunter2"}"#.to_owned(), Login::Identity(SECRET.to_owned())),
            (r#"{"registrytoken":"hunter2"}"#.to_owned(), Login::Bearer(SECRET.to_owned())),
        ] {
            let home = Home::new();
            home.write(
                "docker/config.json",
                &format!(r#"{{"auths":{{"r.example":{entry}}},"HttpHeaders":{{"a":"b"}}}}"#),
            );
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
}
