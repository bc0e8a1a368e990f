//! The tokens of a text, for programs that show lines of it.

use crate::{Found, Position, hcl, is_json, json};

/// A token and the positions between which it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What the token is.
    pub kind: Found,
    /// The position of its first character.
    pub start: Position,
    /// The position behind its last character.
    pub end: Position,
}

/// The tokens of a text, whether or not it can be parsed. They end with the text, or before the first character that
/// belongs to no token. Comments and white space are no tokens.
pub fn tokens(text: &str) -> Vec<Token> {
    match is_json(text) {
        true => json::tokens(text),
        false => hcl::tokens(&text.replace("\r\n", "\n")),
    }
}
