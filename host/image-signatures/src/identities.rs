//! Rule 7: who may sign. Issuers and subjects are whole values, or regular expressions that match the whole value.

use std::collections::BTreeMap;
use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::limits;

/// The characters that make a value a regular expression.
const EXPRESSION: &[char] = &['*', '+', '?', '^', '$', '{', '}', '[', ']', '|', '(', ')'];

/// The identities that may sign. Without any, every signer may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identities {
    /// The last part of the configuration's key, for the reason of a refusal.
    key: String,
    allowed: Vec<(Value, Vec<Value>)>,
}

/// An issuer or a subject as it was written.
#[derive(Debug, Clone)]
struct Value {
    text: String,
    expression: Option<Expression>,
}

#[derive(Debug, Clone)]
struct Expression {
    /// Matches whole values.
    whole: Regex,
    /// Matches any part of a value, for hints.
    part: Regex,
}

/// Why identities are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// An issuer without subjects allows no signer.
    #[error("{key}: the issuer {issuer:?} has no subjects: list some")]
    NoSubjects {
        /// The key of the configuration.
        key: String,
        /// The issuer.
        issuer: String,
    },
    /// An empty value.
    #[error("{key}: {what} is empty")]
    Empty {
        /// The key of the configuration.
        key: String,
        /// The issuer, or the subject of which issuer.
        what: String,
    },
    /// An expression that does not compile.
    #[error("{key}: {what} {text:?} is no regular expression: {why}")]
    Expression {
        /// The key of the configuration.
        key: String,
        /// The issuer, or the subject of which issuer.
        what: String,
        /// The expression.
        text: String,
        /// Why it does not compile.
        why: ExpressionError,
    },
}

/// Why an expression does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpressionError {
    /// The compiled expression would be too large.
    #[error("the expression is too large")]
    TooLarge,
    /// The last line of the compiler's error.
    #[error("{0}")]
    Syntax(String),
}

/// Something about an identity that its author should know although it works: an expression that other attestors match against any
/// part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityNote {
    /// The key of the configuration.
    pub key: String,
    /// The issuer, or the subject of which issuer.
    pub what: String,
    /// The expression.
    pub text: String,
    /// The expression that matches any part.
    pub part: String,
    /// The expression that says that the whole is meant.
    pub whole: String,
}

impl fmt::Display for IdentityNote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IdentityNote { key, what, text, part, whole } = self;
        write!(
            formatter,
            "{key}: {what} {text:?} must match the whole value here, where SPIRE's own attestor matches any part of it: write \
             {part:?} to match any part, or {whole:?} to say that the whole is meant"
        )
    }
}

/// Why a signer is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{subjects:?} of issuer {issuer:?} is not in {key}{}", hint_text(hint.as_ref()))]
pub struct NotAllowed {
    /// The certificate's subjects.
    pub subjects: Vec<String>,
    /// The certificate's issuer.
    pub issuer: String,
    /// The key of the configuration.
    pub key: String,
    /// An allowed value that matches in part only.
    pub hint: Option<PartialMatch>,
}

/// An allowed value that matches a part of a certificate's value, but not the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartialMatch {
    /// The allowed issuer.
    Issuer(String),
    /// An allowed subject, and the certificate's subject.
    Subject {
        /// The allowed value.
        allowed: String,
        /// The certificate's value.
        subject: String,
    },
}

fn hint_text(hint: Option<&PartialMatch>) -> String {
    match hint {
        None => String::new(),
        Some(PartialMatch::Issuer(allowed)) => format!("; issuer {allowed:?} matches it only in part"),
        Some(PartialMatch::Subject { allowed, subject }) => {
            format!("; {allowed:?} matches {subject:?} only in part: it must match the whole")
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        self.text == other.text
    }
}

impl Eq for Value {}

impl Value {
    fn new(text: &str) -> Result<Value, ExpressionError> {
        let expression = match text.contains(EXPRESSION) {
            true => Some(Expression {
                // The value alone first: `a)|(b` would escape from the anchors around it.
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

fn compile(text: &str) -> Result<Regex, ExpressionError> {
    RegexBuilder::new(text).size_limit(limits::COMPILED_EXPRESSION).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => ExpressionError::TooLarge,
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or("it does not compile").trim_start_matches("error: ");
            ExpressionError::Syntax(last.to_owned())
        }
    })
}

impl Identities {
    /// The identities that the configuration has under `key`, by issuer, and notes about them.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(
        key: &str,
        allowed: &BTreeMap<String, Vec<String>>,
    ) -> Result<(Identities, Vec<IdentityNote>), Vec<IdentityError>> {
        let mut identities = Vec::new();
        let mut notes = Vec::new();
        let mut errors = Vec::new();
        for (issuer, subjects) in allowed {
            if subjects.is_empty() {
                errors.push(IdentityError::NoSubjects { key: key.to_owned(), issuer: issuer.clone() });
            }
            let mut parse = |what: &str, text: &str| {
                let (key, what) = (key.to_owned(), what.to_owned());
                if text.is_empty() {
                    errors.push(IdentityError::Empty { key, what });
                    return None;
                }
                notes.extend(partial_match_note(&key, &what, text));
                let value = Value::new(text).map_err(|why| {
                    errors.push(IdentityError::Expression { key, what, text: text.to_owned(), why });
                });
                value.ok()
            };
            let issuer_value = parse("issuer", issuer);
            let of = format!("issuer {issuer:?}: subject");
            let subjects: Vec<Value> = subjects.iter().filter_map(|subject| parse(&of, subject)).collect();
            identities.extend(issuer_value.map(|issuer| (issuer, subjects)));
        }
        let last = key.rsplit('.').next().unwrap_or(key);
        match errors.is_empty() {
            true if identities.is_empty() => Ok((Identities::default(), notes)),
            true => Ok((Identities { key: last.to_owned(), allowed: identities }, notes)),
            false => Err(errors),
        }
    }

    /// Whether every signer may sign.
    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty()
    }

    /// Checks a certificate's issuer and subjects; answers the identity that allows them, for operators.
    ///
    /// # Errors
    /// No identity allows them.
    pub fn allow(&self, issuer: &str, subjects: &[String]) -> Result<String, NotAllowed> {
        if self.is_empty() {
            return Ok(format!("{subjects:?} of issuer {issuer:?}: any signer is allowed"));
        }
        let mut hint = None;
        for (allowed_issuer, allowed_subjects) in &self.allowed {
            if allowed_issuer.matches_in_part(issuer) {
                hint = Some(PartialMatch::Issuer(allowed_issuer.text.clone()));
            }
            if !allowed_issuer.matches(issuer) {
                continue;
            }
            for allowed in allowed_subjects {
                if let Some(subject) = subjects.iter().find(|subject| allowed.matches(subject)) {
                    return Ok(format!("{subject:?} of issuer {issuer:?} is allowed by {:?}", allowed.text));
                }
                if let Some(subject) = subjects.iter().find(|subject| allowed.matches_in_part(subject)) {
                    let (allowed, subject) = (allowed.text.clone(), subject.clone());
                    hint = Some(PartialMatch::Subject { allowed, subject });
                }
            }
        }
        Err(NotAllowed { subjects: subjects.to_vec(), issuer: issuer.to_owned(), key: self.key.clone(), hint })
    }
}

/// The note on an expression that is open at an end.
fn partial_match_note(key: &str, what: &str, text: &str) -> Option<IdentityNote> {
    let alternatives = text.contains('|');
    let open_start = alternatives || !(text.starts_with('^') || text.starts_with(r"\A") || text.starts_with(".*"));
    let open_end = alternatives || !(text.ends_with('$') || text.ends_with(r"\z") || text.ends_with(".*"));
    if !text.contains(EXPRESSION) || !(open_start || open_end) {
        return None;
    }
    let grouped = if alternatives { format!("(?:{text})") } else { text.to_owned() };
    let start = if open_start { ".*" } else { "" };
    let end = if open_end { ".*" } else { "" };
    Some(IdentityNote {
        key: key.to_owned(),
        what: what.to_owned(),
        text: text.to_owned(),
        part: format!("{start}{grouped}{end}"),
        whole: format!("^{}$", grouped.trim_start_matches('^').trim_end_matches('$')),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities(issuer: &str, subjects: &[&str]) -> Result<(Identities, Vec<String>), Vec<String>> {
        let subjects = subjects.iter().map(|subject| (*subject).to_owned()).collect();
        Identities::new("allowed_identities", &BTreeMap::from([(issuer.to_owned(), subjects)]))
            .map(|(identities, notes)| (identities, notes.iter().map(ToString::to_string).collect()))
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
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
        let reason = identities.allow("https://issuer", &["mitr@redhat.com".to_owned()]).unwrap_err().to_string();
        assert!(reason.contains("\"redhat.c*\" matches \"mitr@redhat.com\" only in part"), "{reason}");
    }
}
