//! What an operator wants to know of the trust root: where each part comes from, and until when it is good.

use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use super::{PARTS, Part, Trust, TrustError, load};

/// The trust root, for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustDescription {
    /// The four parts.
    pub parts: Vec<TrustPart>,
    /// What an operator should know although it works.
    pub warnings: Vec<String>,
    /// Whether parts are refreshed over the network while a verifier is in use.
    pub refreshed: bool,
}

/// A part of the trust root: its keys, or its certificate authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustPart {
    /// The part's name.
    pub name: &'static str,
    /// Where the part comes from.
    pub source: String,
    /// The number of its keys or authorities.
    pub total: usize,
    /// How many of them are good at the time of the description.
    pub good: usize,
    /// When the last of those ends. `None` if one of them has no end, or none is good.
    pub until: Option<Timestamp>,
}

/// Describes the trust root that a verifier with this option `trusted_root` starts with. Needs no network.
///
/// # Errors
/// The trust material cannot be loaded.
pub fn describe_trust(configured: Option<&Path>, now: Timestamp) -> Result<TrustDescription, TrustError> {
    let Trust { root, sources, warnings, refresh } = load(configured, &|name| std::env::var_os(name))?;
    let root = serde_json::to_value(&root).unwrap_or_default();
    let parts = PARTS.into_iter().zip(sources).map(|(part, (name, source))| describe(&root, part, name, source, now));
    Ok(TrustDescription { parts: parts.collect(), warnings, refreshed: refresh.is_some() })
}

fn describe(root: &Value, part: Part, name: &'static str, source: String, now: Timestamp) -> TrustPart {
    let entries = root.get(part.array()).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    // Both ends of the time in which an entry is good are optional (protobuf-specs, TimeRange).
    let ends = entries.iter().filter_map(|entry| {
        let span = entry.get("validFor").or_else(|| entry.get("publicKey")?.get("validFor"));
        let time = |end: &str| span?.get(end)?.as_str()?.parse::<Timestamp>().ok();
        let (start, end) = (time("start"), time("end"));
        let good = start.is_none_or(|start| start <= now) && end.is_none_or(|end| now <= end);
        good.then_some(end)
    });
    let ends: Vec<Option<Timestamp>> = ends.collect();
    // `None` is less than every time, and stands for no end.
    let until = if ends.contains(&None) { None } else { ends.iter().copied().max().flatten() };
    TrustPart { name, source, total: entries.len(), good: ends.len(), until }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_is_good_between_its_ends_and_the_last_end_counts() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let span = |start: &str, end: Option<&str>| match end {
            Some(end) => json!({ "validFor": { "start": start, "end": end } }),
            None => json!({ "validFor": { "start": start } }),
        };
        let ended = span("2020-01-01T00:00:00Z", Some("2021-01-01T00:00:00Z"));
        let ends = span("2020-01-01T00:00:00Z", Some("2027-01-01T00:00:00Z"));
        let ends_later = span("2020-01-01T00:00:00Z", Some("2028-01-01T00:00:00Z"));
        let endless = span("2020-01-01T00:00:00Z", None);
        let to_come = span("2030-01-01T00:00:00Z", None);
        for (entries, good, until) in [
            (vec![], 0, None),
            (vec![&ended], 0, None),
            (vec![&to_come, &ended], 0, None),
            (vec![&ended, &ends_later, &ends], 2, Some("2028-01-01T00:00:00Z")),
            (vec![&ends, &endless], 2, None),
        ] {
            let authorities = json!({ "certificateAuthorities": entries });
            let part = describe(&authorities, Part::Fulcio, "a", "b".to_owned(), now);
            let until = until.map(|until: &str| until.parse().unwrap());
            assert_eq!((part.total, part.good, part.until), (entries.len(), good, until));
            let logs: Vec<Value> = entries.iter().map(|entry| json!({ "publicKey": entry })).collect();
            let part = describe(&json!({ "tlogs": logs }), Part::Rekor, "a", "b".to_owned(), now);
            assert_eq!((part.good, part.until), (good, until));
        }
    }

    #[test]
    fn the_root_in_this_program_has_good_keys_in_each_part() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("trusted_root.json");
        let instance = sigstore_trust_root::SigstoreInstance::PublicGood;
        std::fs::write(&file, instance.embedded_trusted_root_json()).unwrap();
        let now = "2026-11-01T00:00:00Z".parse().unwrap();
        let described = describe_trust(Some(&file), now).unwrap();
        assert!(described.parts.iter().all(|part| part.good > 0 && part.good <= part.total), "{described:?}");
        assert!(!described.refreshed && described.warnings.is_empty(), "{described:?}");
        let early = describe_trust(Some(&file), Timestamp::UNIX_EPOCH).unwrap();
        assert!(early.parts.iter().all(|part| part.good == 0 && part.total > 0), "{early:?}");
    }
}
