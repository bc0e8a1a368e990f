//! The parts that come from TUF: the cache that `cosign initialize` (v3) left, and the refresh from its mirror.
//!
//! The cache is the operator's: it is read, never written. The root.json in it is what the operator established by
//! `cosign initialize`, so everything else is verified from it.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bounded::file;
use jiff::Timestamp;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use sigstore_trust_root::{SigstoreInstance, TRUSTED_ROOT_TARGET, TrustedRoot};
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{Error, MemoryStore, MetadataStore, Repository, Updater, UpdaterConfig};

use super::{Arrays, FILE, assemble, chain, parse, read, variable};

/// A whole refresh: some six small files of one host.
const REFRESH: Duration = Duration::from_secs(30);
/// What to do about a cache that cannot be used.
const AGAIN: &str = "run `cosign initialize` (v3) again, or set trusted_root";

/// How to refresh the parts that came from TUF. Every run goes on from the newest metadata that a run has verified, so that
/// a mirror cannot go back. All of it is in memory.
pub(in super::super) struct Refresh {
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

    /// Fetches the newest trusted_root.json from the mirror that the parts came from, and from no other, and answers with the
    /// whole trust root: parts of other sources are as they were loaded. Needs a tokio runtime with its clock, takes 30 s at
    /// most, and may be run again.
    ///
    /// Give a client that follows no redirects: an answer from another host is refused, but only after it was asked for.
    ///
    /// # Errors
    /// Whatever went wrong, the mirror being away included. The root in use stays good: keep it, and try again later.
    pub(in super::super) async fn run(&self, client: reqwest::Client) -> Result<TrustedRoot, String> {
        let fault = |reason: String| format!("{}: not refreshed: {reason}", self.source);
        let mirror = Mirror { base: self.seed.mirror.clone(), client };
        let fetched = tokio::time::timeout(REFRESH, self.fetch(mirror)).await;
        let bytes = match fetched {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Err(fault(chain(&error))),
            Err(_) => return Err(fault(format!("the mirror took longer than {} s", REFRESH.as_secs()))),
        };
        let text = String::from_utf8(bytes).map_err(|_| fault(format!("{TRUSTED_ROOT_TARGET}: not UTF-8")))?;
        let (arrays, _) = parse(&text).map_err(|reason| fault(format!("{TRUSTED_ROOT_TARGET}: {reason}")))?;
        assemble(&self.own, &arrays).map_err(fault)
    }

    async fn fetch(&self, mirror: Mirror) -> Result<Vec<u8>, Error> {
        let now = Timestamp::now();
        let mut updater =
            Updater::new(mirror, &self.seed.root)?.with_config(limits()).with_store(Arc::clone(&self.seed.verified));
        updater.refresh(now).await?;
        updater.get_target(TRUSTED_ROOT_TARGET, now).await
    }
}

/// What a refresh starts from.
pub(super) struct Seed {
    /// It ends with a slash.
    mirror: Url,
    root: Vec<u8>,
    verified: Arc<Verified>,
}

/// The newest verified metadata: none may be older.
#[derive(Default)]
struct Verified(MemoryStore);

impl MetadataStore for Verified {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.load(name)
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        // An `Updater` stores a snapshot by its version too, loads it by its name only, and forgets none.
        match name.ends_with(".snapshot.json") {
            true => Ok(()),
            false => self.0.store(name, bytes),
        }
    }
}

/// All four parts as TUF gave them.
pub(super) struct Shared {
    pub(super) arrays: Arrays,
    /// None where there is no mirror that may be asked.
    pub(super) seed: Option<Seed>,
    pub(super) source: String,
}

/// What `cosign initialize` left, else the public-good root in this program.
///
/// # Errors
/// As [`cosign`].
pub(super) fn shared(env: &dyn Fn(&str) -> Option<OsString>, warnings: &mut Vec<String>) -> Result<Shared, String> {
    if let Some(cache) = cosign(env, warnings)? {
        return Ok(cache);
    }
    let instance = SigstoreInstance::PublicGood;
    let source = "public-good root of this program".to_owned();
    let (arrays, _) = parse(instance.embedded_trusted_root_json()).map_err(|reason| format!("{source}: {reason}"))?;
    let mirror = mirror(instance.tuf_url()).map_err(|reason| format!("{source}: {reason}"))?;
    let seed = Seed { mirror, root: instance.tuf_root().to_vec(), verified: Arc::default() };
    Ok(Shared { arrays, seed: Some(seed), source })
}

/// Looks for the cache of `cosign initialize`; none if it never ran.
///
/// # Errors
/// It is there and cannot be used, or `TUF_ROOT` names a directory without one.
fn cosign(env: &dyn Fn(&str) -> Option<OsString>, warnings: &mut Vec<String>) -> Result<Option<Shared>, String> {
    let (directory, named) = match (variable(env, "TUF_ROOT"), variable(env, "HOME")) {
        (Some(directory), _) => (directory, true),
        (None, Some(home)) => (home.join(".sigstore").join("root"), false),
        (None, None) => {
            warnings.push("HOME and TUF_ROOT are unset: what `cosign initialize` left was not looked for".to_owned());
            return Ok(None);
        }
    };
    let source = format!("{}{}", if named { "TUF_ROOT " } else { "cosign initialize " }, directory.display());
    let fault = |reason: String| format!("{source}: {reason}");
    if let Some(link) = directory.ancestors().take(2).find(|path| path.is_symlink() && !path.exists()) {
        return Err(fault(format!("{} is a link to nothing: {AGAIN}", link.display())));
    }
    let remote = directory.join("remote.json");
    if !present(&remote).map_err(fault)? {
        if present(&directory.join("tuf.db")).map_err(fault)? {
            return Err(fault(older_form()));
        }
        if named {
            return Err(fault(format!("holds no remote.json: {AGAIN}, or unset TUF_ROOT")));
        }
        if present(&directory).map_err(fault)? {
            if !directory.is_dir() {
                return Err(fault(format!("not a directory: {AGAIN}")));
            }
            // A mere `cosign verify` leaves a cache, too, but no decision.
            warnings
                .push(fault("passed over: it holds no remote.json, so `cosign initialize` did not make it".to_owned()));
        }
        return Ok(None);
    }
    open(&directory, &remote, source.clone(), warnings).map(Some).map_err(fault)
}

/// What `cosign initialize` writes first.
#[derive(Deserialize)]
struct Remote {
    mirror: String,
}

fn open(directory: &Path, remote: &Path, source: String, warnings: &mut Vec<String>) -> Result<Shared, String> {
    let (mirror, shown) = read(remote, FILE)
        .and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()))
        .and_then(|Remote { mirror }| shown(&mirror).map(|shown| (mirror, shown)))
        .map_err(|reason| format!("remote.json: {reason}: {AGAIN}"))?;
    // By its mirror, not by its directory, whose name has the mirror's password too.
    let unusable = |reason: String| format!("cache of {shown}: {reason}: {AGAIN}");
    let metadata = directory.join(directory_name(&mirror));
    if !present(&metadata).map_err(unusable)? {
        return Err(match present(&directory.join("tuf.db"))? {
            true => older_form(),
            false => unusable("no such directory".to_owned()),
        });
    }
    let files = Files::read(&metadata).map_err(unusable)?;
    let bytes = match verify(&files, Timestamp::now()) {
        Err(Fault::Tuf(error @ Error::Expired { .. })) => {
            warnings.push(format!(
                "{source}: its metadata have expired and are used all the same ({}): see that {shown} can be reached, or {AGAIN}",
                chain(&error)
            ));
            // At a time when nothing had expired: all else is verified.
            verify(&files, Timestamp::UNIX_EPOCH)
        }
        verified => verified,
    };
    let (arrays, _) = bytes
        .map_err(|fault| fault.to_string())
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("{TRUSTED_ROOT_TARGET}: not UTF-8")))
        .and_then(|text| parse(&text).map_err(|reason| format!("{TRUSTED_ROOT_TARGET}: {reason}")))
        .map_err(unusable)?;
    let verified = Verified::default();
    for (name, bytes) in files.named.iter() {
        verified.store(name, bytes).map_err(|error| chain(&error))?;
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

fn older_form() -> String {
    format!("holds the older form of cosign's cache (tuf.db, a LevelDB), which is not supported: {AGAIN}")
}

/// Whether a name is there, even as a link to nothing: what cannot be followed must not count as absent.
fn present(path: &Path) -> Result<bool, String> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        // The latter: something else above it, such as HOME=/dev/null.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(format!("cannot be looked at: {error}")),
    }
}

/// As sigstore-go's `URLToPath` does it (pkg/tuf/client.go), a slash at the end included.
fn directory_name(mirror: &str) -> String {
    let name = mirror.strip_prefix("https://").unwrap_or(mirror);
    let name = name.strip_prefix("http://").unwrap_or(name);
    name.replace(['/', ':'], "-").to_lowercase()
}

/// A mirror for the log, without what may be a password.
fn shown(mirror: &str) -> Result<String, String> {
    let mut url = Url::parse(mirror).map_err(|error| format!("its mirror is no URL ({error})"))?;
    if url.host_str().is_none() {
        return Err("its mirror is a URL without a host".to_owned());
    }
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    Ok(url.to_string())
}

/// A mirror that may be asked.
fn mirror(mirror: &str) -> Result<Url, String> {
    let shown = shown(mirror)?;
    let slash = if mirror.ends_with('/') { "" } else { "/" };
    let url = Url::parse(&format!("{mirror}{slash}")).map_err(|error| format!("its mirror is no URL ({error})"))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "mirror {shown}: user names, passwords, queries and fragments in its URL are not supported"
        ));
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
        "http" => Err(format!("mirror {shown}: plain http is for loopback only: use https")),
        scheme => Err(format!("mirror {shown}: scheme {scheme} is not supported: use https")),
    }
}

/// Why the cache cannot be used.
#[derive(Debug)]
enum Fault {
    Tuf(Error),
    Pending,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Tuf(error) => formatter.write_str(&chain(error)),
            Fault::Pending => formatter.write_str("internal fault: reading files had to wait"),
        }
    }
}

/// The trusted root of a cache.
fn verify(files: &Files, now: Timestamp) -> Result<Vec<u8>, Fault> {
    let work = async {
        let mut updater = Updater::new(files.clone(), &files.root)?.with_config(limits());
        updater.refresh(now).await?;
        updater.get_target(TRUSTED_ROOT_TARGET, now).await
    };
    // All is in memory, so one poll does it. A runtime cannot be started here: the caller may be in one.
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome.map_err(Fault::Tuf),
        Poll::Pending => Err(Fault::Pending),
    }
}

fn limits() -> UpdaterConfig {
    let mut limits = UpdaterConfig::default();
    limits.target_max_length = FILE;
    limits
}

/// The files of a cache. The names in it have no version and no hash, unlike those that are asked for.
#[derive(Clone)]
struct Files {
    root: Vec<u8>,
    named: Arc<BTreeMap<&'static str, Vec<u8>>>,
    directory: PathBuf,
}

impl Files {
    const TARGET: &'static str = "targets/trusted_root.json";

    fn read(directory: &Path) -> Result<Files, String> {
        let limits = limits();
        let file =
            |name: &str, limit| file::read(&directory.join(name), limit).map_err(|reason| format!("{name}: {reason}"));
        let named = BTreeMap::from([
            ("timestamp.json", file("timestamp.json", limits.timestamp_max_length)?),
            ("snapshot.json", file("snapshot.json", limits.snapshot_max_length)?),
            ("targets.json", file("targets.json", limits.targets_max_length)?),
            (Files::TARGET, file(Files::TARGET, FILE)?),
        ]);
        let root = file("root.json", limits.root_max_length)?;
        Ok(Files { root, named: Arc::new(named), directory: directory.to_owned() })
    }

    fn find(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        if let Some(bytes) = self.named.get(name) {
            return Ok(Some(bytes.clone()));
        }
        // Metadata of a role that targets.json delegates to. The updater percent-encodes its name: there is no slash in it.
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
            // The next root, which would be trusted by this one: a cache holds the newest only.
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

/// A mirror, of which every answer comes from its own host.
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
