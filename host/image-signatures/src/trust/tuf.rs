//! The parts that come from TUF: the cache of `cosign initialize` (v3), and the refresh from its mirror.
//!
//! The cache is the operator's: it is read, never written. The operator established its root.json by `cosign initialize`, so
//! everything else is verified from it.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bounded::file::{self, FileError};
use jiff::Timestamp;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use sigstore_trust_root::{SigstoreInstance, TRUSTED_ROOT_TARGET, TrustedRoot};
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{Error, MemoryStore, MetadataStore, Repository, Updater, UpdaterConfig};

use super::{Arrays, ReadError, RootError, assemble, chain, parse, read, variable};
use crate::limits;

/// The remedy for a cache that cannot be used.
const AGAIN: &str = "run `cosign initialize` (v3) again, or set trusted_root";

/// Why the cache of `cosign initialize`, or the root in this program, cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{source_name}: {why}")]
pub struct CacheError {
    /// The source.
    pub source_name: String,
    /// Why.
    pub why: MetadataError,
}

/// Why TUF's metadata cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// A name that cannot be looked at.
    #[error("cannot be looked at: {0}")]
    Unreadable(io::Error),
    /// A directory behind a broken link.
    #[error("{} is a link to nothing: {AGAIN}", .0.display())]
    BrokenLink(PathBuf),
    /// A cache of cosign v2.
    #[error("holds the older form of cosign's cache (tuf.db, a LevelDB), which is not supported: {AGAIN}")]
    OlderForm,
    /// `TUF_ROOT` names a directory without a cache.
    #[error("holds no remote.json: {AGAIN}, or unset TUF_ROOT")]
    NoRemote,
    /// Something else than a directory.
    #[error("not a directory: {AGAIN}")]
    NoDirectory,
    /// A remote.json that cannot be used.
    #[error("remote.json: {0}: {AGAIN}")]
    Remote(RemoteError),
    /// The mirror's part of the cache cannot be used.
    #[error("cache of {mirror}: {why}: {AGAIN}")]
    Cache {
        /// The mirror, without what may be a password.
        mirror: String,
        /// Why.
        why: Box<MetadataError>,
    },
    /// The mirror has no part of the cache.
    #[error("no such directory")]
    NoMirrorDirectory,
    /// A file of the cache cannot be read.
    #[error("{name}: {why}")]
    File {
        /// The file.
        name: &'static str,
        /// Why.
        why: FileError,
    },
    /// The metadata do not verify.
    #[error("{}", chain(.0))]
    Tuf(Box<Error>),
    /// Verifying files in memory had to wait.
    #[error("internal fault: reading files had to wait")]
    Pending,
    /// The target is no text.
    #[error("{TRUSTED_ROOT_TARGET}: not UTF-8")]
    NotUtf8,
    /// The target is no trusted root.
    #[error("{TRUSTED_ROOT_TARGET}: {0}")]
    Root(RootError),
    /// The root in this program is no trusted root.
    #[error(transparent)]
    Embedded(RootError),
    /// The mirror may not be asked.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
}

impl From<Error> for MetadataError {
    fn from(error: Error) -> MetadataError {
        MetadataError::Tuf(Box::new(error))
    }
}

/// Why a remote.json cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file cannot be parsed.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Its mirror is no URL.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
}

/// Why a mirror may not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// The mirror cannot be parsed.
    #[error("its mirror is no URL ({0})")]
    NoUrl(String),
    /// The mirror has no host.
    #[error("its mirror is a URL without a host")]
    NoHost,
    /// The URL has more than a path.
    #[error("mirror {0}: user names, passwords, queries and fragments in its URL are not supported")]
    Extras(String),
    /// The mirror is asked in plain http.
    #[error("mirror {0}: plain http is for loopback only: use https")]
    PlainHttp(String),
    /// The mirror has another scheme.
    #[error("mirror {mirror}: scheme {scheme} is not supported: use https")]
    Scheme {
        /// The mirror.
        mirror: String,
        /// The scheme.
        scheme: String,
    },
}

/// Why the trust root was not refreshed.
#[derive(Debug, thiserror::Error)]
#[error("{source_name}: not refreshed: {why}")]
pub struct RefreshError {
    /// The source of the parts from TUF.
    pub source_name: String,
    /// Why.
    pub why: RefreshFailure,
}

/// What went wrong with a refresh.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshFailure {
    /// The mirror is unreachable, or its metadata do not verify.
    #[error(transparent)]
    Metadata(MetadataError),
    /// The mirror took too long.
    #[error("the mirror took longer than {0} s")]
    Timeout(u64),
    /// The parts do not make a trust root together.
    #[error(transparent)]
    Root(RootError),
}

/// How to refresh the parts that came from TUF. Every run continues from the newest metadata that a run has verified, so that a mirror
/// cannot go back. Everything is in memory.
pub(crate) struct Refresh {
    seed: Seed,
    own: Arrays,
    source: String,
}

impl fmt::Debug for Refresh {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Refresh").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Refresh {
    pub(super) fn new(seed: Seed, own: Arrays, source: String) -> Refresh {
        Refresh { seed, own, source }
    }

    /// Fetches the newest trusted_root.json from the mirror that the parts came from, and from no other. Answers the whole trust root:
    /// parts of other sources are as they were loaded. Needs a tokio runtime with its clock, and takes 30 s at most.
    ///
    /// The client must follow no redirects. An answer from another host is refused, but only after that host was asked.
    ///
    /// # Errors
    /// The mirror is unreachable, or what it serves does not verify. The root in use stays good, and a later run may succeed.
    pub(crate) async fn run(&self, client: reqwest::Client) -> Result<TrustedRoot, RefreshError> {
        let fault = |why: RefreshFailure| RefreshError { source_name: self.source.clone(), why };
        let mirror = Mirror { base: self.seed.mirror.clone(), client };
        let fetched = tokio::time::timeout(limits::TRUST_REFRESH_TIME, self.fetch(mirror)).await;
        let bytes = match fetched {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Err(fault(RefreshFailure::Metadata(error.into()))),
            Err(_) => return Err(fault(RefreshFailure::Timeout(limits::TRUST_REFRESH_TIME.as_secs()))),
        };
        let arrays = target(bytes).map_err(|why| fault(RefreshFailure::Metadata(why)))?;
        assemble(&self.own, &arrays).map_err(|why| fault(RefreshFailure::Root(why)))
    }

    async fn fetch(&self, mirror: Mirror) -> Result<Vec<u8>, Error> {
        let now = Timestamp::now();
        let mut updater = Updater::new(mirror, &self.seed.root)?
            .with_config(updater_limits())
            .with_store(Arc::clone(&self.seed.verified));
        updater.refresh(now).await?;
        updater.get_target(TRUSTED_ROOT_TARGET, now).await
    }
}

/// The start of a refresh.
pub(super) struct Seed {
    /// The mirror's URL, which ends with a slash.
    mirror: Url,
    root: Vec<u8>,
    verified: Arc<Verified>,
}

/// The newest verified metadata. No later metadata may be older.
#[derive(Default)]
struct Verified(MemoryStore);

impl MetadataStore for Verified {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.load(name)
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        // An `Updater` stores a snapshot under its version too, never loads it from there, and removes none.
        match name.ends_with(".snapshot.json") {
            true => Ok(()),
            false => self.0.store(name, bytes),
        }
    }
}

/// All four parts from TUF.
pub(super) struct Shared {
    pub(super) arrays: Arrays,
    /// `None` where the mirror may not be asked.
    pub(super) seed: Option<Seed>,
    pub(super) source: String,
}

/// The cache of `cosign initialize`, else the public-good root in this program.
///
/// # Errors
/// As [`cosign`].
pub(super) fn shared(env: &dyn Fn(&str) -> Option<OsString>, warnings: &mut Vec<String>) -> Result<Shared, CacheError> {
    if let Some(cache) = cosign(env, warnings)? {
        return Ok(cache);
    }
    let instance = SigstoreInstance::PublicGood;
    let source = "public-good root of this program".to_owned();
    let fault = |why| CacheError { source_name: source.clone(), why };
    let (arrays, _) =
        parse(instance.embedded_trusted_root_json()).map_err(|why| fault(MetadataError::Embedded(why)))?;
    let mirror = mirror(instance.tuf_url()).map_err(|why| fault(why.into()))?;
    let seed = Seed { mirror, root: instance.tuf_root().to_vec(), verified: Arc::default() };
    Ok(Shared { arrays, seed: Some(seed), source })
}

/// Opens the cache of `cosign initialize`; `None` if cosign never made one.
///
/// # Errors
/// The cache cannot be used, or `TUF_ROOT` names a directory without one.
fn cosign(env: &dyn Fn(&str) -> Option<OsString>, warnings: &mut Vec<String>) -> Result<Option<Shared>, CacheError> {
    let (directory, named) = match (variable(env, "TUF_ROOT"), variable(env, "HOME")) {
        (Some(directory), _) => (directory, true),
        (None, Some(home)) => (home.join(".sigstore").join("root"), false),
        (None, None) => {
            warnings.push("HOME and TUF_ROOT are unset: what `cosign initialize` left was not looked for".to_owned());
            return Ok(None);
        }
    };
    let source = format!("{}{}", if named { "TUF_ROOT " } else { "cosign initialize " }, directory.display());
    let fault = |why: MetadataError| CacheError { source_name: source.clone(), why };
    if let Some(link) = directory.ancestors().take(2).find(|path| path.is_symlink() && !path.exists()) {
        return Err(fault(MetadataError::BrokenLink(link.to_owned())));
    }
    let remote = directory.join("remote.json");
    if !present(&remote).map_err(fault)? {
        if present(&directory.join("tuf.db")).map_err(fault)? {
            return Err(fault(MetadataError::OlderForm));
        }
        if named {
            return Err(fault(MetadataError::NoRemote));
        }
        if present(&directory).map_err(fault)? {
            if !directory.is_dir() {
                return Err(fault(MetadataError::NoDirectory));
            }
            // `cosign verify` alone makes a cache too, which is no decision of the operator.
            warnings
                .push(format!("{source}: ignored: it holds no remote.json, so `cosign initialize` did not make it"));
        }
        return Ok(None);
    }
    open(&directory, &remote, source.clone(), warnings).map(Some).map_err(fault)
}

/// The file that `cosign initialize` writes first.
#[derive(Deserialize)]
struct Remote {
    mirror: String,
}

fn open(directory: &Path, remote: &Path, source: String, warnings: &mut Vec<String>) -> Result<Shared, MetadataError> {
    let (mirror, shown) = mirror_in(remote).map_err(MetadataError::Remote)?;
    // An error names the mirror, not the directory, whose name has the mirror's password too.
    let unusable = |why: MetadataError| MetadataError::Cache { mirror: shown.clone(), why: Box::new(why) };
    let metadata = directory.join(directory_name(&mirror));
    if !present(&metadata).map_err(unusable)? {
        return Err(match present(&directory.join("tuf.db"))? {
            true => MetadataError::OlderForm,
            false => unusable(MetadataError::NoMirrorDirectory),
        });
    }
    let files = Files::read(&metadata).map_err(unusable)?;
    let bytes = match verify(&files, Timestamp::now()) {
        Err(MetadataError::Tuf(error)) if matches!(*error, Error::Expired { .. }) => {
            warnings.push(format!(
                "{source}: its metadata have expired and are used all the same ({}): see that {shown} can be reached, or {AGAIN}",
                chain(&*error)
            ));
            // At a time when nothing had expired. Everything else is verified.
            verify(&files, Timestamp::UNIX_EPOCH)
        }
        verified => verified,
    };
    let arrays = bytes.and_then(target).map_err(unusable)?;
    let verified = Verified::default();
    for (name, bytes) in files.named.iter() {
        verified.store(name, bytes)?;
    }
    let seed = match self::mirror(&mirror) {
        Ok(mirror) => Some(Seed { mirror, root: files.root.clone(), verified: Arc::new(verified) }),
        Err(reason) => {
            warnings.push(format!("{source}: it will not be refreshed: {reason}"));
            None
        }
    };
    Ok(Shared { arrays, seed, source: format!("{source} (mirror {shown})") })
}

/// The mirror in a remote.json, and the same as it may be shown.
fn mirror_in(remote: &Path) -> Result<(String, String), RemoteError> {
    let Remote { mirror } = serde_json::from_str(&read(remote, limits::TRUST_FILE)?)?;
    let shown = shown(&mirror)?;
    Ok((mirror, shown))
}

/// Parses the trusted root that TUF has as its target.
fn target(bytes: Vec<u8>) -> Result<Arrays, MetadataError> {
    let text = String::from_utf8(bytes).map_err(|_| MetadataError::NotUtf8)?;
    Ok(parse(&text).map_err(MetadataError::Root)?.0)
}

/// Whether a name exists, even as a link to nothing: a name that cannot be followed must not count as absent.
fn present(path: &Path) -> Result<bool, MetadataError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        // NotADirectory: a file above it, such as HOME=/dev/null.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(MetadataError::Unreadable(error)),
    }
}

/// The directory of a mirror, as sigstore-go's `URLToPath` makes it (pkg/tuf/client.go), a slash at the end included.
fn directory_name(mirror: &str) -> String {
    let name = mirror.strip_prefix("https://").unwrap_or(mirror);
    let name = name.strip_prefix("http://").unwrap_or(name);
    name.replace(['/', ':'], "-").to_lowercase()
}

/// A mirror as it may be shown, without what may be a password.
fn shown(mirror: &str) -> Result<String, MirrorError> {
    let mut url = Url::parse(mirror).map_err(|error| MirrorError::NoUrl(error.to_string()))?;
    if url.host_str().is_none() {
        return Err(MirrorError::NoHost);
    }
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    Ok(url.to_string())
}

/// The URL of a mirror that may be asked.
fn mirror(mirror: &str) -> Result<Url, MirrorError> {
    let shown = shown(mirror)?;
    let slash = if mirror.ends_with('/') { "" } else { "/" };
    let url = Url::parse(&format!("{mirror}{slash}")).map_err(|error| MirrorError::NoUrl(error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(MirrorError::Extras(shown));
    }
    let loopback = match url.host_str().map(|host| host.trim_matches(['[', ']'])) {
        Some(host) => {
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        "http" => Err(MirrorError::PlainHttp(shown)),
        scheme => Err(MirrorError::Scheme { mirror: shown, scheme: scheme.to_owned() }),
    }
}

/// Verifies a cache; answers its trusted root.
fn verify(files: &Files, now: Timestamp) -> Result<Vec<u8>, MetadataError> {
    let work = async {
        let mut updater = Updater::new(files.clone(), &files.root)?.with_config(updater_limits());
        updater.refresh(now).await?;
        updater.get_target(TRUSTED_ROOT_TARGET, now).await
    };
    // Everything is in memory, so one poll is enough. A runtime cannot be started here: the caller may be in one.
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Ok(outcome?),
        Poll::Pending => Err(MetadataError::Pending),
    }
}

fn updater_limits() -> UpdaterConfig {
    let mut limits = UpdaterConfig::default();
    limits.target_max_length = limits::TRUST_FILE;
    limits
}

/// The files of a cache. Their names have no version and no hash, unlike those that the updater asks for.
#[derive(Clone)]
struct Files {
    root: Vec<u8>,
    named: Arc<BTreeMap<&'static str, Vec<u8>>>,
    directory: PathBuf,
}

impl Files {
    const TARGET: &'static str = "targets/trusted_root.json";

    fn read(directory: &Path) -> Result<Files, MetadataError> {
        let limits = updater_limits();
        let file = |name: &'static str, limit| {
            file::read(&directory.join(name), limit).map_err(|why| MetadataError::File { name, why })
        };
        let named = BTreeMap::from([
            ("timestamp.json", file("timestamp.json", limits.timestamp_max_length)?),
            ("snapshot.json", file("snapshot.json", limits.snapshot_max_length)?),
            ("targets.json", file("targets.json", limits.targets_max_length)?),
            (Files::TARGET, file(Files::TARGET, limits::TRUST_FILE)?),
        ]);
        let root = file("root.json", limits.root_max_length)?;
        Ok(Files { root, named: Arc::new(named), directory: directory.to_owned() })
    }

    fn find(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        if let Some(bytes) = self.named.get(name) {
            return Ok(Some(bytes.clone()));
        }
        // Metadata of a role that targets.json delegates to. The updater percent-encodes its name, so it has no slash.
        let path = self.directory.join(name);
        match name.contains('/') || !path.exists() {
            true => Ok(None),
            false => file::read(&path, limit).map(Some).map_err(|reason| Error::Malformed(format!("{name}: {reason}"))),
        }
    }
}

impl Repository for Files {
    fn fetch_metadata<'a>(&'a self, name: &'a str, limit: u64) -> FetchFuture<'a> {
        let version = name.split_once('.').filter(|(version, _)| version.bytes().all(|byte| byte.is_ascii_digit()));
        let found = match version {
            // The next root, which this one would trust. A cache holds the newest only.
            Some((_, "root.json")) => Ok(None),
            Some((_, unversioned)) => self.find(unversioned, limit),
            None => self.find(name, limit),
        };
        Box::pin(std::future::ready(found))
    }

    fn fetch_target<'a>(&'a self, _path: &'a str, _limit: u64) -> FetchFuture<'a> {
        // Only one target is ever asked for, and the updater compares its hash.
        Box::pin(std::future::ready(Ok(self.named.get(Files::TARGET).cloned())))
    }
}

/// A mirror whose every answer comes from its own host.
struct Mirror {
    base: Url,
    client: reqwest::Client,
}

impl Mirror {
    async fn get(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let invalid = |error| Error::transport_with_source("no URL", error);
        let url = self.base.join(path).map_err(invalid)?;
        self.own(&url)?;
        let failed = |error| Error::transport_with_source(format!("GET {url} failed"), error);
        let mut response = self.client.get(url.clone()).send().await.map_err(failed)?;
        self.own(response.url())?;
        match response.status() {
            // Object stores answer 403 where there is nothing; python-tuf reads it so, too.
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => return Ok(None),
            StatusCode::OK => {}
            status => return Err(Error::transport(format!("GET {url}: {status}"))),
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            let length = u64::try_from(bytes.len().saturating_add(chunk.len())).unwrap_or(u64::MAX);
            if length > limit {
                return Err(Error::transport(format!("GET {url}: larger than {limit} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes))
    }

    fn own(&self, url: &Url) -> Result<(), Error> {
        match url.origin() == self.base.origin() {
            true => Ok(()),
            false => Err(Error::transport(format!(
                "{} leads to {}, which is not its mirror",
                self.base,
                url.origin().ascii_serialization()
            ))),
        }
    }
}

impl Repository for Mirror {
    fn fetch_metadata<'a>(&'a self, name: &'a str, limit: u64) -> FetchFuture<'a> {
        Box::pin(self.get(name, limit))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, limit: u64) -> FetchFuture<'a> {
        Box::pin(async move { self.get(&format!("targets/{path}"), limit).await })
    }
}
