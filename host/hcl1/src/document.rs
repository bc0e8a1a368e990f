//! The tree that parsing a text produces.

use std::sync::Arc;

use crate::{Decode, Error, Position, Value, Warnings};

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
    /// If a value has another type than its target. The error has the path and the position of the value.
    pub fn decode(&self, target: &mut dyn Decode) -> Result<Warnings, Error> {
        let mut warnings = Warnings::default();
        target.decode("", &Value::from(self), &mut warnings)?;
        Ok(warnings)
    }
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
