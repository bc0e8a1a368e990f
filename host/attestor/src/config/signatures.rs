//! Validates `sigstore { … }`. The files that it names are read when the configuration is activated.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use bounded::text::is_sha256_hex;
use image_signatures::{Identities, Options};
use registry::{Credentials, is_host, normalize_host};
use url::Url;

use super::raw;
use super::report::{Report, Section};
use crate::limits::{self, SIGSTORE_LIST, VERDICTS_MAX};

/// The validated `sigstore { … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sigstore {
    /// How images are verified.
    pub options: Options,
    /// What an attestation does if the workload's image does not verify.
    pub on_failure: OnFailure,
}

/// `on_failure`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The attestation fails.
    Deny,
    /// The attestation returns the selectors without those of the failed part.
    Omit,
}

impl OnFailure {
    /// Parses `on_failure` of the object at `path`, which messages call `key`. An empty text means "deny".
    pub(super) fn parse(path: &[&str], key: &str, text: &str, report: &mut Report) -> OnFailure {
        match text {
            "" | "deny" => OnFailure::Deny,
            "omit" => OnFailure::Omit,
            other => {
                let path = [path, &["on_failure"]].concat();
                report.error(&path, format!("{key}.on_failure: {other:?} is neither \"deny\" nor \"omit\""));
                OnFailure::Deny
            }
        }
    }
}

/// Checks every value of `sigstore { … }`.
pub(super) fn validate(raw: raw::Sigstore, report: &mut Report) -> Option<Sigstore> {
    let before = report.errors.len();
    let defaults = Options::default();
    let identities = match Identities::new("sigstore.allowed_identities", &raw.allowed_identities) {
        Ok((identities, notes)) => {
            notes.iter().for_each(|note| report.note(Section::Sigstore, note.to_string()));
            identities
        }
        Err(errors) => {
            for error in errors {
                report.error(&["sigstore", "allowed_identities"], error.to_string());
            }
            Identities::default()
        }
    };
    for image in raw.skipped_images.iter().filter(|image| !is_digest(image)) {
        report.note(Section::Sigstore, format!(
            "sigstore.skipped_images: {image:?} matches no image: write repository@sha256:… as the engine prints it, or sha256:…"
        ));
    }
    let rekor_url = match raw.rekor_url.as_str() {
        "" => defaults.rekor_url.clone(),
        url => url.trim_end_matches('/').to_owned(),
    };
    if !is_log(&rekor_url) {
        report.error(
            &["sigstore", "rekor_url"],
            format!(
                "sigstore.rekor_url: {:?} is no URL of a log: write one such as {:?}",
                without_user(&rekor_url),
                defaults.rekor_url
            ),
        );
    }
    let on_failure = OnFailure::parse(&["sigstore"], "sigstore", &raw.on_failure, report);
    let registry_credentials = credentials(raw.registry_credentials, report);
    let mut insecure_registries = BTreeSet::new();
    for (index, host) in raw.insecure_registries.into_iter().enumerate() {
        let name = normalize_host(&host);
        match is_host(&name) {
            true => drop(insecure_registries.insert(name)),
            false => report.error(
                &["sigstore", "insecure_registries", &index.to_string()],
                format!("sigstore.insecure_registries: {:?} is no host: write HOST or HOST:PORT", without_user(&host)),
            ),
        }
    }
    let trusted_root = raw.trusted_root.map(PathBuf::from);
    if trusted_root.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        let text = "sigstore.trusted_root: the path is empty: name a trusted_root.json, or leave the key out";
        report.error(&["sigstore", "trusted_root"], text);
    }
    let ttl = match raw.cache.ttl.as_str() {
        "" => defaults.ttl,
        text => duration(text)
            .filter(|ttl| (Duration::from_secs(1)..=limits::VERDICT_TTL_MAX).contains(ttl))
            .unwrap_or_else(|| {
                report.error(
                    &["sigstore", "cache", "ttl"],
                    format!("sigstore.cache.ttl: {text:?} is no time of 1s to 168h, such as \"1h\" or \"90m\""),
                );
                defaults.ttl
            }),
    };
    let max_entries = match raw.cache.max_entries.as_str() {
        "" => defaults.max_entries,
        text => text.parse().ok().filter(|entries| (1..=VERDICTS_MAX).contains(entries)).unwrap_or_else(|| {
            report.error(
                &["sigstore", "cache", "max_entries"],
                format!("sigstore.cache.max_entries: {text:?} is no number of 1 to {VERDICTS_MAX}"),
            );
            defaults.max_entries
        }),
    };
    for (key, list) in [("public_keys", &raw.public_keys), ("registry_ca", &raw.registry_ca)] {
        if let Some(index) = list.iter().position(String::is_empty) {
            report.error(&["sigstore", key, &index.to_string()], format!("sigstore.{key}: a path is empty"));
        }
    }
    for (key, length) in [
        ("skipped_images", raw.skipped_images.len()),
        ("public_keys", raw.public_keys.len()),
        ("registry_ca", raw.registry_ca.len()),
        ("registry_credentials", registry_credentials.len()),
        ("insecure_registries", insecure_registries.len()),
        ("allowed_identities", raw.allowed_identities.values().map(|subjects| subjects.len().max(1)).sum()),
    ] {
        if length > SIGSTORE_LIST {
            report.error(&["sigstore", key], format!("sigstore.{key}: at most {SIGSTORE_LIST} values"));
        }
    }
    let options = Options {
        identities,
        skipped_images: raw.skipped_images,
        rekor_url,
        ignore_tlog: raw.ignore_tlog,
        ignore_attestations: raw.ignore_attestations,
        ignore_sct: raw.ignore_sct,
        require_attestations: raw.require_attestations.unwrap_or(true),
        registry_credentials,
        insecure_registries,
        registry_ca: raw.registry_ca.into_iter().map(PathBuf::from).collect(),
        trusted_root,
        public_keys: raw.public_keys.into_iter().map(PathBuf::from).collect(),
        ttl,
        max_entries,
    };
    (report.errors.len() == before).then_some(Sigstore { options, on_failure })
}

fn credentials(raw: BTreeMap<String, raw::Credentials>, report: &mut Report) -> BTreeMap<String, Credentials> {
    let mut credentials = BTreeMap::new();
    for (host, pair) in raw {
        let (username, password) = pair.into_parts();
        let shown = without_user(&host);
        let missing = match (username.is_empty(), password.is_empty()) {
            (true, _) => Some("username"),
            (false, true) => Some("password"),
            (false, false) => None,
        };
        if let Some(missing) = missing {
            let text = format!("sigstore.registry_credentials: {shown:?} has no {missing}: both are needed");
            report.error(&["sigstore", "registry_credentials", &host, missing], text);
        }
        let name = normalize_host(host.strip_prefix("https://").unwrap_or(&host).trim_end_matches('/'));
        if !is_host(&name) {
            let text = format!("sigstore.registry_credentials: {shown:?} is no registry: write HOST or HOST:PORT");
            report.error(&["sigstore", "registry_credentials", &host], text);
        }
        if credentials.insert(name, Credentials { username, password }).is_some() {
            let text = format!("sigstore.registry_credentials: {shown:?} is named twice");
            report.error(&["sigstore", "registry_credentials", &host], text);
        }
    }
    credentials
}

fn is_log(text: &str) -> bool {
    let strict = text.parse::<http::Uri>().is_ok_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && url.query().is_none()
    });
    strict && Url::parse(text).is_ok_and(|url| url.port() != Some(0))
}

/// Makes a text from the configuration safe to print: the part before an @ may be a password.
fn without_user(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("…@{rest}"))
}

/// Whether a text can be equal to a repo digest or a manifest digest.
fn is_digest(text: &str) -> bool {
    let digest = text.split_once('@').map_or(text, |(_, digest)| digest);
    digest.strip_prefix("sha256:").is_some_and(is_sha256_hex)
}

/// Parses whole hours, minutes and seconds in Go's notation, such as `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut seconds = 0_u64;
    let mut number = String::new();
    for character in text.chars() {
        let unit = match character {
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            '0'..='9' if number.len() < 9 => {
                number.push(character);
                continue;
            }
            _ => return None,
        };
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    (number.is_empty() && !text.is_empty()).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    fn sigstore(text: &str) -> Result<Sigstore, Vec<String>> {
        load(Some("example.org"), &format!("sigstore {{\n{text}\n}}"))
            .map(|configuration| configuration.sigstore.unwrap())
            .map_err(|invalid| invalid.lines())
    }

    #[test]
    fn nothing_written_means_the_defaults() {
        let defaults = sigstore("").unwrap();
        assert_eq!(defaults, Sigstore { options: Options::default(), on_failure: OnFailure::Deny });
        let defaults = defaults.options;
        assert_eq!(defaults.rekor_url, "https://rekor.sigstore.dev");
        assert!(defaults.require_attestations && !defaults.ignore_tlog && defaults.identities.is_empty());
        assert_eq!((defaults.ttl, defaults.max_entries), (Duration::from_secs(3_600), 1_000));
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            allowed_identities = { "https://issuer" = ["a@example.com"] }
            skipped_images = ["example.com/x@sha256:0000000000000000000000000000000000000000000000000000000000000000"]
            rekor_url = "https://rekor.example.com/"
            ignore_tlog = true
            ignore_attestations = true
            ignore_sct = true
            registry_credentials = { "https://index.docker.io" = { username = "u", password = "p" } }
            trusted_root = "/root.json"
            public_keys = ["/key.pub"]
            require_attestations = false
            on_failure = "omit"
            insecure_registries = ["registry:5000"]
            registry_ca = ["/ca.pem"]
            cache { ttl = "1h30m" max_entries = 7 }
        "#;
        let Sigstore { options: all, on_failure } = sigstore(text).unwrap();
        assert!(!all.identities.is_empty() && all.ignore_tlog && all.ignore_attestations && all.ignore_sct);
        assert!(!all.require_attestations);
        assert_eq!((on_failure, all.rekor_url.as_str()), (OnFailure::Omit, "https://rekor.example.com"));
        assert_eq!(all.registry_credentials["docker.io"].username, "u");
        assert_eq!((all.ttl, all.max_entries), (Duration::from_secs(5_400), 7));
        assert_eq!(all.trusted_root, Some("/root.json".into()));
        assert_eq!((all.public_keys.len(), all.registry_ca.len(), all.insecure_registries.len()), (1, 1, 1));
    }

    #[test]
    fn what_is_wrong_is_named_by_key_and_value() {
        for (text, note) in [
            ("on_failure = \"ignore\"", "sigstore.on_failure: \"ignore\" is neither"),
            ("rekor_url = \"rekor\"", "sigstore.rekor_url: \"rekor\" is no URL"),
            ("rekor_url = \"https://user:hunter2@rekor\"", "sigstore.rekor_url: \"…@rekor\""),
            ("rekor_url = \"https://user:hun@ter2@rekor\"", "sigstore.rekor_url: \"…@rekor\""),
            ("rekor_url = \"https://rekor:65536\"", "sigstore.rekor_url: \"https://rekor:65536\" is no URL"),
            ("rekor_url = \"https://rekor:0\"", "sigstore.rekor_url: \"https://rekor:0\" is no URL"),
            ("rekor_url = \"https:rekor\"", "sigstore.rekor_url: \"https:rekor\" is no URL"),
            ("rekor_url = \"https://rekor/?a=b\"", "is no URL of a log"),
            ("cache { ttl = \"soon\" }", "sigstore.cache.ttl: \"soon\""),
            ("cache { ttl = \"0s\" }", "sigstore.cache.ttl: \"0s\""),
            ("cache { max_entries = \"none\" }", "sigstore.cache.max_entries: \"none\""),
            ("registry_credentials = { \"r\" = { username = \"u\" } }", "\"r\" has no password"),
            ("registry_credentials = { \"r\" = { password = \"hunter2\" } }", "\"r\" has no username"),
            (
                "registry_credentials = { \"a b\" = { username = \"u\", password = \"hunter2\" } }",
                "\"a b\" is no registry",
            ),
            (
                "registry_credentials = { \"docker.io\" = { username = \"u\", password = \"hunter2\" }, \
                 \"index.docker.io\" = { username = \"u\", password = \"hunter2\" } }",
                "is named twice",
            ),
            (
                "registry_credentials = { \"user:hunter2@r\" = { username = \"u\", password = \"hunter2\" } }",
                "\"…@r\" is no registry",
            ),
            ("registry_credentials = { \"user:hunter2@r\" = { username = \"u\" } }", "\"…@r\" has no password"),
            (
                "registry_credentials = { \"user:hunter2@r\" = { username = \"u\", password = true } }",
                "sigstore.registry_credentials.…@r.password: expected a string",
            ),
            (
                "registry_credentials = { \"user:hunter2@r\" = 1 }",
                "sigstore.registry_credentials.…@r: expected an object",
            ),
            (
                "registry_credentials = { \"user:hunter2@r\" = { user = \"u\" } }",
                "unknown configurations detected: sigstore.registry_credentials.…@r.user",
            ),
            (
                "registry_credentials = { \"r:65536\" = { username = \"u\", password = \"hunter2\" } }",
                "\"r:65536\" is no registry",
            ),
            ("insecure_registries = [\"http://r\"]", "sigstore.insecure_registries: \"http://r\" is no host"),
            ("insecure_registries = [\"user:hunter2@r\"]", "sigstore.insecure_registries: \"…@r\" is no host"),
            ("insecure_registries = [\"r:65536\"]", "sigstore.insecure_registries: \"r:65536\" is no host"),
            ("insecure_registries = [\"r:0\"]", "\"r:0\" is no host"),
            ("insecure_registries = [\"r:\"]", "\"r:\" is no host"),
            ("insecure_registries = [\"r/x\"]", "\"r/x\" is no host"),
            ("insecure_registries = [\"\"]", "\"\" is no host"),
            ("trusted_root = \"\"", "sigstore.trusted_root: the path is empty"),
            ("allowed_identities = { \"i\" = [] }", "the issuer \"i\" has no subjects"),
            ("public_keys = [\"\"]", "sigstore.public_keys: a path is empty"),
        ] {
            let notes = sigstore(text).unwrap_err();
            assert!(notes.iter().any(|got| got.contains(note)), "{text}: {notes:?}");
            assert!(!notes.join(" ").contains("hun"), "{notes:?}");
        }
    }

    #[test]
    fn a_registry_has_one_name() {
        let text = r#"
            registry_credentials = {
                "https://index.docker.io/v1/" = { username = "u", password = "p" }
                "Registry.Example.com:5000" = { username = "u", password = "p" }
            }
            insecure_registries = ["REGISTRY:5000", "[::1]:5000", "10.0.0.1"]
        "#;
        let options = sigstore(text).unwrap().options;
        let names: Vec<&str> = options.registry_credentials.keys().map(String::as_str).collect();
        assert_eq!(names, ["docker.io", "registry.example.com:5000"]);
        let names: Vec<&str> = options.insecure_registries.iter().map(String::as_str).collect();
        assert_eq!(names, ["10.0.0.1", "[::1]:5000", "registry:5000"]);
    }

    #[test]
    fn a_skipped_image_that_no_image_is_called_is_noted() {
        let configuration = load(Some("example.org"), "sigstore { skipped_images = [\"busybox:latest\"] }").unwrap();
        assert!(
            configuration.report.notes.iter().any(|note| note.text.contains("\"busybox:latest\" matches no image"))
        );
    }

    #[test]
    fn secrets_have_no_debug_text() {
        let text = "registry_credentials = { \"r\" = { username = \"someuser\", password = \"hunter2\" } }";
        let debug = format!("{:?}", sigstore(text).unwrap());
        assert!(!debug.contains("hunter2") && !debug.contains("someuser"), "{debug}");
    }
}
