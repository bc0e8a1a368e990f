//! From a file to a component that may run: read once, check the pin or the signature on those bytes, look at what they say of
//! themselves, compile them. What runs is exactly what was checked.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bounded::file;
use bounded::text::{cut, printable};
use semver::Version;
use wasmtime::component::Component as Compiled;

use crate::config::{Component, Pin};
use crate::limits;
use crate::sandbox::Sandbox;
use crate::sandbox::inspect::{Description, World, digest};
use crate::signatures::Sigstore;

/// A step from a file to what runs, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Step {
    /// Reading the file.
    Read,
    /// Its digest is one of the pin's.
    Pin,
    /// Its signature.
    Signature,
    /// What it says of itself.
    Inspect,
    /// Its version is not older than what ran.
    Version,
    /// The compiler.
    Compile,
    /// Its imports and exports.
    Link,
    /// `validate(settings)`
    Settings,
    /// The trial run.
    Trial,
}

impl Step {
    /// Its name in metrics and in `policy status`.
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

/// Why a component is not put to use: what ran before goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {step}: {reason}", path = .path.display())]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// Where it failed.
    pub step: Step,
    /// Why.
    pub reason: String,
    /// Whether the reason may pass without anybody's doing: then it is tried again ([`limits::REPLACE_AGAIN`]).
    pub passes: bool,
}

impl LoadError {
    /// An error whose reason fits into a line of a log: some of it may be the component's own words.
    pub fn new(path: &Path, step: Step, reason: &str) -> LoadError {
        LoadError { path: path.to_owned(), step, reason: printable(cut(reason, limits::GUEST_TEXT)), passes: false }
    }

    /// The same, and whether the reason may pass.
    pub fn that_passes(self, passes: bool) -> LoadError {
        LoadError { passes, ..self }
    }

    /// A file that could not be read in time.
    pub fn slow(path: &Path) -> LoadError {
        let seconds = limits::FILE_READ.as_secs();
        LoadError::new(path, Step::Read, &format!("it could not be read within {seconds} s")).that_passes(true)
    }
}

/// A component that may run.
#[derive(Clone)]
pub struct Loaded {
    /// Compiled.
    pub compiled: Compiled,
    /// What it says of itself.
    pub description: Description,
}

impl Loaded {
    /// Bytes of what the compiler made of it.
    fn bytes(&self) -> usize {
        let image = self.compiled.image_range();
        image.end.addr() - image.start.addr()
    }
}

/// Loads components, and keeps the last few that were compiled.
pub struct Loader {
    sandbox: Arc<Sandbox>,
    /// By digest, the last used at the end.
    compiled: Mutex<Vec<(String, Loaded)>>,
}

impl Loader {
    /// Nothing is compiled yet.
    pub fn new(sandbox: Arc<Sandbox>) -> Loader {
        Loader { sandbox, compiled: Mutex::default() }
    }

    /// Loads a component. `verifier` judges signatures, `floor` is the newest version that ran.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub async fn load(
        &self,
        component: &Component,
        world: World,
        verifier: Option<Arc<Sigstore>>,
        floor: Option<Version>,
    ) -> Result<Loaded, LoadError> {
        let (path, pin) = (component.path.clone(), component.pin.clone());
        // Files may be on a network's filesystem, and a signature takes milliseconds.
        let read = tokio::task::spawn_blocking(move || {
            let bytes =
                file::read(&path, limits::COMPONENT_FILE as u64).map_err(|why| (Step::Read, why.to_string()))?;
            check(&bytes, &pin, verifier.as_deref())?;
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
        if let Some(kept) = self.kept(&description.digest) {
            return Ok(kept);
        }
        let compiled = self
            .sandbox
            .compile(Arc::from(bytes))
            .await
            .map_err(|why| LoadError::new(&component.path, Step::Compile, &why.reason).that_passes(why.passes))?;
        let loaded = Loaded { compiled, description };
        self.keep(loaded.clone());
        Ok(loaded)
    }

    fn kept(&self, digest: &str) -> Option<Loaded> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let at = compiled.iter().position(|(known, _)| known == digest)?;
        let found = compiled.remove(at);
        compiled.push(found.clone());
        Some(found.1)
    }

    fn keep(&self, loaded: Loaded) {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.push((loaded.description.digest.clone(), loaded));
        while compiled.len() > limits::COMPILED_KEPT
            || compiled.iter().map(|(_, loaded)| loaded.bytes()).sum::<usize>() > limits::COMPILED_BYTES
        {
            compiled.remove(0);
        }
    }
}

fn check(bytes: &[u8], pin: &Pin, verifier: Option<&Sigstore>) -> Result<(), (Step, String)> {
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
            verifier.verify_file(&text, bytes, signers).map_err(wrong)
        }
    }
}

/// Who can replace the file can also bring back an old one, with its signature and its faults.
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
        assert!(check(b"policy", &pin(&["sha256:00", &good]), None).is_ok());
        let (step, why) = check(b"other", &pin(&[&good]), None).unwrap_err();
        assert_eq!(step, Step::Pin);
        assert!(why.contains(&digest(b"other")) && why.contains(&good), "{why}");
        assert!(check(b"anything", &Pin::Unpinned, None).is_ok());
    }
}
