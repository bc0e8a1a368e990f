//! HCL1 and its JSON form, as hashicorp/hcl v1.0.1-vault-7 reads them: SPIRE pins that version, and no crate reads HCL1.
//!
//! [`parse`] makes a tree of the text, [`Decode`] puts the tree into typed values. What that version accepts is accepted, with
//! the same values, odd as some of it is; one text more is accepted: a heredoc that ends the text without a newline after its
//! end marker, as the agent reprints it. Where that version panics (an escape out of range), this one answers an error.

mod decode;
mod hcl;
mod json;
mod scan;

use std::fmt;

pub use self::decode::{Decode, Findings, Repeated, Value, object};

/// Bytes of a text.
pub const TEXT: usize = 1 << 20;
/// How deep objects and lists may nest.
pub const DEPTH: usize = 64;
/// Items of a text: more are no configuration, and looking for repeated ones would be slow.
pub const ITEMS: usize = 10_000;

/// A position in the text, both counted from 1; the column in characters. 0:0 in JSON, where the original knows none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// Why a text, or a value in it, was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where.
    pub position: Position,
    /// What was expected, or what is wrong.
    pub reason: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Position { line: 0, .. } => formatter.write_str(&self.reason),
            Position { line, column } => write!(formatter, "line {line}, column {column}: {}", self.reason),
        }
    }
}

impl std::error::Error for Rejected {}

impl Rejected {
    fn new(position: Position, reason: impl Into<String>) -> Rejected {
        Rejected { position, reason: reason.into() }
    }
}

/// A value in the tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A scalar.
    Literal(Literal, Position),
    /// `[…]`
    List(Vec<Node>, Position),
    /// `{…}`
    Object(Vec<Item>, Position),
}

/// A scalar, as far as its kind matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// `true`, `false`
    Bool(bool),
    /// A number without a fraction, as it is written.
    Number(String),
    /// A number with a fraction or an exponent.
    Float,
    /// A string or a heredoc, unquoted.
    String(String),
}

/// `key = value`, `key { … }` or `key "label" { … }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// At least one.
    pub keys: Vec<Key>,
    /// The value.
    pub value: Node,
}

/// A key, unquoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Where it stands.
    pub position: Position,
}

impl Node {
    /// Where the value begins.
    pub fn position(&self) -> Position {
        match self {
            Node::Literal(_, position) | Node::List(_, position) | Node::Object(_, position) => *position,
        }
    }
}

/// Parses a text: JSON when it begins with `{`, else HCL.
pub fn parse(text: &str) -> Result<Vec<Item>, Rejected> {
    if text.len() > TEXT {
        return Err(Rejected::new(Position::default(), format!("larger than {TEXT} bytes")));
    }
    match text.trim_start().starts_with('{') {
        true => json::parse(text),
        false => hcl::parse(&text.replace("\r\n", "\n")),
    }
}
