//! `container_id_cgroup_matchers`: patterns over the components of a cgroup path. `*` stands for any one component, `<id>`
//! for the one that is the container id, anything else for itself. Not regular expressions.

use std::collections::BTreeSet;

/// A pattern's token for any one component.
const ANY: &str = "*";
/// A pattern's token for the component that is the container id.
const ID: &str = "<id>";

/// Patterns of which at most one matches any path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matchers<'a>(&'a [String]);

/// Why patterns cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// There are none.
    NoPatterns,
    /// These patterns, sorted, can match the same path as another one.
    Ambiguous(Vec<String>),
    /// This pattern has not exactly one `<id>`.
    IdTokenCount(String),
}

impl Unusable {
    /// What is wrong and what to write instead.
    pub fn message(&self) -> String {
        match self {
            Unusable::NoPatterns => "container_id_cgroup_matchers: at least one pattern must be given".to_owned(),
            Unusable::Ambiguous(patterns) => {
                let mut message =
                    "container_id_cgroup_matchers: patterns must not be ambiguous (able to match the same path): "
                        .to_owned();
                for (index, pattern) in patterns.iter().enumerate() {
                    if index > 0 {
                        message.push_str(", ");
                    }
                    quote(&mut message, pattern);
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
    message.push('"');
    message.push_str(pattern);
    message.push('"');
}

impl<'a> Matchers<'a> {
    /// Checks the patterns. Ambiguity is found when they are configured, not when a path comes by.
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

    /// The container id in `path`, if a pattern matches. It may be empty, where `<id>` stands for an empty component.
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

/// The patterns that can match the same path as another one, sorted, each once.
fn ambiguous(patterns: &[String]) -> Vec<String> {
    let mut ambiguous = BTreeSet::new();
    for (index, one) in patterns.iter().enumerate() {
        let overlaps = |other: &String| overlap(one, other);
        if patterns.iter().take(index).any(overlaps) || patterns.iter().skip(index + 1).any(overlaps) {
            ambiguous.insert(one.as_str());
        }
    }
    ambiguous.into_iter().map(str::to_owned).collect()
}

/// Whether some path matches both: as many components, and at each place the same text or a token on either side.
fn overlap(one: &str, other: &str) -> bool {
    let mut others = other.split('/');
    let same = one
        .split('/')
        .all(|a| others.next().is_some_and(|b| a == b || [a, b].iter().any(|&part| part == ANY || part == ID)));
    same && others.next().is_none()
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
    fn exactly_one_id_token() {
        for pattern in ["/docker", "/<id>/<id>", "/x<id>"] {
            let patterns = patterns(&[pattern]);
            assert_eq!(Matchers::new(&patterns), Err(Unusable::IdTokenCount(pattern.to_owned())));
        }
    }
}
