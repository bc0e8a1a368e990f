//! Findings about the keys of a text that can be decoded.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::bounds::{ERRORS, PATH};
use crate::{Error, Node, Position, Reason};

/// The keys that match no field, those that were written more than once, and the errors of values.
///
/// Most programs print both, or refuse a text with unknown keys, because an unknown key is most often a misspelt one.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    unknown: BTreeMap<String, Unknown>,
    /// Every key that was given a scalar or a list, by path.
    written: BTreeMap<String, Written>,
    errors: Vec<Error>,
    more_errors: usize,
}

/// A key that matches no field, and the names that would.
#[derive(Debug, Clone)]
struct Unknown {
    position: Position,
    names: Arc<[String]>,
}

/// How often a key was written, and where.
#[derive(Debug, Clone)]
struct Written {
    times: usize,
    first: Position,
    last: Position,
    joined: bool,
}

/// A key that matches no field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownKey<'a> {
    /// The path of the key, such as `server.lisen`, cut at [`PATH`] bytes.
    pub path: &'a str,
    /// The position at which the key was first written.
    pub position: Position,
    /// The names that the object's fields have, for suggestions.
    pub names: &'a [String],
}

/// A key that was written more than once. Its `Display` tells how often, where, and which value counts, for example `is
/// written twice (line 1 and line 3): the last one counts`. It shows neither the path nor the values, which may be
/// secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepeatedKey<'a> {
    /// The path of the key, such as `server.listen`.
    pub path: &'a str,
    /// How often the key was written: 2 or more.
    pub times: usize,
    /// The position of the first value.
    pub first: Position,
    /// The position of the last value.
    pub last: Position,
    /// Whether the values were joined to one list. Otherwise the last one counts.
    pub joined: bool,
}

impl Findings {
    /// The keys that match no field, sorted by path, each path once.
    pub fn unknown(&self) -> impl Iterator<Item = UnknownKey<'_>> {
        self.unknown.iter().map(|(path, Unknown { position, names })| UnknownKey { path, position: *position, names })
    }

    /// The errors of values that do not suit their targets, in the order in which they were found. At most [`ERRORS`]
    /// are kept.
    pub fn errors(&self) -> &[Error] {
        &self.errors
    }

    /// The number of errors that were found after [`ERRORS`] were kept.
    pub fn more_errors(&self) -> usize {
        self.more_errors
    }

    /// Adds the error of a part of an object or a list, if there is one. Its path is cut at [`PATH`] bytes.
    pub fn keep(&mut self, decoded: Result<(), Error>) {
        let Err(mut error) = decoded else { return };
        if self.errors.len() >= ERRORS {
            self.more_errors += 1;
            return;
        }
        if let Reason::Mismatch { path, .. } = &mut error.reason {
            cut(path);
        }
        self.errors.push(error);
    }

    /// The keys that were given a scalar or a list more than once, sorted by path. Repeated objects are not among them,
    /// because their keys are joined.
    pub fn repeated(&self) -> impl Iterator<Item = RepeatedKey<'_>> {
        self.written.iter().filter(|(_, written)| written.times > 1).map(|(path, written)| {
            let Written { times, first, last, joined } = *written;
            RepeatedKey { path, times, first, last, joined }
        })
    }

    pub(crate) fn note_unknown(&mut self, mut path: String, position: Position, names: &Arc<[String]>) {
        cut(&mut path);
        self.unknown.entry(path).or_insert_with(|| Unknown { position, names: Arc::clone(names) });
    }

    pub(crate) fn note_written(&mut self, path: &str, value: &Node, joined: bool) {
        if matches!(value, Node::Object(..)) || path.len() > PATH {
            return;
        }
        let position = value.position();
        let first = || Written { times: 0, first: position, last: position, joined };
        let written = self.written.entry(path.to_owned()).or_insert_with(first);
        written.times += 1;
        written.last = position;
    }
}

fn cut(path: &mut String) {
    path.truncate(path.floor_char_boundary(PATH));
    path.shrink_to_fit();
}

impl fmt::Display for RepeatedKey<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RepeatedKey { times, first: Position { line: first, .. }, last: Position { line: last, .. }, .. } = self;
        match times {
            2 => write!(formatter, "is written twice (line {first} and line {last})")?,
            times => write!(formatter, "is written {times} times (first in line {first}, last in line {last})")?,
        }
        formatter.write_str(if self.joined { ": the lists are joined" } else { ": the last one counts" })
    }
}
