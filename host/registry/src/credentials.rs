//! Logins: the credentials that the caller gives, else those that `docker login` or `podman login` left.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustix::process::{Pid, Signal, getuid, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::error::CredentialsError;
use crate::host::normalize_host;
use crate::limits;
use crate::reference::{HUB, Repository};

/// Docker Hub's key in Docker's configuration.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The PATH where the environment has none.
const PATH: &str = "/usr/bin:/bin";

/// A registry's credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// A way to log in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    Password {
        username: String,
        password: String,
    },
    /// An identity token, to be traded for an access token.
    Identity(String),
    /// An access token for the registry itself.
    Bearer(String),
}

/// The credentials for every registry.
pub(crate) struct Keyring {
    configured: BTreeMap<String, Credentials>,
    files: Vec<PathBuf>,
    /// The PATH of credential helpers.
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
    /// The given credentials, and the files that the environment names.
    pub(crate) fn new(configured: BTreeMap<String, Credentials>, env: &dyn Fn(&str) -> Option<OsString>) -> Keyring {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        Keyring { configured, files: files(&env), path: env("PATH").unwrap_or_else(|| PATH.into()) }
    }

    /// The login for a repository; `None` for an anonymous one.
    pub(crate) async fn find(&self, repository: &Repository) -> Result<Option<Login>, CredentialsError> {
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

    /// Looks into one file. An entry for the repository or a part of its path comes first (containers-auth.json(5)). Then come, in
    /// Docker's order, the registry's helper, the store, and the registry's entry: a store leaves entries without credentials.
    async fn find_in(&self, path: &Path, repository: &Repository) -> Result<Option<Login>, CredentialsError> {
        let Some(file) = read(path).await? else { return Ok(None) };
        let stored = |name: &str| {
            entries(&file.auths, name)
                .find_map(|(key, auth)| {
                    let invalid =
                        |NotBase64| CredentialsError::InvalidAuth { path: path.to_owned(), key: key.to_owned() };
                    login(auth).map_err(invalid).transpose()
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

/// Docker's file, then those of containers-auth.json(5). `REGISTRY_AUTH_FILE` replaces the latter.
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

/// Reads a file of logins; `None` where it is absent or empty.
async fn read(path: &Path) -> Result<Option<File>, CredentialsError> {
    // Users without a home have /dev/null or the like for one.
    if let Err(error) = tokio::fs::metadata(path).await
        && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
    {
        return Ok(None);
    }
    let (path, opened) = (path.to_owned(), path.to_owned());
    let reading = tokio::task::spawn_blocking(move || bounded::file::read(&opened, limits::LOGIN_FILE));
    let text = match reading.await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(CredentialsError::Unreadable { path, error }),
        Err(_) => return Err(CredentialsError::NotRead { path }),
    };
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| CredentialsError::Malformed {
        path,
        line: error.line(),
        column: error.column(),
    })
}

/// The repository, and every namespace above it, the nearest first.
fn scopes(repository: &Repository) -> impl Iterator<Item = String> {
    std::iter::successors(Some(repository.path()), |path| Some(path.rsplit_once('/')?.0))
        .map(|path| format!("{}/{path}", repository.host()))
}

/// The key that `docker login` writes for a registry.
fn as_written(host: &str) -> &str {
    if host == HUB { HUB_KEY } else { host }
}

/// The entries for a registry or a scope. The one under the key that `docker login` writes comes first.
fn entries<'a, T>(map: &'a BTreeMap<String, T>, name: &str) -> impl Iterator<Item = (&'a str, &'a T)> {
    let written = as_written(name);
    let others = map.iter().filter(move |(key, _)| *key != written && named(key) == name);
    map.get_key_value(written).into_iter().chain(others).map(|(key, value)| (key.as_str(), value))
}

/// The registry or the scope that a key means. A key may have a scheme, and then the path of an API's version.
fn named(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = bare.unwrap_or(key).split_once('/').unwrap_or((bare.unwrap_or(key), ""));
    let host = normalize_host(host);
    match path.trim_end_matches('/') {
        "" => host,
        "v1" | "v2" if bare.is_some() || host == HUB => host,
        path => format!("{host}/{path}"),
    }
}

/// An `auth` that is not base64 of USER:PASSWORD.
struct NotBase64;

/// The login of an entry; `None` for an entry without credentials.
fn login(auth: &Auth) -> Result<Option<Login>, NotBase64> {
    if !auth.registrytoken.is_empty() {
        return Ok(Some(Login::Bearer(auth.registrytoken.clone())));
    }
    if !auth.identitytoken.is_empty() {
        return Ok(Some(Login::Identity(auth.identitytoken.clone())));
    }
    if !auth.auth.is_empty() {
        let pair = decode(&auth.auth).and_then(|bytes| String::from_utf8(bytes).ok());
        let (username, password) = pair.as_deref().and_then(|pair| pair.split_once(':')).ok_or(NotBase64)?;
        // Docker pads old entries with NULs.
        let password = password.trim_end_matches('\0');
        return Ok(Some(Login::Password { username: username.to_owned(), password: password.to_owned() }));
    }
    let given = !auth.username.is_empty() && !auth.password.is_empty();
    Ok(given.then(|| Login::Password { username: auth.username.clone(), password: auth.password.clone() }))
}

/// Base64 in either alphabet, with or without padding: not every tool that writes these files is Docker.
fn decode(text: &str) -> Option<Vec<u8>> {
    let alphabet: &Alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    let padding = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, padding).decode(text).ok()
}

/// Asks a credential helper (<https://github.com/docker/docker-credential-helpers>). Its output never gets into an error.
async fn ask(helper: &str, key: &str, path: &OsString) -> Result<Option<Login>, CredentialsError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if helper.is_empty() || !helper.bytes().all(fits) {
        return Err(CredentialsError::HelperName);
    }
    let program = format!("docker-credential-{helper}");
    let mut command = Command::new(&program);
    command.arg("get").env("PATH", path);
    let (status, output) = match tokio::time::timeout(limits::HELPER, run(command, format!("{key}\n"))).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => return Err(CredentialsError::HelperIo { program, error }),
        Err(_) => return Err(CredentialsError::HelperTimeout { program, seconds: limits::HELPER.as_secs() }),
    };
    if !status.success() {
        // The protocol has no other sign than this text for a registry that the helper does not know.
        return match String::from_utf8_lossy(&output).contains("credentials not found") {
            true => Ok(None),
            false => Err(CredentialsError::HelperFailed { program }),
        };
    }
    let answer: Answer = serde_json::from_slice(&output).map_err(|_| CredentialsError::HelperAnswer { program })?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Login::Identity(answer.secret),
        _ => Login::Password { username: answer.username, password: answer.secret },
    }))
}

/// A program with its process group, which is killed if the program is given up.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Without an id the program has ended by itself, and another process may have its number by now.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// Runs a program; answers its exit status and its output.
async fn run(mut command: Command, input: String) -> io::Result<(ExitStatus, Vec<u8>)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).process_group(0);
    let mut group = Group(command.spawn()?);
    if let Some(mut stdin) = group.0.stdin.take() {
        // A program may end without reading its input.
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

/// Waits for the end of a program or of its output, whichever comes first. The output of a program that has ended is read on for a
/// moment only: something that the program started may hold it open for ever.
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

    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::reference::Reference;

    const SECRET: &str = "hunter2";

    fn repository(name: &str) -> Repository {
        format!("{name}@sha256:{}", "0".repeat(64)).parse::<Reference>().unwrap().repository
    }

    fn password(username: &str) -> Login {
        Login::Password { username: username.to_owned(), password: SECRET.to_owned() }
    }

    /// `USER:hunter2` as files have it.
    fn auth(username: &str) -> String {
        format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(format!("{username}:{SECRET}")))
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
            let found = self.keyring().find(&repository(name)).await.map_err(|error| format!("{error}"));
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
        let padded = STANDARD.encode(format!("u:{SECRET}\0\0"));
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
