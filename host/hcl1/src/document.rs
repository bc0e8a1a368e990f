//! The tree that parsing a text produces.

use std::sync::Arc;

use crate::{Decode, Errors, Findings, Position, Value};

/// A parsed text: the items of its outermost object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// The items, in the order of the text.
    pub items: Vec<Item>,
}

impl Document {
    /// Decodes the document into `target`.
    ///
    /// # Errors
    /// Every value of another type than its target, with its path and its position.
    pub fn decode(&self, target: &mut dyn Decode) -> Result<Findings, Errors> {
        let mut findings = Findings::default();
        let decoded = target.decode("", &Value::from(self), &mut findings);
        findings.keep(decoded);
        Errors::or(findings)
    }

    /// The position of what is written at `path`, for messages about it. A path names keys, and elements of lists by their
    /// number. If the path leads nowhere, the position is that of the last key on it that is written. An object is at its key,
    /// and any other value where it begins. Of several, the last one counts. Keys match regardless of ASCII case.
    ///
    /// `None` if not even the first key of the path is written.
    pub fn position_of(&self, path: &[&str]) -> Option<Position> {
        find(&self.items, path).map(|(_, position)| position)
    }
}

/// How much of the path was found, and where.
fn find(items: &[Item], path: &[&str]) -> Option<(usize, Position)> {
    let mut best: Option<(usize, Position)> = None;
    // Lists that are written apart from one another are joined.
    let mut before = 0;
    for Item { keys, value } in items {
        let same = |(key, name): &(&Key, &&str)| key.name.eq_ignore_ascii_case(name);
        let matching = keys.iter().zip(path).take_while(same).count();
        let Some(key) = matching.checked_sub(1).and_then(|last| keys.get(last)) else { continue };
        let rest = path.get(matching..).unwrap_or_default();
        let found = match value {
            _ if matching < keys.len() => (matching, key.position),
            Node::Object(..) if rest.is_empty() => (matching, key.position),
            Node::Object(items, _) => match find(items, rest) {
                Some((deeper, position)) => (matching + deeper, position),
                None => (matching, key.position),
            },
            Node::List(nodes, position) => {
                let index = rest.first().and_then(|index| index.parse::<usize>().ok());
                let element = index.and_then(|index| nodes.get(index.checked_sub(before)?));
                before += nodes.len();
                match element {
                    Some(node) => (matching + 1, node.position()),
                    None => (matching, *position),
                }
            }
            Node::Literal(_, position) => (matching, *position),
        };
        if best.is_none_or(|(depth, _)| depth <= found.0) {
            best = Some(found);
        }
    }
    best
}

/// An item: `key = value`, `key { … }` or `key "label" { … }`.
///
/// HCL1 does not distinguish an attribute from a block, nor a label from a key: `a "b" { c = 1 }` has the keys `a` and
/// `b`. The JSON text `{"a": {"b": {"c": 1}}}` is parsed into the same item.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// One key or more.
    pub keys: Vec<Key>,
    /// The value.
    pub value: Node,
}

/// A key or a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key without quotes and escapes. Shared, because a key of nested JSON objects is part of many items.
    pub name: Arc<str>,
    /// The position at which the key begins.
    pub position: Position,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A scalar and its position.
    Literal(Literal, Position),
    /// A list `[…]` and its position.
    List(Vec<Node>, Position),
    /// An object `{…}` and its position.
    Object(Vec<Item>, Position),
}

impl Node {
    /// The position at which the value begins.
    pub fn position(&self) -> Position {
        match self {
            Node::Literal(_, position) | Node::List(_, position) | Node::Object(_, position) => *position,
        }
    }
}

/// A scalar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction and exponent, as it is written: `10`, `-1`, `0x1F`, `010` (octal).
    Number(String),
    /// A number with a fraction or an exponent, as it is written. The original's scanner is lax, so the text may not be
    /// a valid number (`1e`).
    Float(String),
    /// A string or a heredoc, without quotes and escapes. The null of JSON is an empty string.
    String(String),
}
