//! Registration entries of spire-server, and how far they match a workload.
//!
//! SPIRE gives an SVID of an entry to a workload that has every selector of the entry. Here a selector is a text, `TYPE:VALUE`. No type
//! has a colon.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use bounded::text::printable;
use serde::Deserialize;

use super::Failure;
use super::input::Input;
use crate::limits;

/// What all selectors of the `docker` attestor begin with.
pub(super) const DOCKER: &str = "docker:";
/// What selectors of env values begin with. Their values may be secrets.
const ENV: &str = "docker:env:";

/// A registration entry.
pub(super) struct Entry {
    /// The entry's id.
    pub(super) id: String,
    /// The SPIFFE ID that it gives.
    pub(super) spiffe_id: String,
    /// Its selectors, sorted, none twice.
    pub(super) selectors: Vec<String>,
}

/// The output of `spire-server entry show -output json`: the message ListEntriesResponse of SPIRE's API as protojson prints it. Newer
/// servers may add fields.
#[derive(Deserialize)]
struct Shown {
    entries: Vec<ShownEntry>,
}

#[derive(Deserialize)]
struct ShownEntry {
    id: String,
    spiffe_id: ShownId,
    selectors: Vec<ShownSelector>,
}

#[derive(Deserialize)]
struct ShownId {
    trust_domain: String,
    path: String,
}

#[derive(Deserialize)]
struct ShownSelector {
    r#type: String,
    value: String,
}

/// Reads the entries that `spire-server entry show -output json` printed. `-` is standard input.
///
/// # Errors
/// The file cannot be read, is too large, or holds something else. No value is quoted.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, Failure> {
    let input = Input::open(path, limits::ENTRIES_FILE)?;
    let name = input.name.clone();
    parse(&name, &input.read()?)
}

fn parse(name: &str, text: &[u8]) -> Result<Vec<Entry>, Failure> {
    let shown: Shown = serde_json::from_slice(text).map_err(|error| {
        Failure::Usage(format!(
            "{name} is not what `spire-server entry show -output json` prints (line {}, column {})",
            error.line(),
            error.column()
        ))
    })?;
    if shown.entries.len() > limits::ENTRIES {
        let (count, most) = (shown.entries.len(), limits::ENTRIES);
        return Err(Failure::Usage(format!("{name} has {count} entries: {most} may be, so select some (-parentID)")));
    }
    let entry = |ShownEntry { id, spiffe_id, selectors }| {
        let text = |ShownSelector { r#type, value }| format!("{type}:{value}");
        let mut selectors: Vec<String> = selectors.into_iter().map(text).collect();
        selectors.sort_unstable();
        selectors.dedup();
        Entry { id, spiffe_id: format!("spiffe://{}{}", spiffe_id.trust_domain, spiffe_id.path), selectors }
    };
    Ok(shown.entries.into_iter().map(entry).collect())
}

impl Entry {
    /// The selectors of the `docker` attestor.
    pub(super) fn docker_selectors(&self) -> impl Iterator<Item = &str> {
        self.selectors.iter().map(String::as_str).filter(|selector| selector.starts_with(DOCKER))
    }

    /// The number of selectors of other attestors.
    pub(super) fn others(&self) -> usize {
        self.selectors.len() - self.docker_selectors().count()
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} (entry {})", self.spiffe_id, self.id)
    }
}

/// Which workloads have which selectors. The workloads are numbered in their order.
pub(super) struct Holders<'a> {
    exactly: HashMap<&'a str, Vec<usize>>,
    alike: HashMap<String, Vec<usize>>,
}

impl<'a> Holders<'a> {
    /// The holders of the selectors of these workloads.
    pub(super) fn new(workloads: impl Iterator<Item = &'a BTreeSet<String>>) -> Holders<'a> {
        let (mut exactly, mut alike) = (HashMap::<&str, Vec<usize>>::new(), HashMap::<String, Vec<usize>>::new());
        for (number, selectors) in workloads.enumerate() {
            for selector in selectors {
                exactly.entry(selector).or_default().push(number);
                let holders = alike.entry(likeness(selector)).or_default();
                if holders.last() != Some(&number) {
                    holders.push(number);
                }
            }
        }
        Holders { exactly, alike }
    }

    /// The workloads that have all of these selectors.
    pub(super) fn of_all(&self, selectors: &[&str]) -> BTreeSet<usize> {
        in_all(selectors, |selector| self.exactly.get(selector))
    }

    /// The workloads that are likely meant by these selectors: they have each of them in some spelling, or at another release of the
    /// image. Digests do not count.
    pub(super) fn near(&self, selectors: &[&str]) -> BTreeSet<usize> {
        let telling: Vec<&str> = selectors.iter().copied().filter(|selector| !is_of_digest(selector)).collect();
        in_all(&telling, |selector| self.alike.get(&likeness(selector)))
    }
}

/// The numbers that are in the list of every selector. None if there are no selectors.
fn in_all<'a>(selectors: &[&str], list: impl Fn(&str) -> Option<&'a Vec<usize>>) -> BTreeSet<usize> {
    let mut lists = Vec::new();
    for selector in selectors {
        match list(selector) {
            Some(list) => lists.push(list),
            None => return BTreeSet::new(),
        }
    }
    lists.sort_by_key(|list| list.len());
    let Some((shortest, others)) = lists.split_first() else { return BTreeSet::new() };
    // The lists are sorted, as the workloads were numbered in order.
    let in_others = |number: &&usize| others.iter().all(|list| list.binary_search(number).is_ok());
    shortest.iter().filter(in_others).copied().collect()
}

/// A selector of an entry that a workload does not have, and what the workload has in its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    wanted: String,
    here: Option<String>,
}

impl Difference {
    /// Compares a selector that is not among `here` with the ones that are.
    pub(super) fn of(wanted: &str, here: &BTreeSet<String>) -> Difference {
        let key = key(wanted);
        let candidates = here.iter().filter(|other| kind(other) == kind(wanted));
        let candidates = candidates.filter(|other| folded(self::key(other)) == folded(key));
        // One that is written in another way stands before another value of the same key.
        let nearest = candidates.min_by_key(|other| (likeness(other) != likeness(wanted), self::key(other) != key));
        Difference { wanted: wanted.to_owned(), here: nearest.cloned() }
    }
}

/// Safe to print: values of env are left out.
impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let wanted = without_env_value(&self.wanted);
        match &self.here {
            None => write!(formatter, "{wanted} in the entry, nothing like it here"),
            Some(here) if here.starts_with(ENV) && key(here) == key(&self.wanted) => {
                write!(formatter, "{wanted} in the entry, another value here (values of env are not shown)")
            }
            Some(here) => write!(formatter, "{wanted} in the entry, {} here", without_env_value(here)),
        }
    }
}

/// A selector that is safe to print: without the value of an env variable, which may be a secret.
pub(super) fn without_env_value(selector: &str) -> String {
    match selector.strip_prefix(ENV) {
        Some(_) if key(selector).len() < selector.len() => format!("{}=…", printable(key(selector))),
        // Text without `=` may be a value.
        Some(_) => format!("{ENV}…"),
        None => printable(selector),
    }
}

/// The type and the kind: `docker:label` of `docker:label:app:web`.
fn kind(selector: &str) -> &str {
    nth_colon(selector, 2)
}

/// What names the selector among those of its kind: `docker:label:app` of `docker:label:app:web`, `docker:env:MODE` of
/// `docker:env:MODE=live`. Another kind has one selector at most, or none that can be told apart.
fn key(selector: &str) -> &str {
    match kind(selector) {
        "docker:label" => nth_colon(selector, 3),
        "docker:env" => selector.split_once('=').map_or(selector, |(key, _)| key),
        kind => kind,
    }
}

/// The text before the nth colon, or all of it.
fn nth_colon(selector: &str, nth: usize) -> &str {
    let end = selector.match_indices(':').nth(nth.saturating_sub(1)).map_or(selector.len(), |(end, _)| end);
    selector.get(..end).unwrap_or(selector)
}

/// Whether the selector is a digest, which does not tell what workload is meant.
fn is_of_digest(selector: &str) -> bool {
    matches!(kind(selector), "docker:image_config_digest" | "docker:image_manifest_digest")
}

/// What selectors have in common that are the same in another spelling, or name the same image at another tag or digest.
fn likeness(selector: &str) -> String {
    match kind(selector) {
        image @ "docker:image_id" => format!("{image}:{}", folded(repository(selector))),
        kind => format!("{kind}:{}", folded(selector)),
    }
}

/// The last part of an image's name, without tag and digest. A registry before the name may be left out.
fn repository(selector: &str) -> &str {
    let name = selector.strip_prefix("docker:image_id:").unwrap_or(selector);
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let last = name.rsplit_once('/').map_or(name, |(_, last)| last);
    last.split_once(':').map_or(last, |(name, _)| name)
}

/// The letters and digits in lower case.
fn folded(text: &str) -> String {
    text.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// How far an entry matches a workload.
pub(super) struct Ranked<'a> {
    /// The entry.
    pub(super) entry: &'a Entry,
    /// The docker selectors that the workload does not have.
    pub(super) missing: Vec<&'a str>,
}

/// The entries that have docker selectors. Those with the fewest missing ones stand first. Of equals, those stand first that the
/// workload matches in another spelling, at another tag, or with another digest. `here` is what the workload has.
pub(super) fn rank<'a>(entries: &'a [Entry], here: &BTreeSet<String>) -> Vec<Ranked<'a>> {
    let alike: HashSet<String> = here.iter().map(|selector| likeness(selector)).collect();
    let is_distant = |selector: &&&str| !is_of_digest(selector) && !alike.contains(&likeness(selector));
    let with_docker = entries.iter().filter(|entry| entry.docker_selectors().next().is_some());
    let mut ranked: Vec<Ranked<'a>> = with_docker
        .map(|entry| {
            let missing = entry.docker_selectors().filter(|selector| !here.contains(*selector));
            Ranked { entry, missing: missing.collect() }
        })
        .collect();
    ranked.sort_by_cached_key(|Ranked { entry, missing }| {
        let found = entry.docker_selectors().count() - missing.len();
        let distant = missing.iter().filter(is_distant).count();
        (missing.len(), distant, Reverse(found), entry.spiffe_id.clone(), entry.id.clone())
    });
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = r#"{"entries":[{"id":"e1","spiffe_id":{"trust_domain":"example.org","path":"/web"},"parent_id":{"trust_domain":
        "example.org","path":"/agent"},"selectors":[{"type":"unix","value":"uid:0"},{"type":"docker","value":"label:app:Web"},
        {"type":"docker","value":"label:app:Web"}],"x509_svid_ttl":0,"federates_with":[],"expires_at":"0","revision_number":"3"}],
        "next_page_token":""}"#;

    fn here(selectors: &[&str]) -> BTreeSet<String> {
        selectors.iter().map(|&selector| selector.to_owned()).collect()
    }

    #[test]
    fn entries_are_read_as_the_server_prints_them() {
        let entries = parse("x", SHOWN.as_bytes()).unwrap();
        let [entry] = &*entries else { panic!("{}", entries.len()) };
        assert_eq!(entry.to_string(), "spiffe://example.org/web (entry e1)");
        assert_eq!(entry.selectors, ["docker:label:app:Web", "unix:uid:0"]);
        assert_eq!(entry.others(), 1);
    }

    #[test]
    fn what_is_no_entry_is_refused_by_its_place_and_without_its_values() {
        for text in ["", "[]", "{}", "{\"entries\": 1}", r#"{"entries": [{"id": 1, "secret": "hunter2"}]}"#] {
            let failure = parse("e.json", text.as_bytes()).map(|_| ()).unwrap_err().to_string();
            assert!(failure.starts_with("e.json is not what `spire-server entry show -output json` prints (line "));
            assert!(!failure.contains("hunter2"));
        }
        let one = r#"{"id":"","spiffe_id":{"trust_domain":"","path":""},"selectors":[]},"#;
        let many = format!("{{\"entries\":[{}]}}", one.repeat(limits::ENTRIES + 1).trim_end_matches(','));
        assert!(parse("x", many.as_bytes()).map(|_| ()).unwrap_err().to_string().contains("200001 entries"));
    }

    #[test]
    fn a_difference_shows_both_selectors_and_never_a_value_of_env() {
        let here = here(&[
            "docker:label:app:web",
            "docker:label:tier:front",
            "docker:env:MODE=secret1",
            "docker:env:secret3",
            "docker:image_id:shop/web:1.4",
            "docker:image_config_digest:sha256:aa",
        ]);
        let holders = Holders::new([&here].into_iter());
        for (wanted, shown, near) in [
            ("docker:label:app:Web", "docker:label:app:Web in the entry, docker:label:app:web here", true),
            ("docker:label:App:web", "docker:label:App:web in the entry, docker:label:app:web here", true),
            ("docker:label:app:api", "docker:label:app:api in the entry, docker:label:app:web here", false),
            ("docker:label:team:x", "docker:label:team:x in the entry, nothing like it here", false),
            (
                "docker:image_id:shop/web:1.5",
                "docker:image_id:shop/web:1.5 in the entry, docker:image_id:shop/web:1.4 here",
                true,
            ),
            (
                "docker:image_id:api:1.4",
                "docker:image_id:api:1.4 in the entry, docker:image_id:shop/web:1.4 here",
                false,
            ),
            (
                "docker:image_config_digest:sha256:bb",
                "docker:image_config_digest:sha256:bb in the entry, docker:image_config_digest:sha256:aa here",
                // A digest alone does not tell what workload is meant.
                false,
            ),
            (
                "docker:env:MODE=secret2",
                "docker:env:MODE=… in the entry, another value here (values of env are not shown)",
                false,
            ),
            ("docker:env:mode=secret1", "docker:env:mode=… in the entry, docker:env:MODE=… here", true),
            ("docker:env:secret4", "docker:env:… in the entry, nothing like it here", false),
        ] {
            assert_eq!(Difference::of(wanted, &here).to_string(), shown);
            assert_eq!(!holders.near(&[wanted]).is_empty(), near, "{wanted}");
        }
        let near = holders.near(&["docker:label:app:Web", "docker:image_config_digest:sha256:bb"]);
        assert_eq!(near, BTreeSet::from([0]));
    }

    #[test]
    fn the_entry_with_the_fewest_missing_selectors_is_first() {
        let entry = |id: &str, selectors: &[&str]| {
            let selectors = selectors.iter().map(|&selector| selector.to_owned()).collect();
            Entry { id: id.to_owned(), spiffe_id: String::new(), selectors }
        };
        let entries = [
            entry("other", &["docker:label:app:api"]),
            entry("two", &["docker:label:app:api", "docker:label:tier:back"]),
            entry("spelling", &["docker:label:app:Web"]),
            entry("no docker", &["unix:uid:0"]),
            entry("match", &["docker:label:app:web", "unix:uid:0"]),
        ];
        let ranked = rank(&entries, &here(&["docker:label:app:web"]));
        let ids: Vec<&str> = ranked.iter().map(|ranked| &*ranked.entry.id).collect();
        assert_eq!(ids, ["match", "spelling", "other", "two"]);
    }
}
