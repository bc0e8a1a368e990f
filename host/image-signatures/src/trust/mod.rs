//! The trust material: the certificate authorities, log keys and timestamp authorities that signatures are verified with.
//!
//! Each of the four parts has a source of its own, and presence selects it. A source that is present and broken is an error, never a
//! reason to take the next one: the last one trusts every signer of the public-good instance.
//!
//! 1. `trusted_root` of the configuration: all four parts, and nothing else is looked at.
//! 2. The part's variable, as in cosign: a path; set but empty counts as unset, as cosign has it.
//! 3. The cache of `cosign initialize` in `$TUF_ROOT` or `$HOME/.sigstore/root`. Its metadata are verified again, offline.
//! 4. The public-good root in this program.

mod description;
mod pem;
#[cfg(test)]
mod tests;
mod tuf;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bounded::file::{self, FileError};
use serde_json::{Map, Value, json};
use sigstore_trust_root::TrustedRoot;
use sigstore_verify::Verifier;

use crate::limits;

pub use self::description::{TrustDescription, TrustPart, describe_trust};
pub use self::pem::{KeyError, PemError};
pub(crate) use self::tuf::Refresh;
use self::tuf::Shared;
pub use self::tuf::{CacheError, MetadataError, MirrorError, RefreshError, RefreshFailure, RemoteError};

/// The media type of a trusted root in protobuf-specs. Its version follows, in either of two spellings.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot";

/// The trust root to verify with, and where each of its parts came from.
#[derive(Debug)]
pub(crate) struct Trust {
    /// Checked: a verifier can be made of it.
    pub(crate) root: TrustedRoot,
    /// The name of each part and its source, for the log.
    pub(crate) sources: [(&'static str, String); 4],
    /// What an operator should know although it works, for the log.
    pub(crate) warnings: Vec<String>,
    /// How to refresh the parts that came from TUF, if their mirror may be asked.
    pub(crate) refresh: Option<Refresh>,
}

/// Why the trust material cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The file of the option `trusted_root`.
    #[error("trusted_root: {}: {why}: name a trusted_root.json", path.display())]
    Option {
        /// The file.
        path: PathBuf,
        /// Why.
        why: SourceError,
    },
    /// Every source of the environment that is broken.
    #[error("{}", joined(.0))]
    Environment(Vec<EnvironmentError>),
    /// The parts do not make a trust root together.
    #[error(transparent)]
    Root(#[from] RootError),
}

fn joined(errors: &[EnvironmentError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Why a source of the environment cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// The file of a variable.
    #[error("{variable}: {}: {why}", path.display())]
    Variable {
        /// The variable.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        why: SourceError,
    },
    /// The cache of `cosign initialize`, or the root in this program.
    #[error(transparent)]
    Shared(#[from] CacheError),
}

/// Why a file of trust material cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file is no PEM of the expected kind.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The file is no trusted root.
    #[error(transparent)]
    Root(#[from] RootError),
}

/// Why a text file cannot be read. The text does not name the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is no text.
    #[error("not UTF-8")]
    NotUtf8,
}

/// Why a text is no trusted root.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The library cannot parse it.
    #[error("no trusted root: {0}")]
    Malformed(String),
    /// It is something else.
    #[error("its mediaType is {0:?}, which is no trusted root")]
    MediaType(String),
    /// It is no JSON.
    #[error("no JSON: {0}")]
    Json(serde_json::Error),
    /// A key or a certificate in it cannot be used.
    #[error("{0}")]
    Material(String),
}

/// The arrays of a trusted_root.json, by their names in it: all four of them, or those that variables gave.
type Arrays = Map<String, Value>;

/// A part of the trust root that has a source of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Fulcio,
    Rekor,
    Ct,
    Tsa,
}

const PARTS: [Part; 4] = [Part::Fulcio, Part::Rekor, Part::Ct, Part::Tsa];

impl Part {
    /// The part's name, for operators.
    fn name(self) -> &'static str {
        match self {
            Part::Fulcio => "Fulcio certificate authorities",
            Part::Rekor => "Rekor keys",
            Part::Ct => "certificate transparency keys",
            Part::Tsa => "timestamp authorities",
        }
    }

    /// The variable that cosign has for the part.
    fn variable(self) -> &'static str {
        match self {
            Part::Fulcio => "SIGSTORE_ROOT_FILE",
            Part::Rekor => "SIGSTORE_REKOR_PUBLIC_KEY",
            Part::Ct => "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE",
            Part::Tsa => "SIGSTORE_TSA_CERTIFICATE_FILE",
        }
    }

    /// The part's array in a trusted_root.json.
    fn array(self) -> &'static str {
        match self {
            Part::Fulcio => "certificateAuthorities",
            Part::Rekor => "tlogs",
            Part::Ct => "ctlogs",
            Part::Tsa => "timestampAuthorities",
        }
    }

    /// Reads the file of the part's variable, as that array.
    fn read(self, path: &Path) -> Result<Value, SourceError> {
        let text = read(path, limits::TRUST_FILE)?;
        let array = match self {
            Part::Fulcio => pem::authorities(&text),
            Part::Rekor => pem::logs(&text, &["P-256", "P-384", "Ed25519", "RSA"]),
            // RFC 6962 section 2.1.4 has P-256 and RSA, sigstore's logs P-384 too; no SCT is made with Ed25519.
            Part::Ct => pem::logs(&text, &["P-256", "P-384", "RSA"]),
            Part::Tsa => pem::timestamp_authorities(&text),
        }?;
        assemble(&Arrays::from_iter([(self.array().to_owned(), array.clone())]), &Arrays::new())?;
        Ok(array)
    }
}

/// Loads the trust root, without network and without writing. `configured` is the option `trusted_root`.
///
/// # Errors
/// Every source in use that is broken, by its key or variable and its file, with what is wrong and what to do. No part is
/// ever taken from a later source instead.
pub(crate) fn load(configured: Option<&Path>, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Trust, TrustError> {
    match configured {
        Some(path) => of_configuration(path).map_err(|why| TrustError::Option { path: path.to_owned(), why }),
        None => of_environment(env),
    }
}

fn of_configuration(path: &Path) -> Result<Trust, SourceError> {
    let (arrays, root) = parse(&read(path, limits::TRUST_FILE)?)?;
    let empty = PARTS.iter().all(|part| arrays.get(part.array()).is_none_or(|array| *array == json!([])));
    let warnings = match empty {
        true => vec![format!("trusted_root: {}: all parts are empty: no keyless signature verifies", path.display())],
        false => Vec::new(),
    };
    let sources = PARTS.map(|part| (part.name(), format!("trusted_root {}", path.display())));
    Ok(Trust { root, sources, warnings, refresh: None })
}

fn of_environment(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Trust, TrustError> {
    let mut own = Arrays::new();
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    for part in PARTS {
        let Some(path) = variable(env, part.variable()) else { continue };
        match part.read(&path) {
            Ok(array) => drop(own.insert(part.array().to_owned(), array)),
            Err(why) => errors.push(EnvironmentError::Variable { variable: part.variable(), path, why }),
        }
    }
    let all_set = PARTS.iter().all(|part| variable(env, part.variable()).is_some());
    // The cache is checked whatever the variables hold, so that all errors are told at once.
    let shared = match all_set {
        true => None,
        false => tuf::shared(env, &mut warnings).map_err(|why| errors.push(why.into())).ok(),
    };
    if !errors.is_empty() {
        return Err(TrustError::Environment(errors));
    }
    let (arrays, refresh, shared) = match shared {
        None => (Arrays::new(), None, String::new()),
        Some(Shared { arrays, seed, source }) => {
            (arrays, seed.map(|seed| Refresh::new(seed, own.clone(), source.clone())), source)
        }
    };
    let root = assemble(&own, &arrays)?;
    let sources = PARTS.map(|part| {
        let source = match variable(env, part.variable()) {
            Some(path) => format!("{} {}", part.variable(), path.display()),
            None => shared.clone(),
        };
        (part.name(), source)
    });
    Ok(Trust { root, sources, warnings, refresh })
}

/// A path from the environment. An empty variable counts as unset, as in cosign: container platforms set variables to nothing.
fn variable(env: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    env(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Parses a trusted_root.json: its four arrays, and the root that they make.
fn parse(text: &str) -> Result<(Arrays, TrustedRoot), RootError> {
    // The typed form first: it refuses duplicate keys, of which a `Value` keeps the last.
    let typed = TrustedRoot::from_json(text).map_err(|error| RootError::Malformed(chain(&error)))?;
    if !typed.media_type.starts_with(MEDIA_TYPE) {
        return Err(RootError::MediaType(typed.media_type));
    }
    let value: Value = serde_json::from_str(text).map_err(RootError::Json)?;
    let taken = PARTS.map(|part| {
        let array = value.get(part.array()).cloned().unwrap_or_else(|| json!([]));
        (part.array().to_owned(), array)
    });
    let arrays = Arrays::from_iter(taken);
    let root = assemble(&arrays, &Arrays::new())?;
    Ok((arrays, root))
}

/// Makes a root of `own` arrays, and of `shared` ones for those that are missing.
///
/// # Errors
/// A key or a certificate that nothing can be verified with: [`Verifier::new`] reads each of them.
fn assemble(own: &Arrays, shared: &Arrays) -> Result<TrustedRoot, RootError> {
    let mut value = Arrays::from_iter([("mediaType".to_owned(), json!(format!("{MEDIA_TYPE}+json;version=0.1")))]);
    for part in PARTS {
        let array = own.get(part.array()).or_else(|| shared.get(part.array())).cloned();
        value.insert(part.array().to_owned(), array.unwrap_or_else(|| json!([])));
    }
    let root: TrustedRoot =
        serde_json::from_value(Value::Object(value)).map_err(|error| RootError::Malformed(error.to_string()))?;
    Verifier::new(&root).map_err(|error| RootError::Material(chain(&error)))?;
    Ok(root)
}

/// Reads a regular file's text.
pub(crate) fn read(path: &Path, limit: u64) -> Result<String, ReadError> {
    String::from_utf8(file::read(path, limit)?).map_err(|_| ReadError::NotUtf8)
}

/// The text of an error with its causes: these libraries leave the cause out of `Display`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some of them repeat the cause.
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}
