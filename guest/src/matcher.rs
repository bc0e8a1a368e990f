//! The patterns of `container_id_cgroup_matchers`, which match a cgroup path by components. They are no regular expressions.
//! `*` matches any one component, `<id>` the component that is the container id, and any other text only itself.

use std::collections::BTreeSet;

/// A pattern's token for any one component.
const ANY: &str = "*";
/// A pattern's token for the component that is the container id.
const ID: &str = "<id>";
/// How many ambiguous patterns a message names, and how many bytes of each. The host accepts texts of 4 KiB.
const NAMED: usize = 8;
const SHOWN: usize = 400;

/// A set of patterns of which at most one can match any path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matchers<'a>(&'a [String]);

/// Why a set of patterns is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// There are no patterns.
    NoPatterns,
    /// These patterns, sorted, can match the same path as another one.
    Ambiguous(Vec<String>),
    /// This pattern does not have exactly one `<id>`.
    IdTokenCount(String),
}

impl Unusable {
    /// Describes the problem, and what to write instead.
    pub fn message(&self) -> String {
        match self {
            Unusable::NoPatterns => "container_id_cgroup_matchers: at least one pattern must be given".to_owned(),
            Unusable::Ambiguous(patterns) => {
                let mut message =
                    "container_id_cgroup_matchers: patterns must not be ambiguous (able to match the same path): "
                        .to_owned();
                for (index, pattern) in patterns.iter().take(NAMED).enumerate() {
                    if index > 0 {
                        message.push_str(", ");
                    }
                    quote(&mut message, pattern);
                }
                if let more @ 1.. = patterns.len().saturating_sub(NAMED) {
                    message.push_str(" and ");
                    message.push_str(&more.to_string());
                    message.push_str(" more");
                }
                message
            }
            Unusable::IdTokenCount(pattern) => {
                let mut message = "container_id_cgroup_matchers: pattern ".to_owned();
                quote(&mut message, pattern);
                message.push_str(" must contain the container id token \"<id>\" exactly once");
                message
            }
        }
    }
}

fn quote(message: &mut String, pattern: &str) {
    let shown = pattern.get(..pattern.floor_char_boundary(SHOWN)).unwrap_or(pattern);
    message.push('"');
    message.push_str(shown);
    message.push_str(if shown.len() < pattern.len() { "…\"" } else { "\"" });
}

impl<'a> Matchers<'a> {
    /// Checks the patterns. Ambiguity is thus found when the patterns are configured, not when a path matches two of them.
    pub fn new(patterns: &'a [String]) -> Result<Matchers<'a>, Unusable> {
        if patterns.is_empty() {
            return Err(Unusable::NoPatterns);
        }
        let ambiguous = ambiguous(patterns);
        if !ambiguous.is_empty() {
            return Err(Unusable::Ambiguous(ambiguous));
        }
        match patterns.iter().find(|pattern| pattern.split('/').filter(|&part| part == ID).count() != 1) {
            Some(pattern) => Err(Unusable::IdTokenCount(pattern.clone())),
            None => Ok(Matchers(patterns)),
        }
    }

    /// Finds the container id in `path`, if a pattern matches. The id may be empty, because `<id>` also matches an empty component.
    pub fn find<'p>(&self, path: &'p str) -> Option<&'p str> {
        self.0.iter().find_map(|pattern| find(pattern, path))
    }
}

fn find<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let mut id = None;
    let mut components = path.split('/');
    for part in pattern.split('/') {
        let component = components.next()?;
        match part {
            ANY => {}
            ID => id = Some(component),
            part if part == component => {}
            _ => return None,
        }
    }
    match components.next() {
        Some(_) => None,
        None => id,
    }
}

/// Returns the patterns that can match the same path as another one, sorted and without duplicates. Every pair is compared in every
/// attestation, so each pattern is split into components once, and not for each comparison.
fn ambiguous(patterns: &[String]) -> Vec<String> {
    let mut patterns: Vec<Pattern<'_>> = patterns.iter().map(|text| Pattern::new(text)).collect();
    let mut rest = patterns.as_mut_slice();
    while let Some((one, others)) = rest.split_first_mut() {
        for other in others.iter_mut() {
            if overlap(&one.parts, &other.parts) {
                (one.ambiguous, other.ambiguous) = (true, true);
            }
        }
        rest = others;
    }
    let ambiguous: BTreeSet<&str> = patterns.iter().filter(|it| it.ambiguous).map(|it| it.text).collect();
    ambiguous.into_iter().map(str::to_owned).collect()
}

struct Pattern<'a> {
    text: &'a str,
    /// The text of each component, `None` for a token.
    parts: Vec<Option<&'a str>>,
    /// Whether the pattern can match the same path as another one.
    ambiguous: bool,
}

impl<'a> Pattern<'a> {
    fn new(text: &'a str) -> Pattern<'a> {
        let parts = text.split('/').map(|part| (part != ANY && part != ID).then_some(part)).collect();
        Pattern { text, parts, ambiguous: false }
    }
}

/// Whether some path matches both: as many components, and for each component the same text or a token on either side.
fn overlap(one: &[Option<&str>], other: &[Option<&str>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.is_none() || b.is_none() || a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|&pattern| pattern.to_owned()).collect()
    }

    #[test]
    fn a_pattern_finds_the_id_component_by_component() {
        let patterns = patterns(&["/docker/<id>", "/my.slice/*/<id>/*"]);
        let matchers = Matchers::new(&patterns).unwrap();
        assert_eq!(matchers.find("/docker/abc"), Some("abc"));
        assert_eq!(matchers.find("/my.slice/foo/abc/bar"), Some("abc"));
        assert_eq!(matchers.find("/docker/abc/def"), None);
        assert_eq!(matchers.find("/docker"), None);
        assert_eq!(matchers.find("/my-slice/foo/abc/bar"), None);
        assert_eq!(matchers.find("docker/abc"), None);
        assert_eq!(matchers.find("/docker/"), Some(""));
    }

    #[test]
    fn ambiguity_names_the_patterns() {
        let patterns = patterns(&["/z/<id>", "/*/b/<id>", "/a/b/<id>"]);
        let unusable = Matchers::new(&patterns).unwrap_err();
        assert_eq!(unusable, Unusable::Ambiguous(vec!["/*/b/<id>".to_owned(), "/a/b/<id>".to_owned()]));
        assert!(unusable.message().ends_with("\"/*/b/<id>\", \"/a/b/<id>\""));
    }

    #[test]
    fn a_message_is_bounded() {
        let long: Vec<String> =
            (0..20).map(|number| format!("/*/<id>/{}", "ä".repeat(4_000)) + &number.to_string()).collect();
        let same: Vec<String> = long.iter().chain(&long).cloned().collect();
        let message = Matchers::new(&same).unwrap_err().message();
        assert!(message.len() < 4_096 && message.ends_with("ä…\" and 12 more"), "{message}");
        let message = Unusable::IdTokenCount("x".repeat(4_096)).message();
        assert!(message.len() < 600 && message.contains("x…\" must contain"), "{message}");
    }

    #[test]
    fn exactly_one_id_token() {
        for pattern in ["/docker", "/<id>/<id>", "/x<id>"] {
            let patterns = patterns(&[pattern]);
            assert_eq!(Matchers::new(&patterns), Err(Unusable::IdTokenCount(pattern.to_owned())));
        }
    }
}
