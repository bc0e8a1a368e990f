//! The trust material: which certificate authorities, log keys and timestamp authorities signatures are verified with.
//!
//! Each of the four parts has a source of its own, and presence selects it: a source that is there and broken is an
//! error, never a reason to take the next one, since the last one trusts every signer of the public-good instance.
//!
//! 1. `trusted_root` of the configuration: all four parts, and nothing else is looked at.
//! 2. The part's variable, as in cosign: a path; set but empty counts as unset, as cosign has it.
//! 3. What `cosign initialize` left in `$TUF_ROOT` or `$HOME/.sigstore/root`: its metadata are verified again, offline.
//! 4. The public-good root in this program.

mod pem;
#[cfg(test)]
mod tests;
mod tuf;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bounded::file;
use serde_json::{Map, Value, json};
use sigstore_trust_root::TrustedRoot;
use sigstore_verify::Verifier;

pub(super) use self::tuf::Refresh;
use self::tuf::Shared;
use crate::limits;

/// One file of trust material. The public-good trusted_root.json is some 7 KiB.
const FILE: u64 = limits::TRUST_FILE;
/// What protobuf-specs calls a trusted root, followed by its version in either of two spellings.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot";

/// The trust root to verify with, and where each of its parts came from.
#[derive(Debug)]
pub(super) struct Trust {
    /// Checked: a verifier can be made of it.
    pub(super) root: TrustedRoot,
    /// For the log: the name of each part, and its source.
    pub(super) sources: [(&'static str, String); 4],
    /// For the log: what an operator should know although it works.
    pub(super) warnings: Vec<String>,
    /// There if a part came from TUF, from a mirror that may be asked.
    pub(super) refresh: Option<Refresh>,
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
    /// For people.
    fn name(self) -> &'static str {
        match self {
            Part::Fulcio => "Fulcio certificate authorities",
            Part::Rekor => "Rekor keys",
            Part::Ct => "certificate transparency keys",
            Part::Tsa => "timestamp authorities",
        }
    }

    /// The variable that cosign has for it.
    fn variable(self) -> &'static str {
        match self {
            Part::Fulcio => "SIGSTORE_ROOT_FILE",
            Part::Rekor => "SIGSTORE_REKOR_PUBLIC_KEY",
            Part::Ct => "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE",
            Part::Tsa => "SIGSTORE_TSA_CERTIFICATE_FILE",
        }
    }

    /// Its array in a trusted_root.json.
    fn array(self) -> &'static str {
        match self {
            Part::Fulcio => "certificateAuthorities",
            Part::Rekor => "tlogs",
            Part::Ct => "ctlogs",
            Part::Tsa => "timestampAuthorities",
        }
    }

    /// What its variable's file holds, as that array.
    fn read(self, path: &Path) -> Result<Value, String> {
        let text = read(path, FILE)?;
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

/// Loads the trust root: no network, nothing is written. `configured` is `trusted_root` of the configuration.
///
/// # Errors
/// Every source in use that is broken, by its key or variable and its file, with what is wrong and what to do. No part is
/// ever taken from a later source instead.
pub(super) fn load(configured: Option<&Path>, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Trust, String> {
    match configured {
        Some(path) => of_configuration(path)
            .map_err(|reason| format!("trusted_root: {}: {reason}: name a trusted_root.json", path.display())),
        None => of_environment(env),
    }
}

fn of_configuration(path: &Path) -> Result<Trust, String> {
    let (arrays, root) = parse(&read(path, FILE)?)?;
    let empty = PARTS.iter().all(|part| arrays.get(part.array()).is_none_or(|array| *array == json!([])));
    let warnings = match empty {
        true => vec![format!("trusted_root: {}: all parts are empty: no keyless signature verifies", path.display())],
        false => Vec::new(),
    };
    let sources = PARTS.map(|part| (part.name(), format!("trusted_root {}", path.display())));
    Ok(Trust { root, sources, warnings, refresh: None })
}

fn of_environment(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Trust, String> {
    let mut own = Arrays::new();
    let mut wrong = Vec::new();
    let mut warnings = Vec::new();
    for part in PARTS {
        let Some(path) = variable(env, part.variable()) else { continue };
        match part.read(&path) {
            Ok(array) => drop(own.insert(part.array().to_owned(), array)),
            Err(reason) => wrong.push(format!("{}: {}: {reason}", part.variable(), path.display())),
        }
    }
    let all_set = PARTS.iter().all(|part| variable(env, part.variable()).is_some());
    // Looked at whatever the variables hold, so that all that is wrong is said at once.
    let shared = match all_set {
        true => None,
        false => tuf::shared(env, &mut warnings).map_err(|reason| wrong.push(reason)).ok(),
    };
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
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

/// A path from the environment. Empty is unset: cosign has it so, and container platforms set variables to nothing.
fn variable(env: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    env(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A trusted_root.json: its four arrays, and what can be verified with them.
fn parse(text: &str) -> Result<(Arrays, TrustedRoot), String> {
    // The typed form first: it refuses keys that are there twice, of which a `Value` keeps the last.
    let typed = TrustedRoot::from_json(text).map_err(|error| format!("no trusted root: {}", chain(&error)))?;
    if !typed.media_type.starts_with(MEDIA_TYPE) {
        return Err(format!("its mediaType is {:?}, which is no trusted root", typed.media_type));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    let taken = PARTS.map(|part| {
        let array = value.get(part.array()).cloned().unwrap_or_else(|| json!([]));
        (part.array().to_owned(), array)
    });
    let arrays = Arrays::from_iter(taken);
    let root = assemble(&arrays, &Arrays::new())?;
    Ok((arrays, root))
}

/// A root of `own` arrays, and of `shared` ones for those that are not there.
///
/// # Errors
/// A key or a certificate that nothing can be verified with: [`Verifier::new`] reads each of them.
fn assemble(own: &Arrays, shared: &Arrays) -> Result<TrustedRoot, String> {
    let mut value = Arrays::from_iter([("mediaType".to_owned(), json!(format!("{MEDIA_TYPE}+json;version=0.1")))]);
    for part in PARTS {
        let array = own.get(part.array()).or_else(|| shared.get(part.array())).cloned();
        value.insert(part.array().to_owned(), array.unwrap_or_else(|| json!([])));
    }
    let root: TrustedRoot =
        serde_json::from_value(Value::Object(value)).map_err(|error| format!("no trusted root: {error}"))?;
    Verifier::new(&root).map_err(|error| chain(&error))?;
    Ok(root)
}

/// A regular file's text.
pub(super) fn read(path: &Path, limit: u64) -> Result<String, String> {
    String::from_utf8(file::read(path, limit).map_err(|why| why.to_string())?).map_err(|_| "not UTF-8".to_owned())
}

/// An error with its causes: these libraries leave the cause out of `Display`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some of them do repeat it.
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}
