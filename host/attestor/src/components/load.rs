//! From a file to a compiled component. The file is read once, the pin or the signature is checked on those bytes, their description
//! is inspected, and they are compiled. So exactly the checked bytes run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bounded::file;
use bounded::text::{cut, printable};
use image_signatures::Verifier;
use sandbox::Compiled;
use sandbox::inspect::{Description, World, digest};
use sandbox::limits::{COMPONENT_FILE, GUEST_TEXT};
use semver::Version;

use crate::attestation::Sandbox;
use crate::config::{Component, Pin};
use crate::limits;

/// A step on the way from a file into use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Step {
    /// Reads the file.
    Read,
    /// Compares the digest with the pin.
    Pin,
    /// Verifies the signature.
    Signature,
    /// Inspects the component's description.
    Inspect,
    /// Checks that the version is not older than one that was in use.
    Version,
    /// Compiles the component.
    Compile,
    /// Links the imports and exports.
    Link,
    /// Has the policy validate its settings.
    Settings,
    /// Tries the component on recorded workloads.
    Trial,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Step; 9] = [
        Step::Read,
        Step::Pin,
        Step::Signature,
        Step::Inspect,
        Step::Version,
        Step::Compile,
        Step::Link,
        Step::Settings,
        Step::Trial,
    ];

    /// The name of the step in metrics and in `policy status`.
    pub fn name(self) -> &'static str {
        match self {
            Step::Read => "read",
            Step::Pin => "pin",
            Step::Signature => "signature",
            Step::Inspect => "inspect",
            Step::Version => "version",
            Step::Compile => "compile",
            Step::Link => "link",
            Step::Settings => "settings",
            Step::Trial => "trial",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why a component is not used. The one in use stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {step}: {reason}", path = .path.display())]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// The step that failed.
    pub step: Step,
    /// Why the step failed.
    pub reason: String,
    /// Whether another try may succeed without a change: then one follows after [`limits::RETRY_REPLACE`].
    pub retryable: bool,
}

impl LoadError {
    /// An error whose reason fits into a line of a log, since a part of it may be the component's own words.
    pub fn new(path: &Path, step: Step, reason: &str) -> LoadError {
        LoadError { path: path.to_owned(), step, reason: printable(cut(reason, GUEST_TEXT)), retryable: false }
    }

    /// The same, and whether another try may succeed.
    #[must_use]
    pub fn retryable(self, retryable: bool) -> LoadError {
        LoadError { retryable, ..self }
    }

    /// A file that could not be read in time.
    pub fn slow(path: &Path) -> LoadError {
        let seconds = limits::FILE_READ.as_secs();
        LoadError::new(path, Step::Read, &format!("it could not be read within {seconds} s")).retryable(true)
    }
}

/// A component that was checked and compiled.
#[derive(Clone)]
pub struct Loaded {
    /// The compiled component.
    pub compiled: Compiled,
    /// The component's description.
    pub description: Description,
}

/// Loads components, and caches the last few that were compiled.
pub struct Loader {
    sandbox: Arc<Sandbox>,
    /// The compiled components by digest. The one that was used last stands at the end.
    cached: Mutex<Vec<(String, Loaded)>>,
}

impl Loader {
    /// A loader with an empty cache.
    pub fn new(sandbox: Arc<Sandbox>) -> Loader {
        Loader { sandbox, cached: Mutex::default() }
    }

    /// Loads a component. `verifier` judges signatures, `floor` is the newest version that was in use.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub async fn load(
        &self,
        component: &Component,
        world: World,
        verifier: Option<Arc<Verifier>>,
        floor: Option<Version>,
    ) -> Result<Loaded, LoadError> {
        let (path, pin) = (component.path.clone(), component.pin.clone());
        // On a thread that may block: files may lie on a network filesystem, and verifying a signature takes milliseconds.
        let read = tokio::task::spawn_blocking(move || {
            let bytes = file::read(&path, COMPONENT_FILE as u64).map_err(|why| (Step::Read, why.to_string()))?;
            check_pin(&bytes, &pin, verifier.as_deref())?;
            let description = Description::of(&bytes).map_err(|why| (Step::Inspect, why.to_string()))?;
            description.check(world).map_err(|why| (Step::Inspect, why.to_string()))?;
            if let Pin::Signed { allow_older: false, .. } = pin {
                not_older(description.version.as_ref(), floor.as_ref())?;
            }
            Ok((bytes, description))
        });
        // A filesystem that hangs must not hold up the next configuration.
        let read = tokio::time::timeout(limits::FILE_READ, read).await.map_err(|_| LoadError::slow(&component.path))?;
        let read = read.unwrap_or_else(|_| Err((Step::Inspect, "it breaks what reads it".to_owned())));
        let (bytes, description) = read.map_err(|(step, reason)| LoadError::new(&component.path, step, &reason))?;
        if let Some(cached) = self.cached(&description.digest) {
            return Ok(cached);
        }
        let compiled = self
            .sandbox
            .compile(Arc::from(bytes))
            .await
            .map_err(|why| LoadError::new(&component.path, Step::Compile, &why.reason).retryable(why.retryable))?;
        let loaded = Loaded { compiled, description };
        self.keep(loaded.clone());
        Ok(loaded)
    }

    fn cached(&self, digest: &str) -> Option<Loaded> {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let at = cached.iter().position(|(cached, _)| cached == digest)?;
        let found = cached.remove(at);
        cached.push(found.clone());
        Some(found.1)
    }

    fn keep(&self, loaded: Loaded) {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        cached.push((loaded.description.digest.clone(), loaded));
        while cached.len() > limits::COMPILED_CACHED
            || cached.iter().map(|(_, loaded)| loaded.compiled.bytes()).sum::<usize>() > limits::COMPILED_BYTES
        {
            cached.remove(0);
        }
    }
}

fn check_pin(bytes: &[u8], pin: &Pin, verifier: Option<&Verifier>) -> Result<(), (Step, String)> {
    match pin {
        Pin::Unpinned => Ok(()),
        Pin::Digests(digests) => {
            let found = digest(bytes);
            match digests.contains(&found) {
                true => Ok(()),
                false => Err((
                    Step::Pin,
                    format!("its digest is {found}, which sha256 does not list ({})", digests.join(", ")),
                )),
            }
        }
        Pin::Signed { bundle, signers, .. } => {
            let wrong = |why: String| (Step::Signature, format!("{}: {why}", bundle.display()));
            let verifier = verifier.ok_or_else(|| wrong("nothing can verify it".to_owned()))?;
            let text = file::read(bundle, limits::BUNDLE_FILE).map_err(|why| wrong(why.to_string()))?;
            verifier.verify_file(&text, bytes, signers).map_err(|why| wrong(why.to_string()))
        }
    }
}

/// Checks that the version does not go down. Somebody who can replace the file could bring back an old one, with its signature and
/// its vulnerabilities.
fn not_older(version: Option<&Version>, floor: Option<&Version>) -> Result<(), (Step, String)> {
    let Some(newest) = floor else { return Ok(()) };
    let found = match version {
        Some(version) if version >= newest => return Ok(()),
        Some(version) => format!("its version is {version}"),
        None => "it says no version".to_owned(),
    };
    Err((Step::Version, format!("{found}, and {newest} ran before: allow_older = true would let it go back")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_never_goes_down() {
        let version = |text: &str| Some(Version::parse(text).unwrap());
        let judge = |found: Option<Version>, newest: Option<Version>| not_older(found.as_ref(), newest.as_ref());
        assert!(judge(None, None).is_ok());
        assert!(judge(version("1.0.0"), None).is_ok());
        assert!(judge(version("1.2.0"), version("1.2.0")).is_ok());
        assert!(judge(version("1.10.0"), version("1.9.0")).is_ok());
        let (step, why) = judge(version("1.2.0-rc.1"), version("1.2.0")).unwrap_err();
        assert_eq!((step, why.starts_with("its version is 1.2.0-rc.1, and 1.2.0 ran before")), (Step::Version, true));
        assert!(judge(None, version("1.0.0")).unwrap_err().1.starts_with("it says no version"));
    }

    #[test]
    fn a_pin_lists_digests_of_the_very_bytes() {
        let pin = |texts: &[&str]| Pin::Digests(texts.iter().map(|text| (*text).to_owned()).collect());
        let good = digest(b"policy");
        assert!(check_pin(b"policy", &pin(&["sha256:00", &good]), None).is_ok());
        let (step, why) = check_pin(b"other", &pin(&[&good]), None).unwrap_err();
        assert_eq!(step, Step::Pin);
        assert!(why.contains(&digest(b"other")) && why.contains(&good), "{why}");
        assert!(check_pin(b"anything", &Pin::Unpinned, None).is_ok());
    }
}
