//! Logins: the credentials that the caller gives, else those that `docker login` or `podman login` left.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

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
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

#[cfg(unix)]
use self::unix as system;
#[cfg(windows)]
use self::windows as system;
use crate::error::CredentialsError;
use crate::host::normalize_host;
use crate::limits;
use crate::reference::{HUB, Repository};

/// Docker Hub's key in Docker's configuration.
const HUB_KEY: &str = "https://index.docker.io/v1/";

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
        Keyring { configured, files: files(&env), path: env("PATH").unwrap_or_else(|| system::PATH.into()) }
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
    let in_home = |name: &str| Some(folder(system::HOME)?.join(name));
    let mut files = Vec::from_iter(folder("DOCKER_CONFIG").or_else(|| in_home(".docker")));
    files.iter_mut().for_each(|folder| folder.push("config.json"));
    if let Some(named) = folder("REGISTRY_AUTH_FILE") {
        files.push(named);
        return files;
    }
    let runtime = folder("XDG_RUNTIME_DIR").map(|folder| folder.join("containers")).or_else(system::runtime_folder);
    files.extend(runtime.map(|folder| folder.join("auth.json")));
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
    let program = format!("docker-credential-{helper}{}", std::env::consts::EXE_SUFFIX);
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

/// A helper and what it started, which are killed if the helper is given up.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        system::kill_group(&self.0);
    }
}

/// Runs a program; answers its exit status and its output.
async fn run(mut command: Command, input: String) -> io::Result<(ExitStatus, Vec<u8>)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    system::prepare(&mut command);
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
mod tests;
