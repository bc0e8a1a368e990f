//! What a policy returned, held to size, shape and truth (decision 11): a selector of a built-in kind must state a fact of
//! the proven container or of its verified signatures, and no other kind may look like one.

use std::collections::HashSet;

use bounded::text::is_invisible;
use containers::Container;

use crate::limits;
use crate::sandbox::bindings::docker_attestor::policy::sigstore::{Signature, Verified};
use crate::signatures::Judged;
use crate::workload::{Told, Workload};

/// The built-in kinds. `image-signature` and `image-attestations` are beginnings of kinds.
const KINDS: [&str; 5] = ["label", "env", "image_id", "image_config_digest", "image_manifest_digest"];
const SIGNATURE_KINDS: [&str; 2] = ["image-signature", "image-attestations"];
/// The type that spire-server puts before each selector: `docker:docker:label:…` would be read as one of ours.
const TYPE: &str = "docker";

/// Why an answer is refused. The selector's value is not quoted: it may be an env value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More than [`limits::SELECTORS`].
    #[error("it returned {0} selectors, more than {limit}", limit = limits::SELECTORS)]
    TooMany(usize),
    /// Longer than [`limits::SELECTOR`], or all together than [`limits::SELECTORS_TOTAL`].
    #[error(
        "its selector {index} is too long: one may have {} bytes, all together {}",
        limits::SELECTOR,
        limits::SELECTORS_TOTAL
    )]
    TooLong {
        /// Counted from 1.
        index: usize,
    },
    /// Twice the same.
    #[error("its selector {index} is a duplicate (kind \"{kind}\")")]
    Duplicate {
        /// Counted from 1.
        index: usize,
        /// The text before the first colon, escaped.
        kind: String,
    },
    /// A built-in kind that states no fact.
    #[error("its selector {index} of the built-in kind \"{kind}\" states no fact of the proven container")]
    False {
        /// Counted from 1.
        index: usize,
        /// The kind.
        kind: String,
    },
    /// A kind of its own that is none, or looks like a built-in one.
    #[error("its selector {index} has the kind \"{kind}\", which {why}")]
    Kind {
        /// Counted from 1.
        index: usize,
        /// The text before the first colon, escaped.
        kind: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Checks a policy's answer against what the workload is proven to be. `extensions` are the names of the extensions: theirs alone.
pub fn check(selectors: &[String], workload: &Workload, extensions: &[String]) -> Result<(), Refused> {
    if selectors.len() > limits::SELECTORS {
        return Err(Refused::TooMany(selectors.len()));
    }
    let container = workload.container().map(|proven| proven.container());
    let verified = workload.asked().iter().find_map(|asked| match &asked.told {
        Told::Verify(Ok(Judged::Verified(verified))) => Some(verified.record()),
        _ => None,
    });
    let mut total = 0;
    let mut facts = container.map(Facts::new);
    let mut signed = None;
    let mut seen = HashSet::with_capacity(selectors.len());
    for (index, selector) in selectors.iter().enumerate() {
        let index = index + 1;
        total += selector.len();
        if selector.len() > limits::SELECTOR || total > limits::SELECTORS_TOTAL {
            return Err(Refused::TooLong { index });
        }
        let (kind, value) = selector.split_once(':').unwrap_or((selector, ""));
        if !seen.insert(selector.as_str()) {
            return Err(Refused::Duplicate { index, kind: quoted(kind) });
        }
        let stated = match kind {
            kind if KINDS.contains(&kind) => facts.as_mut().is_some_and(|facts| facts.state(kind, value)),
            kind if SIGNATURE_KINDS.iter().any(|begin| kind.starts_with(begin)) => {
                let facts = || verified.map(signature_facts).unwrap_or_default();
                signed.get_or_insert_with(facts).contains(selector)
            }
            kind => {
                own_kind(kind, selector, extensions).map_err(|why| Refused::Kind { index, kind: quoted(kind), why })?;
                continue;
            }
        };
        if !stated {
            return Err(Refused::False { index, kind: kind.to_owned() });
        }
    }
    Ok(())
}

/// The facts of a container. Policies emit them in the container's order, so each is looked for from where the last one was found.
/// Where a policy has an order of its own, tables answer.
struct Facts<'a> {
    container: &'a Container,
    label: usize,
    env: usize,
    /// `KEY:VALUE`, made when they are needed.
    labels: Option<HashSet<String>>,
    envs: Option<HashSet<&'a str>>,
}

impl<'a> Facts<'a> {
    fn new(container: &'a Container) -> Facts<'a> {
        Facts { container, label: 0, env: 0, labels: None, envs: None }
    }

    fn state(&mut self, kind: &str, value: &str) -> bool {
        let container = self.container;
        match kind {
            "label" => {
                let is_value = |(key, label): &(String, String)| {
                    value.strip_prefix(key.as_str()).and_then(|rest| rest.strip_prefix(':')) == Some(label)
                };
                let all = || container.labels.iter().map(|(key, label)| [key, ":", label].concat()).collect();
                comes_next(&mut self.label, &container.labels, is_value)
                    || self.labels.get_or_insert_with(all).contains(value)
            }
            "env" => {
                let all = || container.env.iter().map(String::as_str).collect();
                comes_next(&mut self.env, &container.env, |env| env == value)
                    || self.envs.get_or_insert_with(all).contains(value)
            }
            "image_id" => !container.image.is_empty() && container.image == value,
            "image_config_digest" => container.image_id.as_deref() == Some(value),
            "image_manifest_digest" => container.image_manifest_digest.as_deref() == Some(value),
            _ => false,
        }
    }
}

/// Whether an item from `next` on matches. All calls together look at each item once: after a miss none is left.
fn comes_next<T>(next: &mut usize, items: &[T], matches: impl Fn(&T) -> bool) -> bool {
    let rest = items.get(*next..).unwrap_or_default();
    let found = rest.iter().position(matches);
    *next = found.map_or(items.len(), |found| *next + found + 1);
    found.is_some()
}

/// Every selector that verified signatures state.
fn signature_facts(verified: &Verified) -> HashSet<String> {
    let mut facts = HashSet::from(["image-signature:verified".to_owned()]);
    if verified.attestations {
        facts.insert("image-attestations:verified".to_owned());
    }
    for signature in &verified.signatures {
        let Signature { subject, issuer, value, log_id, log_index, integrated_time, signed_entry_timestamp } =
            signature;
        let number = |number: &Option<u64>| number.map(|number| number.to_string());
        let fields = [
            ("subject", subject.clone()),
            ("issuer", issuer.clone()),
            ("value", value.clone()),
            ("log-id", log_id.clone()),
            ("log-index", number(log_index)),
            ("integrated-time", number(integrated_time)),
            ("signed-entry-timestamp", signed_entry_timestamp.clone()),
        ];
        facts.extend(fields.into_iter().filter_map(|(field, text)| Some(format!("image-signature-{field}:{}", text?))));
    }
    facts
}

/// A kind of the policy's own: lowercase, and not one that a reader could take for a built-in one.
fn own_kind(kind: &str, selector: &str, extensions: &[String]) -> Result<(), &'static str> {
    if kind.len() == selector.len() || kind.is_empty() {
        return Err("is not of the form KIND:VALUE");
    }
    if kind.len() > limits::OWN_KIND {
        return Err("has more than 64 bytes");
    }
    if kind.len() + 1 == selector.len() {
        return Err("has an empty value");
    }
    if selector.chars().any(is_invisible) {
        return Err("has a control or format character in its selector");
    }
    if !kind.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.')) {
        return Err("may have a-z, 0-9, _, - and . only");
    }
    if let Some(why) = reserved(kind) {
        return Err(why);
    }
    if extensions.iter().any(|extension| folded(extension) == folded(kind)) {
        return Err("looks like an extension's name");
    }
    Ok(())
}

/// Why nobody else may have a kind: a reader could take it for a built-in one, or for the type before it.
pub(crate) fn reserved(kind: &str) -> Option<&'static str> {
    let kind = folded(kind);
    let built_in = KINDS.iter().any(|built_in| kind == folded(built_in))
        || SIGNATURE_KINDS.iter().any(|built_in| kind.starts_with(&folded(built_in)));
    match kind.as_str() {
        _ if built_in => Some("looks like a built-in kind"),
        TYPE => Some("looks like the type of all selectors, docker"),
        _ => None,
    }
}

fn folded(kind: &str) -> String {
    kind.chars().filter(char::is_ascii_alphanumeric).collect()
}

fn quoted(kind: &str) -> String {
    let start: String = kind.chars().take(40).collect();
    start.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_a_fact_whatever_its_characters_and_without_a_value() {
        let container = Container {
            id: "0".repeat(64),
            labels: vec![("K".to_owned(), String::new()), ("a".to_owned(), "\u{202e}b".to_owned())],
            env: vec!["X=".to_owned(), "Y=\u{200b}".to_owned()],
            image: "web:1".to_owned(),
            image_id: None,
            image_manifest_digest: None,
        };
        let mut facts = Facts::new(&container);
        for (kind, value) in [("label", "K:"), ("label", "a:\u{202e}b"), ("env", "X="), ("env", "Y=\u{200b}")] {
            assert!(facts.state(kind, value), "{kind}:{value:?}");
        }
    }

    #[test]
    fn an_own_kind_has_a_value_that_can_be_seen() {
        let extensions = ["compose".to_owned()];
        let own = |selector: &str| {
            let (kind, _) = selector.split_once(':').unwrap_or((selector, ""));
            own_kind(kind, selector, &extensions)
        };
        assert_eq!(own("own:a b"), Ok(()));
        assert_eq!(own("docker-host:a"), Ok(()));
        assert_eq!(own("own:"), Err("has an empty value"));
        for invisible in ["\n", "\u{ad}", "\u{200b}", "\u{202e}", "\u{2066}", "\u{2028}", "\u{2029}", "\u{e0061}"] {
            assert_eq!(own(&format!("own:a{invisible}")), Err("has a control or format character in its selector"));
        }
        for docker in ["docker:a", "doc-ker:a", "d.o.c.k.e.r:a"] {
            assert_eq!(own(docker), Err("looks like the type of all selectors, docker"));
        }
    }
}
