//! The check of a policy's selectors for size, shape and truth. A selector of a built-in kind must state a fact of the proven
//! container or of its verified signatures. No other kind may look like a built-in one.

use std::collections::HashSet;

use containers::{Container, Proven};
use image_signatures::{Signature, Verified};

use crate::kinds::{CONTAINER_KINDS, SIGNATURE_KINDS, check_own};
use crate::limits;
use crate::workload::Transcript;
use crate::workload::decision::Decision;

/// Why a policy's selectors are refused. No value of a selector is quoted, because it may be an env value. Selectors are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrue {
    /// There are more than [`limits::SELECTORS`].
    #[error("it returned {0} selectors, more than {limit}", limit = limits::SELECTORS)]
    TooMany(usize),
    /// One is longer than [`limits::SELECTOR`], or all together are longer than [`limits::SELECTORS_TOTAL`].
    #[error(
        "its selector {index} is too long: one may have {} bytes, all together {}",
        limits::SELECTOR,
        limits::SELECTORS_TOTAL
    )]
    TooLong {
        /// The selector.
        index: usize,
    },
    /// A selector occurs twice.
    #[error("its selector {index} is a duplicate (kind \"{kind}\")")]
    Duplicate {
        /// The selector.
        index: usize,
        /// The text before the first colon, escaped.
        kind: String,
    },
    /// A selector of a built-in kind states no fact.
    #[error("its selector {index} of the built-in kind \"{kind}\" states no fact of the proven container")]
    False {
        /// The selector.
        index: usize,
        /// The built-in kind.
        kind: String,
    },
    /// A selector of the policy's own kind has no such kind, or one that looks like a built-in kind.
    #[error("its selector {index} has the kind \"{kind}\", which {why}")]
    Kind {
        /// The selector.
        index: usize,
        /// The text before the first colon, escaped.
        kind: String,
        /// The fault of the kind, as the end of a sentence.
        why: &'static str,
    },
}

/// Checks a policy's selectors against what the policy was answered. `extensions` are the names that only extensions may emit under.
///
/// # Errors
/// The first selector that breaks a rule.
pub fn check(selectors: &[String], transcript: &Transcript, extensions: &[String]) -> Result<(), Untrue> {
    if selectors.len() > limits::SELECTORS {
        return Err(Untrue::TooMany(selectors.len()));
    }
    let container = transcript.container().map(Proven::container);
    let verified = match transcript.decision() {
        Some(Decision::Verified(verified)) => Some(&**verified),
        _ => None,
    };
    let mut total = 0;
    let mut facts = container.map(Facts::new);
    let mut signed = None;
    let mut seen = HashSet::with_capacity(selectors.len());
    for (index, selector) in selectors.iter().enumerate() {
        let index = index + 1;
        total += selector.len();
        if selector.len() > limits::SELECTOR || total > limits::SELECTORS_TOTAL {
            return Err(Untrue::TooLong { index });
        }
        let (kind, value) = selector.split_once(':').unwrap_or((selector, ""));
        if !seen.insert(selector.as_str()) {
            return Err(Untrue::Duplicate { index, kind: quoted(kind) });
        }
        let stated = match kind {
            kind if CONTAINER_KINDS.contains(&kind) => facts.as_mut().is_some_and(|facts| facts.state(kind, value)),
            kind if SIGNATURE_KINDS.iter().any(|begin| kind.starts_with(begin)) => {
                let facts = || verified.map(signature_facts).unwrap_or_default();
                signed.get_or_insert_with(facts).contains(selector)
            }
            kind => {
                check_own(kind, selector, extensions).map_err(|why| Untrue::Kind { index, kind: quoted(kind), why })?;
                continue;
            }
        };
        if !stated {
            return Err(Untrue::False { index, kind: kind.to_owned() });
        }
    }
    Ok(())
}

/// The facts of a container. Policies usually emit facts in the container's order, so that each fact is searched from where the last
/// one was found. For a policy with another order, hash tables are made.
struct Facts<'a> {
    container: &'a Container,
    label: usize,
    env: usize,
    /// All labels as `KEY:VALUE`, made when they are first needed.
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

/// Whether an item from `next` on matches. All calls together look at each item once, because a miss leaves no item for later calls.
fn comes_next<T>(next: &mut usize, items: &[T], matches: impl Fn(&T) -> bool) -> bool {
    let rest = items.get(*next..).unwrap_or_default();
    let found = rest.iter().position(matches);
    *next = found.map_or(items.len(), |found| *next + found + 1);
    found.is_some()
}

/// Every selector that the verified signatures state.
fn signature_facts(verified: &Verified) -> HashSet<String> {
    let mut facts = HashSet::from(["image-signature:verified".to_owned()]);
    if verified.attestations() {
        facts.insert("image-attestations:verified".to_owned());
    }
    for signature in verified.signatures() {
        let Signature { subject, issuer, value, log_id, log_index, integrated_time, signed_entry_timestamp } =
            signature;
        let number = |number: &Option<u64>| number.map(|number| number.to_string());
        let fields = [
            ("subject", subject.clone()),
            ("issuer", issuer.clone()),
            ("value", Some(value.clone())),
            ("log-id", log_id.clone()),
            ("log-index", number(log_index)),
            ("integrated-time", number(integrated_time)),
            ("signed-entry-timestamp", signed_entry_timestamp.clone()),
        ];
        facts.extend(fields.into_iter().filter_map(|(field, text)| Some(format!("image-signature-{field}:{}", text?))));
    }
    facts
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
}
