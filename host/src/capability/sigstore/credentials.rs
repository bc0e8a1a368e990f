//! Who we are to a registry: the configuration's credentials, else those that `docker login` or `podman login` left.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use sigstore_verify::types::PayloadBytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::registry::Repository;
use crate::config::Credentials;
use crate::limits;

/// Docker Hub's key in Docker's configuration.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// How to log in.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    Password {
        username: String,
        password: String,
    },
    /// An identity token, to be traded for an access token.
    Token(String),
}

/// Finds credentials.
pub(super) struct Keyring {
    configured: BTreeMap<String, Credentials>,
    files: Vec<PathBuf>,
}

/// A file of `docker login` or `podman login`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl Keyring {
    /// The configured credentials, and the files that this process's environment names.
    pub(super) fn new(configured: BTreeMap<String, Credentials>) -> Keyring {
        Keyring { configured, files: files(&|name| std::env::var_os(name).filter(|value| !value.is_empty())) }
    }

    /// Whether there may be credentials: for the text of an error.
    pub(super) fn may_have(&self, repository: &Repository) -> bool {
        self.configured.contains_key(repository.host()) || self.files.iter().any(|path| path.exists())
    }

    /// The login for a repository; none: anonymous. An error tells which file or helper is broken, and nothing of what it holds.
    pub(super) async fn find(&self, repository: &Repository) -> Result<Option<Login>, String> {
        if let Some(Credentials { username, password }) = self.configured.get(repository.host()) {
            return Ok(Some(Login::Password { username: username.clone(), password: password.clone() }));
        }
        for path in &self.files {
            if let Some(login) = find_in(path, repository).await? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

fn files(env: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let docker = env("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(PathBuf::from(env("HOME")?).join(".docker")));
    let docker = docker.map(|folder| folder.join("config.json"));
    let named = env("REGISTRY_AUTH_FILE").map(PathBuf::from);
    let containers = env("XDG_RUNTIME_DIR").map(|folder| PathBuf::from(folder).join("containers/auth.json"));
    docker.into_iter().chain(named.or(containers)).collect()
}

async fn find_in(path: &Path, repository: &Repository) -> Result<Option<Login>, String> {
    let text = match tokio::fs::File::open(path).await {
        Ok(file) => {
            let mut text = Vec::new();
            let read = file.take(limits::LOGIN_FILE + 1).read_to_end(&mut text).await;
            read.map_err(|error| format!("{}: {error}", path.display()))?;
            text
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    if text.len() as u64 > limits::LOGIN_FILE {
        return Err(format!("{}: larger than {} bytes", path.display(), limits::LOGIN_FILE));
    }
    // The parser's own message would quote what it read.
    let file: File = serde_json::from_slice(&text)
        .map_err(|error| format!("{}: malformed, line {} column {}", path.display(), error.line(), error.column()))?;
    let keys = keys(repository);
    for key in &keys {
        if let Some(helper) = lookup(&file.cred_helpers, key)
            && let Some(login) = ask(helper, key).await?
        {
            return Ok(Some(login));
        }
        if let Some(auth) = lookup(&file.auths, key)
            && let Some(login) = stored(auth).map_err(|why| format!("{}: {key}: {why}", path.display()))?
        {
            return Ok(Some(login));
        }
    }
    match (file.creds_store.as_str(), keys.last()) {
        ("", _) | (_, None) => Ok(None),
        (store, Some(key)) => ask(store, key).await,
    }
}

/// The names that credentials for a repository may have: itself, what is above it, and its registry.
fn keys(repository: &Repository) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = repository.path();
    loop {
        keys.push(format!("{}/{path}", repository.host()));
        match path.rsplit_once('/') {
            Some((above, _)) => path = above,
            None => break,
        }
    }
    match repository.host() {
        "docker.io" => keys.extend(["docker.io", "index.docker.io", HUB_KEY].map(str::to_owned)),
        host => keys.push(host.to_owned()),
    }
    keys
}

/// Keys may be written with a scheme.
fn lookup<'a, T>(map: &'a BTreeMap<String, T>, key: &str) -> Option<&'a T> {
    map.get(key).or_else(|| map.get(&format!("https://{key}"))).or_else(|| map.get(&format!("https://{key}/")))
}

fn stored(auth: &Auth) -> Result<Option<Login>, String> {
    if !auth.identitytoken.is_empty() {
        return Ok(Some(Login::Token(auth.identitytoken.clone())));
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
async fn ask(helper: &str, key: &str) -> Result<Option<Login>, String> {
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
    let run = async {
        let mut child = Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("the credential helper {program}: {error}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper may end without reading.
            let _ = stdin.write_all(format!("{key}\n").as_bytes()).await;
        }
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let read = stdout.take(limits::HELPER_OUTPUT).read_to_end(&mut output).await;
            read.map_err(|error| format!("the credential helper {program}: {error}"))?;
        }
        let status = child.wait().await.map_err(|error| format!("the credential helper {program}: {error}"))?;
        Ok::<_, String>((status.success(), output))
    };
    let seconds = limits::HELPER.as_secs();
    let (good, output) = tokio::time::timeout(limits::HELPER, run)
        .await
        .map_err(|_| format!("the credential helper {program} does not answer within {seconds} s"))??;
    if !good {
        // The one failure that means something: it has nothing for this registry.
        return match String::from_utf8_lossy(&output).contains("credentials not found") {
            true => Ok(None),
            false => Err(format!("the credential helper {program} failed")),
        };
    }
    let answer: Answer = serde_json::from_slice(&output)
        .map_err(|_| format!("the credential helper {program} answers something else than credentials"))?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Login::Token(answer.secret),
        _ => Login::Password { username: answer.username, password: answer.secret },
    }))
}
