//! The findings about a configuration: errors, warnings and notes.

use std::fmt;

use bounded::text::{cut, printable};
use hcl1::{Document, Findings, Position, Reason, UnknownKey};

use super::suggestion::closest;
use crate::limits::{self, PROBLEM_TEXT, PROBLEMS};

/// All findings about one configuration. The texts hold keys and positions, never the value of a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Errors; a single one refuses the configuration.
    pub errors: Vec<Problem>,
    /// Possible mistakes; the configuration is used all the same.
    pub warnings: Vec<Problem>,
    /// Notes for information.
    pub notes: Vec<Note>,
}

/// An error or a warning about a configuration. `Display` is the text for the agent's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub text: String,
    /// Where it is written; `None` if it is written nowhere.
    pub position: Option<Position>,
    /// What to write instead, if the text does not say it.
    pub help: Option<String>,
    kind: ProblemKind,
    /// The keys that lead to it.
    path: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProblemKind {
    /// The text is malformed, or a value has the wrong type.
    Undecodable,
    /// A key that nothing asks for. The text is its path.
    UnknownKey,
    /// Anything else.
    Value,
}

impl Problem {
    /// A problem with what is written at a position.
    pub fn new(text: impl Into<String>, position: Option<Position>) -> Problem {
        let mut text = text.into();
        if text.len() > PROBLEM_TEXT {
            text = format!("{}…", cut(&text, PROBLEM_TEXT));
        }
        Problem { text, position, help: None, kind: ProblemKind::Value, path: Vec::new() }
    }

    /// Adds what to write instead.
    pub fn with_help(self, help: impl Into<String>) -> Problem {
        Problem { help: Some(help.into()), ..self }
    }

    pub(super) fn unknown_key(key: UnknownKey<'_>) -> Problem {
        let path = printable(cut(key.path, limits::KEY_PATH));
        Problem { kind: ProblemKind::UnknownKey, ..Problem::new(path, Some(key.position)) }
    }

    /// The name of a field that an unknown key resembles.
    pub(super) fn suggestion(key: UnknownKey<'_>) -> Option<String> {
        let name = key.path.rsplit_once('.').map_or(key.path, |(_, name)| name);
        closest(name, key.names.iter().map(String::as_str)).map(|name| format!("did you mean {name}?"))
    }

    /// What is wrong, for a person who sees the position beside it.
    pub fn headline(&self) -> String {
        match self.kind {
            ProblemKind::UnknownKey => format!("unknown key {}", self.text),
            ProblemKind::Undecodable | ProblemKind::Value => self.text.clone(),
        }
    }
}

impl From<&hcl1::Error> for Problem {
    fn from(error: &hcl1::Error) -> Problem {
        let text = match &error.reason {
            Reason::Mismatch { path, expected } => {
                format!("{}: expected {expected}", printable(cut(path, limits::KEY_PATH)))
            }
            reason => reason.to_string(),
        };
        Problem { kind: ProblemKind::Undecodable, ..Problem::new(text, Some(error.position)) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.position) {
            (ProblemKind::Undecodable, Some(position)) => write!(formatter, "{position}: {}", self.text),
            _ => formatter.write_str(&self.text),
        }?;
        match (self.kind, &self.help) {
            (ProblemKind::UnknownKey, Some(help)) => write!(formatter, " ({help})"),
            (_, Some(help)) => write!(formatter, ": {help}"),
            (_, None) => Ok(()),
        }
    }
}

/// Why a configuration is refused: all its errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The errors, at least one.
    pub errors: Vec<Problem>,
}

impl Invalid {
    /// The errors as lines for the agent's log: unknown keys together, and what cannot be decoded together. A line
    /// holds keys and positions, never the value of a secret.
    pub fn lines(&self) -> Vec<String> {
        let of =
            |kind: ProblemKind| self.errors.iter().filter(move |error| error.kind == kind).map(ToString::to_string);
        let joined = |kind: ProblemKind, title: &str, separator: &str| {
            let mut texts: Vec<String> = of(kind).collect();
            let more = texts.len().saturating_sub(PROBLEMS);
            texts.truncate(PROBLEMS);
            if more > 0 {
                texts.push(format!("and {more} more"));
            }
            (!texts.is_empty()).then(|| format!("{title}: {}", texts.join(separator)))
        };
        let undecodable = joined(ProblemKind::Undecodable, "unable to decode configuration", "; ");
        let unknown = joined(ProblemKind::UnknownKey, "unknown configurations detected", ",");
        let values = of(ProblemKind::Value).take(PROBLEMS);
        let more = of(ProblemKind::Value).count().saturating_sub(PROBLEMS);
        let more = (more > 0).then(|| format!("and {more} more"));
        undecodable.into_iter().chain(unknown).chain(values).chain(more).collect()
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.lines().join("; "))
    }
}

impl std::error::Error for Invalid {}

impl From<hcl1::Error> for Invalid {
    fn from(error: hcl1::Error) -> Invalid {
        Invalid { errors: vec![Problem::from(&error)] }
    }
}

/// A fact about the configuration that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The part of the configuration that the note is about.
    pub section: Section,
    /// The text of the note.
    pub text: String,
}

/// A part of the configuration that has notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// How container ids are found.
    Locator,
    /// `sigstore { … }`
    Sigstore,
}

impl Report {
    /// Adds an error about the value at the path.
    pub(super) fn error(&mut self, path: &[&str], text: impl Into<String>) {
        self.errors.push(problem(path, text));
    }

    /// Adds an error about the value at the path, and what to write instead.
    pub(super) fn error_with_help(&mut self, path: &[&str], text: impl Into<String>, help: Option<String>) {
        self.errors.push(Problem { help, ..problem(path, text) });
    }

    /// Adds a warning about the value at the path.
    pub(super) fn warn(&mut self, path: &[&str], text: impl Into<String>) {
        self.warnings.push(problem(path, text));
    }

    /// Adds a note.
    pub fn note(&mut self, section: Section, text: impl Into<String>) {
        self.notes.push(Note { section, text: text.into() });
    }

    /// Returns the value, or adds the error about the value at the path and returns `None`.
    pub(super) fn keep<T>(&mut self, path: &[&str], outcome: Result<T, ValueError>) -> Option<T> {
        outcome.map_err(|error| self.error(path, error.to_string())).ok()
    }

    /// Adds the values that do not suit their keys, and the unknown keys.
    pub(super) fn add_findings(&mut self, findings: &Findings) {
        let mut errors = findings.errors().to_vec();
        errors.sort_by_key(|error| error.position);
        self.errors.extend(errors.iter().map(Problem::from));
        if findings.more_errors() > 0 {
            self.errors.push(Problem::new(format!("{} more values have the wrong type", findings.more_errors()), None));
        }
        for (index, key) in findings.unknown().enumerate() {
            let help = if index < PROBLEMS { Problem::suggestion(key) } else { None };
            self.errors.push(Problem { help, ..Problem::unknown_key(key) });
        }
    }

    /// Adds a warning for each key that is written more than once.
    pub(super) fn warn_of_repeated(&mut self, findings: &Findings) {
        for repeated in findings.repeated().take(limits::REPEATED_KEYS) {
            let text = format!("{} {repeated}", printable(cut(repeated.path, limits::KEY_PATH)));
            self.warnings.push(Problem::new(text, Some(repeated.last)));
        }
        let more = findings.repeated().count().saturating_sub(limits::REPEATED_KEYS);
        if more > 0 {
            self.warnings.push(Problem::new(format!("{more} more keys are written more than once"), None));
        }
    }

    /// Finds the positions of the paths in the document. An error about a value that could not even be decoded goes: it
    /// follows from that.
    pub(super) fn locate(&mut self, document: &Document) {
        for problem in self.errors.iter_mut().take(PROBLEMS).chain(self.warnings.iter_mut().take(PROBLEMS)) {
            let path: Vec<&str> = problem.path.iter().map(String::as_str).collect();
            problem.position = problem.position.or_else(|| document.position_of(&path));
        }
        let undecodable: Vec<Option<Position>> = self
            .errors
            .iter()
            .filter(|error| error.kind == ProblemKind::Undecodable)
            .map(|error| error.position)
            .collect();
        let follows = |error: &Problem| {
            error.kind == ProblemKind::Value && error.position.is_some() && undecodable.contains(&error.position)
        };
        self.errors.retain(|error| !follows(error));
    }
}

fn problem(path: &[&str], text: impl Into<String>) -> Problem {
    Problem { path: path.iter().map(|key| (*key).to_owned()).collect(), ..Problem::new(text, None) }
}

/// Why a value is refused. The text names the key and says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct ValueError(String);

impl From<String> for ValueError {
    fn from(text: String) -> ValueError {
        ValueError(text)
    }
}
