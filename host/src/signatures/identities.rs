//! Rule 7: who may sign. Issuers and subjects are whole values, or regular expressions that match the whole value.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

/// A value with one of these is a regular expression.
const EXPRESSION: &[char] = &['*', '+', '?', '^', '$', '{', '}', '[', ']', '|', '(', ')'];
/// Bytes that a compiled expression may take.
const COMPILED: usize = 1 << 20;

/// The identities that a configuration allows; none: any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identities {
    /// The key of the configuration that has them, for the reason of a refusal.
    key: String,
    allowed: Vec<(Value, Vec<Value>)>,
}

/// An issuer or a subject as the configuration has it.
#[derive(Debug, Clone)]
struct Value {
    text: String,
    expression: Option<Expression>,
}

#[derive(Debug, Clone)]
struct Expression {
    whole: Regex,
    part: Regex,
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        self.text == other.text
    }
}

impl Eq for Value {}

impl Value {
    fn new(text: &str) -> Result<Value, String> {
        let expression = match text.contains(EXPRESSION) {
            true => Some(Expression {
                // The value alone first: `a)|(b` would get out of what is put around it.
                part: compile(text)?,
                whole: compile(&format!(r"\A(?:{text})\z"))?,
            }),
            false => None,
        };
        Ok(Value { text: text.to_owned(), expression })
    }

    fn matches(&self, value: &str) -> bool {
        self.text == value || self.expression.as_ref().is_some_and(|expression| expression.whole.is_match(value))
    }

    /// Whether the expression matches a part of the value, but not the whole.
    fn matches_in_part(&self, value: &str) -> bool {
        !self.matches(value) && self.expression.as_ref().is_some_and(|expression| expression.part.is_match(value))
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).size_limit(COMPILED).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the expression is too large".to_owned(),
        error => {
            let text = error.to_string();
            text.lines().last().unwrap_or("it does not compile").trim_start_matches("error: ").to_owned()
        }
    })
}

impl Identities {
    /// The identities that the configuration has under `key`, and what is worth knowing about them; or everything that is wrong.
    pub fn new(key: &str, allowed: &BTreeMap<String, Vec<String>>) -> Result<(Identities, Vec<String>), Vec<String>> {
        let mut identities = Vec::new();
        let mut notes = Vec::new();
        let mut wrong = Vec::new();
        for (issuer, subjects) in allowed {
            if subjects.is_empty() {
                wrong.push(format!("{key}: the issuer {issuer:?} has no subjects: list some"));
            }
            let mut parse = |what: &str, text: &str| {
                if text.is_empty() {
                    wrong.push(format!("{key}: {what} is empty"));
                    return None;
                }
                let value = Value::new(text).map_err(|why| {
                    wrong.push(format!("{key}: {what} {text:?} is no regular expression: {why}"));
                });
                notes.extend(in_part(text).map(|note| format!("{key}: {what} {text:?} {note}")));
                value.ok()
            };
            let issuer_value = parse("issuer", issuer);
            let of = format!("issuer {issuer:?}: subject");
            let subjects: Vec<Value> = subjects.iter().filter_map(|subject| parse(&of, subject)).collect();
            identities.extend(issuer_value.map(|issuer| (issuer, subjects)));
        }
        let last = key.rsplit('.').next().unwrap_or(key);
        match wrong.is_empty() {
            true if identities.is_empty() => Ok((Identities::default(), notes)),
            true => Ok((Identities { key: last.to_owned(), allowed: identities }, notes)),
            false => Err(wrong),
        }
    }

    /// Whether any signer will do.
    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty()
    }

    /// Whether a certificate with this issuer and these subjects may sign.
    pub fn allow(&self, issuer: &str, subjects: &[String]) -> Result<String, String> {
        let who = || format!("{subjects:?} of issuer {issuer:?}");
        if self.is_empty() {
            return Ok(format!("{}: any signer is allowed", who()));
        }
        let mut hint = String::new();
        for (allowed_issuer, allowed_subjects) in &self.allowed {
            if allowed_issuer.matches_in_part(issuer) {
                hint = format!("; issuer {:?} matches it only in part", allowed_issuer.text);
            }
            if !allowed_issuer.matches(issuer) {
                continue;
            }
            for allowed in allowed_subjects {
                if let Some(subject) = subjects.iter().find(|subject| allowed.matches(subject)) {
                    return Ok(format!("{subject:?} of issuer {issuer:?} is allowed by {:?}", allowed.text));
                }
                if let Some(subject) = subjects.iter().find(|subject| allowed.matches_in_part(subject)) {
                    hint = format!("; {:?} matches {subject:?} only in part: it must match the whole", allowed.text);
                }
            }
        }
        Err(format!("{} is not in {}{hint}", who(), self.key))
    }
}

/// What to write instead of an expression that other attestors match against any part of the value.
fn in_part(text: &str) -> Option<String> {
    let alternatives = text.contains('|');
    let open_start = alternatives || !(text.starts_with('^') || text.starts_with(r"\A") || text.starts_with(".*"));
    let open_end = alternatives || !(text.ends_with('$') || text.ends_with(r"\z") || text.ends_with(".*"));
    if !text.contains(EXPRESSION) || !(open_start || open_end) {
        return None;
    }
    let text = if alternatives { format!("(?:{text})") } else { text.to_owned() };
    let start = if open_start { ".*" } else { "" };
    let end = if open_end { ".*" } else { "" };
    Some(format!(
        "must match the whole value here, where SPIRE's own attestor matches any part of it: write {:?} to match any part, or \
         {:?} to say that the whole is meant",
        format!("{start}{text}{end}"),
        format!("^{}$", text.trim_start_matches('^').trim_end_matches('$'))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities(issuer: &str, subjects: &[&str]) -> Result<(Identities, Vec<String>), Vec<String>> {
        let subjects = subjects.iter().map(|subject| (*subject).to_owned()).collect();
        Identities::new("allowed_identities", &BTreeMap::from([(issuer.to_owned(), subjects)]))
    }

    fn allows(allowed: &str, subject: &str) -> bool {
        let (identities, _) = identities("https://issuer", &[allowed]).unwrap();
        identities.allow("https://issuer", &[subject.to_owned()]).is_ok()
    }

    #[test]
    fn a_value_is_whole_or_an_expression_of_the_whole() {
        assert!(allows("a@example.com", "a@example.com"));
        assert!(!allows("a@example.com", "a@exampleXcom"), "without a special character a dot is a dot");
        assert!(!allows("redhat.c*", "mitr@redhat.com"));
        assert!(allows(".*redhat.c.*", "mitr@redhat.com"));
        assert!(allows("^https://github.com/org/.*$", "https://github.com/org/repo"));
        assert!(!allows("https://github.com/org/[a-z]+", "https://evil/https://github.com/org/repo"));
        assert!(!allows("[a-z]+", "good\nevil"), "a line is not the whole");
        assert!(allows("a+b", "a+b"), "what is equal matches, whatever it means as an expression");
    }

    #[test]
    fn what_gets_out_of_the_anchors_is_refused() {
        let wrong = identities("https://issuer", &["a)|(b"]).unwrap_err();
        assert!(wrong[0].contains("\"a)|(b\" is no regular expression"), "{wrong:?}");
        assert!(!allows("a|b", "ab"));
        assert!(allows("a|b", "b"));
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        for (issuer, subjects, note) in [
            ("https://issuer", &[][..], "the issuer \"https://issuer\" has no subjects"),
            ("https://issuer", &[""][..], "issuer \"https://issuer\": subject is empty"),
            ("", &["a"][..], "issuer is empty"),
            ("https://(issuer", &["a"][..], "issuer \"https://(issuer\" is no regular expression"),
        ] {
            let wrong = identities(issuer, subjects).unwrap_err();
            assert!(wrong[0].contains(note), "{wrong:?}");
        }
    }

    #[test]
    fn an_expression_that_is_open_at_an_end_is_noted() {
        let (_, notes) = identities("https://issuer", &["refs/tags/*", r"@corp\.com$", "^x[yz]$", "plain"]).unwrap();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].contains(r#"write ".*refs/tags/*.*""#), "{notes:?}");
        assert!(notes[1].contains(r#"".*@corp\\.com$""#), "{notes:?}");
    }

    #[test]
    fn the_reason_says_what_matched_only_in_part() {
        let (identities, _) = identities("https://issuer", &["redhat.c*"]).unwrap();
        let reason = identities.allow("https://issuer", &["mitr@redhat.com".to_owned()]).unwrap_err();
        assert!(reason.contains("\"redhat.c*\" matches \"mitr@redhat.com\" only in part"), "{reason}");
    }
}
