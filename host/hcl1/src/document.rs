//! The tree that a text is parsed into.

use std::sync::Arc;

use crate::{Decode, Error, Position, Value, Warnings};

/// A parsed text: the items of its outermost object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// The items, in the order of the text.
    pub items: Vec<Item>,
}

impl Document {
    /// Puts the document's values into `target`.
    ///
    /// # Errors
    /// When a value has another type than its target, with the path and the position of the value.
    pub fn decode(&self, target: &mut dyn Decode) -> Result<Warnings, Error> {
        let mut warnings = Warnings::default();
        target.decode("", &Value::from(self), &mut warnings)?;
        Ok(warnings)
    }
}

/// `key = value`, `key { … }` or `key "label" { … }`.
///
/// HCL1 makes no difference between an attribute and a block, nor between a label and a key: `a "b" { c = 1 }` has the keys `a`
/// and `b`. Of JSON, `{"a": {"b": {"c": 1}}}` is parsed into the same item.
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
    /// Where the key begins.
    pub position: Position,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A scalar, and where it begins.
    Literal(Literal, Position),
    /// `[…]`, and where it begins.
    List(Vec<Node>, Position),
    /// `{…}`, and where it begins.
    Object(Vec<Item>, Position),
}

impl Node {
    /// Where the value begins.
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
    /// A number with a fraction or an exponent, as it is written. The original's scanner is lax, so that the text need not be a
    /// number (`1e`).
    Float(String),
    /// A string or a heredoc, without quotes and escapes; the null of JSON is an empty one.
    String(String),
}
