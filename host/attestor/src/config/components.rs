//! Validates `policy { … }` and `extension "EXTENSION_NAME" { … }`. The files that they name are read when the configuration is
//! activated.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use bounded::text::is_sha256_hex;
use containers::process::System;
use image_signatures::Identities;
use sandbox::needs::Grant;

use super::report::{Report, ValueError};
use super::suggestion::closest;
use super::{OnFailure, raw};
use crate::kinds::reserved;
use crate::limits::{self, COMPONENT_SETTING, COMPONENT_SETTINGS, EXTENSION_NAME, PIN_DIGESTS};

/// A component in a file: the policy, or an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// The file. Symbolic links are followed.
    pub path: PathBuf,
    /// Which contents of the file may run.
    pub pin: Pin,
    /// The component's own settings, sorted by key.
    pub settings: Vec<(String, String)>,
}

/// Which contents of a component's file may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// Those with one of these digests (`sha256:…`).
    Digests(Vec<String>),
    /// Those that one of the allowed identities signed.
    Signed {
        /// The file of the sigstore bundle.
        bundle: PathBuf,
        /// The identities that may sign.
        signers: Identities,
        /// Whether a new file may have a lower version than the one that runs.
        allow_older: bool,
    },
    /// Any content (`unpinned = true`).
    Unpinned,
}

/// `extension "EXTENSION_NAME" { … }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// The name, with which all its selectors begin.
    pub name: String,
    /// Its component.
    pub component: Component,
    /// Which facts about a workload it receives.
    pub grants: Grants,
    /// What an attestation does if the extension fails.
    pub on_failure: OnFailure,
}

/// The facts about a workload that an extension receives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Grants {
    /// The container's labels.
    pub labels: bool,
    /// The container's environment variables.
    pub env: bool,
    /// The facts about the image.
    pub image: bool,
    /// The process's effective uid and gid.
    pub process: bool,
}

impl Grants {
    /// Whether the fact is granted.
    pub fn has(&self, grant: Grant) -> bool {
        match grant {
            Grant::Labels => self.labels,
            Grant::Env => self.env,
            Grant::Image => self.image,
            Grant::Process => self.process,
        }
    }

    fn grant(&mut self, name: &str) -> Option<()> {
        let granted = match Grant::ALL.into_iter().find(|grant| grant.name() == name)? {
            Grant::Labels => &mut self.labels,
            Grant::Env => &mut self.env,
            Grant::Image => &mut self.image,
            Grant::Process => &mut self.process,
        };
        *granted = true;
        Some(())
    }
}

impl fmt::Display for Grants {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let granted: Vec<&str> = Grant::ALL.into_iter().filter(|grant| self.has(*grant)).map(Grant::name).collect();
        formatter.write_str(if granted.is_empty() { "nothing" } else { "" })?;
        formatter.write_str(&granted.join(", "))
    }
}

/// Checks the values of `policy`.
pub(super) fn policy(raw: raw::Component, report: &mut Report) -> Option<Component> {
    component(&["policy"], "policy", raw, report)
}

/// Checks the values of every `extension`, and returns the extensions sorted by name.
pub(super) fn extensions(system: System, raw: BTreeMap<String, raw::Extension>, report: &mut Report) -> Vec<Extension> {
    if raw.len() > limits::EXTENSIONS {
        report
            .error(&["extension"], format!("extension: {} of them: at most {} may be", raw.len(), limits::EXTENSIONS));
    }
    let mut extensions: Vec<Extension> = Vec::new();
    for (name, raw) in raw {
        let key = format!("extension {name:?}");
        let path = ["extension", name.as_str()];
        if let Err(why) = check_name(&name, &extensions) {
            report.error(&path, format!("{key}: {why}"));
        }
        let mut grants = Grants::default();
        for (index, grant) in raw.grants.iter().enumerate() {
            if grants.grant(grant).is_none() {
                let names = Grant::ALL.map(Grant::name);
                let help = closest(grant, names).map(|name| format!("did you mean {name:?}?"));
                let names = names.map(|name| format!("{name:?}")).join(", ");
                let text = format!("{key}.grants: {grant:?} is none: write some of {names}");
                report.error_with_help(&["extension", &name, "grants", &index.to_string()], text, help);
            }
        }
        if grants.process && system == System::Windows {
            report.error(
                &["extension", &name, "grants"],
                format!("{key}.grants: \"process\" is uid and gid, which Windows does not have: leave it out"),
            );
        }
        let on_failure = OnFailure::parse(&["extension", &name], &key, &raw.on_failure, report);
        if let Some(component) = component(&path, &key, raw.component, report) {
            extensions.push(Extension { name, component, grants, on_failure });
        }
    }
    extensions
}

fn check_name(name: &str, others: &[Extension]) -> Result<(), ValueError> {
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > EXTENSION_NAME || !name.bytes().all(fits) {
        return Err(ValueError::from(format!(
            "the name may have a-z, 0-9, _, - and . only, and {EXTENSION_NAME} of them"
        )));
    }
    if let Some(why) = reserved(name) {
        return Err(ValueError::from(format!("the name {why}: take another")));
    }
    let bare = |name: &str| name.replace(['_', '-', '.'], "");
    match others.iter().find(|other| bare(&other.name) == bare(name)) {
        Some(other) => {
            Err(ValueError::from(format!("the name looks like that of extension {:?}: take another", other.name)))
        }
        None => Ok(()),
    }
}

/// Checks the values of the component at `path`, which messages call `key`.
fn component(path: &[&str], key: &str, raw: raw::Component, report: &mut Report) -> Option<Component> {
    let before = report.errors.len();
    let at = |name| [path, &[name]].concat();
    if raw.path.is_empty() {
        report.error(&at("path"), format!("{key}.path is missing"));
    }
    let file = absolute(&at("path"), &format!("{key}.path"), &raw.path, report);
    let signature = [("bundle", &raw.bundle), ("identity", &raw.identity), ("issuer", &raw.issuer)];
    let signed = signature.iter().any(|(_, value)| !value.is_empty());
    let pin = match (raw.sha256.0.is_empty(), signed, raw.unpinned) {
        (false, false, false) => Pin::Digests(digests(&at("sha256"), key, &raw.sha256.0, report)),
        (true, true, false) => {
            for (name, _) in signature.iter().filter(|(_, value)| value.is_empty()) {
                report.error(
                    &at(name),
                    format!("{key}.{name} is missing: a signed component needs bundle, identity and issuer"),
                );
            }
            let bundle = absolute(&at("bundle"), &format!("{key}.bundle"), &raw.bundle, report);
            let allowed = BTreeMap::from([(raw.issuer.clone(), vec![raw.identity.clone()])]);
            let signers = match Identities::new(&format!("{key}.identity"), &allowed) {
                Ok((signers, notes)) => {
                    notes.iter().for_each(|note| report.warn(&at("identity"), note.to_string()));
                    signers
                }
                Err(errors) => {
                    // The errors about empty keys are already in the report.
                    if !raw.issuer.is_empty() && !raw.identity.is_empty() {
                        errors.iter().for_each(|error| report.error(&at("identity"), error.to_string()));
                    }
                    Identities::default()
                }
            };
            Pin::Signed { bundle, signers, allow_older: raw.allow_older }
        }
        (true, false, true) => {
            report.warn(&at("unpinned"), format!(
                "{key}: unpinned: whoever can write to {} decides about selectors; write its sha256, or have it signed",
                raw.path
            ));
            Pin::Unpinned
        }
        (true, false, false) => {
            report.error(&at("sha256"), format!(
                "{key}: {:?} is neither pinned nor signed: write sha256 = \"…\" (sha256sum of the file), or bundle, identity and \
                 issuer, or unpinned = true",
                raw.path
            ));
            Pin::Unpinned
        }
        _ => {
            report.error(
                path,
                format!("{key}: sha256, bundle with identity and issuer, and unpinned exclude each other: write one"),
            );
            Pin::Unpinned
        }
    };
    if raw.allow_older && !signed {
        report.error(&at("allow_older"), format!("{key}.allow_older is for signed components: a pin has no order"));
    }
    let long = raw.settings.iter().any(|(name, value)| name.len() + value.len() > COMPONENT_SETTING);
    if raw.settings.len() > COMPONENT_SETTINGS || long {
        report.error(
            &at("settings"),
            format!("{key}.settings: at most {COMPONENT_SETTINGS}, each of at most {COMPONENT_SETTING} bytes"),
        );
    }
    (report.errors.len() == before).then(|| Component { path: file, pin, settings: raw.settings.into_iter().collect() })
}

/// Parses an absolute path. The caller refuses an empty text.
fn absolute(path: &[&str], key: &str, text: &str, report: &mut Report) -> PathBuf {
    let file = PathBuf::from(text);
    if !text.is_empty() && !file.is_absolute() {
        report.error(path, format!("{key}: {text:?} is not an absolute path"));
    }
    file
}

fn digests(path: &[&str], key: &str, values: &[String], report: &mut Report) -> Vec<String> {
    if values.len() > PIN_DIGESTS {
        report.error(path, format!("{key}.sha256: at most {PIN_DIGESTS} digests"));
    }
    let mut digests = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let hex = value.strip_prefix("sha256:").unwrap_or(value);
        match is_sha256_hex(hex) {
            true => digests.push(format!("sha256:{hex}")),
            false => report.error(
                &[path, &[index.to_string().as_str()]].concat(),
                format!("{key}.sha256: {value:?} is no digest: write 64 lowercase hex digits, as sha256sum prints"),
            ),
        }
    }
    digests
}

#[cfg(test)]
mod tests {
    use super::super::{Configuration, load};
    use super::*;

    const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn configured(text: &str) -> Result<Configuration, Vec<String>> {
        load(Some("example.org"), text).map_err(|invalid| invalid.lines())
    }

    #[test]
    fn a_policy_is_pinned_or_signed_or_said_to_be_neither() {
        let pinned = configured(&format!(
            "policy {{ path = \"/p.wasm\" sha256 = \"{DIGEST}\" settings = {{ b = \"2\" a = \"1\" }} }}"
        ));
        let policy = pinned.unwrap().policy.unwrap();
        assert_eq!(policy.pin, Pin::Digests(vec![format!("sha256:{DIGEST}")]));
        assert_eq!(policy.settings, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);

        let two = configured(&format!("policy {{ path = \"/p.wasm\" sha256 = [\"{DIGEST}\", \"sha256:{DIGEST}\"] }}"));
        assert!(matches!(two.unwrap().policy.unwrap().pin, Pin::Digests(digests) if digests.len() == 2));

        let signed = "policy { path = \"/p.wasm\" bundle = \"/p.sigstore.json\" identity = \"a@example.org\" issuer = \"https://issuer\" }";
        let pin = configured(signed).unwrap().policy.unwrap().pin;
        assert!(matches!(pin, Pin::Signed { allow_older: false, .. }), "{pin:?}");

        let unpinned = configured("policy { path = \"/p.wasm\" unpinned = true }").unwrap();
        assert_eq!(unpinned.policy.unwrap().pin, Pin::Unpinned);
        assert!(
            unpinned
                .report
                .warnings
                .iter()
                .any(|warning| warning.text.contains("whoever can write to /p.wasm decides"))
        );
    }

    #[test]
    fn an_extension_has_grants_and_says_what_its_failure_means() {
        let text = format!(
            "extension \"compose\" {{ path = \"/c.wasm\" sha256 = \"{DIGEST}\" grants = [\"labels\", \"process\"] on_failure = \"omit\" }}\n\
             extension \"a\" {{ path = \"/a.wasm\" sha256 = \"{DIGEST}\" }}"
        );
        let extensions = configured(&text).unwrap().extensions;
        assert_eq!(extensions.iter().map(|extension| extension.name.as_str()).collect::<Vec<_>>(), ["a", "compose"]);
        assert_eq!(extensions[1].grants, Grants { labels: true, process: true, ..Grants::default() });
        assert_eq!(extensions[1].on_failure, OnFailure::Omit);
        assert_eq!((extensions[0].grants, extensions[0].on_failure), (Grants::default(), OnFailure::Deny));
        assert_eq!(extensions[1].grants.to_string(), "labels, process");
    }

    #[test]
    fn what_is_wrong_is_named_by_key_and_value() {
        let signed = "bundle = \"/b\" identity = \"i\" issuer = \"https://issuer\"";
        for (text, note) in [
            ("policy { path = \"/p\" }".to_owned(), "policy: \"/p\" is neither pinned nor signed"),
            ("policy { unpinned = true }".to_owned(), "policy.path is missing"),
            ("policy { path = \"p\" unpinned = true }".to_owned(), "policy.path: \"p\" is not an absolute path"),
            ("policy { path = \"/p\" sha256 = \"ABC\" }".to_owned(), "policy.sha256: \"ABC\" is no digest"),
            (format!("policy {{ path = \"/p\" sha256 = \"{DIGEST}\" unpinned = true }}"), "exclude each other"),
            (format!("policy {{ path = \"/p\" sha256 = \"{DIGEST}\" {signed} }}"), "exclude each other"),
            ("policy { path = \"/p\" bundle = \"/b\" }".to_owned(), "policy.identity is missing"),
            (
                "policy { path = \"/p\" bundle = \"/b\" issuer = \"i\" identity = \"a(\" }".to_owned(),
                "\"a(\" is no regular expression",
            ),
            (
                format!("policy {{ path = \"/p\" sha256 = \"{DIGEST}\" allow_older = true }}"),
                "policy.allow_older is for signed",
            ),
            (
                format!("policy {{ path = \"/p\" sha256 = \"{DIGEST}\" grants = [\"env\"] }}"),
                "unknown configurations detected: policy.grants",
            ),
            (
                format!("extension \"Label\" {{ path = \"/p\" sha256 = \"{DIGEST}\" }}"),
                "extension \"Label\": the name may have",
            ),
            (format!("extension \"image-id\" {{ path = \"/p\" sha256 = \"{DIGEST}\" }}"), "looks like a built-in kind"),
            (
                format!("extension \"doc-ker\" {{ path = \"/p\" sha256 = \"{DIGEST}\" }}"),
                "extension \"doc-ker\": the name looks like the type of all selectors",
            ),
            (
                format!(
                    "extension \"a-b\" {{ path = \"/p\" sha256 = \"{DIGEST}\" }}\nextension \"ab\" {{ path = \"/p\" sha256 = \"{DIGEST}\" }}"
                ),
                "extension \"ab\": the name looks like that of extension \"a-b\"",
            ),
            (
                format!("extension \"x\" {{ path = \"/p\" sha256 = \"{DIGEST}\" grants = [\"cgroups\"] }}"),
                "extension \"x\".grants: \"cgroups\" is none",
            ),
            (
                format!("extension \"x\" {{ path = \"/p\" sha256 = \"{DIGEST}\" on_failure = \"ignore\" }}"),
                "extension \"x\".on_failure: \"ignore\" is neither",
            ),
        ] {
            let notes = configured(&text).unwrap_err();
            assert!(notes.iter().any(|got| got.contains(note)), "{text}: {notes:?}");
        }
    }
}
