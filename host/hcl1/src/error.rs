//! The reasons for which a text is rejected, and their positions.

use std::borrow::Cow;
use std::fmt;

use crate::Findings;
use crate::bounds::{DEPTH, ITEMS, TEXT};

/// A position in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters (not bytes), from 1.
    pub column: usize,
}

impl Position {
    /// The first character of a text.
    pub const START: Position = Position { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}, column {}", self.line, self.column)
    }
}

/// The rejection of a text, or of a value in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The position in the text, or one character behind its end.
    pub position: Position,
    /// The reason.
    pub reason: Reason,
}

impl Error {
    pub(crate) fn new(position: Position, reason: Reason) -> Error {
        Error { position, reason }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.position, self.reason)
    }
}

impl std::error::Error for Error {}

/// All errors of a text: the one for which it cannot be parsed, or those of the values that do not suit their targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    errors: Vec<Error>,
    /// The number of errors that were found and not kept.
    more: usize,
}

impl Errors {
    /// The findings, if they hold no error.
    pub(crate) fn or(findings: Findings) -> Result<Findings, Errors> {
        match findings.errors() {
            [] => Ok(findings),
            errors => Err(Errors { errors: errors.to_vec(), more: findings.more_errors() }),
        }
    }

    /// The errors, at least one and at most [`ERRORS`](crate::bounds::ERRORS).
    pub fn iter(&self) -> std::slice::Iter<'_, Error> {
        self.errors.iter()
    }
}

impl From<Error> for Errors {
    fn from(error: Error) -> Errors {
        Errors { errors: vec![error], more: 0 }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            formatter.write_str(if index == 0 { "" } else { "; " })?;
            error.fmt(formatter)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(formatter, "; and {more} more"),
        }
    }
}

impl std::error::Error for Errors {}

/// The reasons of an [`Error`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The text is larger than [`TEXT`].
    TextTooLarge,
    /// Objects and lists are nested deeper than [`DEPTH`].
    NestedTooDeep,
    /// The text has more items than [`ITEMS`].
    TooManyItems,
    /// The character begins no token. A NUL byte and U+E123 are illegal even within comments.
    IllegalCharacter(char),
    /// A string ends with its line, with the text, or with a NUL byte.
    StringNotTerminated,
    /// A heredoc has no line with its mark, or a NUL byte stands before that.
    HeredocNotTerminated,
    /// `<` is not followed by a second one.
    HeredocIncomplete,
    /// `<<` or `<<-` is not followed by a mark.
    HeredocWithoutMark,
    /// The mark of a heredoc is not followed by the end of its line.
    HeredocMark,
    /// `/*` without `*/`.
    CommentNotTerminated,
    /// `/` is followed neither by `/` nor by `*`.
    CommentIncomplete,
    /// A backslash in a string is followed by something that is no escape sequence.
    IllegalEscape,
    /// `\400` and above: an octal escape is one byte.
    OctalEscapeTooLarge,
    /// `\u` or `\U` with a number that is no character's.
    EscapeNoCharacter,
    /// `0x` without a digit.
    HexadecimalNumber,
    /// A number begins with 0 and has an 8 or a 9.
    OctalNumber,
    /// A number in JSON begins with 0.
    LeadingZero,
    /// A bare word in JSON that is neither `true`, `false` nor `null`.
    UnknownWord,
    /// A token stands where the grammar requires another one.
    Unexpected {
        /// The token that the grammar requires.
        expected: Expected,
        /// The token that was found.
        found: Found,
    },
    /// A value does not suit its target. Made by [`Decode`](crate::Decode); see [`Value::mismatch`](crate::Value::mismatch).
    Mismatch {
        /// The path of the value, such as `server.listen[2]`.
        path: String,
        /// What the target takes, in words: `a string`.
        expected: Cow<'static, str>,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Reason::TextTooLarge => return write!(formatter, "larger than {TEXT} bytes"),
            Reason::NestedTooDeep => return write!(formatter, "nested deeper than {DEPTH}"),
            Reason::TooManyItems => return write!(formatter, "more than {ITEMS} items"),
            Reason::IllegalCharacter(char) => return write!(formatter, "illegal char {char:?}"),
            Reason::StringNotTerminated => "literal not terminated",
            Reason::HeredocNotTerminated => "heredoc not terminated",
            Reason::HeredocIncomplete => "expected a second `<` for a heredoc",
            Reason::HeredocWithoutMark => "the heredoc has no mark",
            Reason::HeredocMark => "invalid characters in the heredoc's mark",
            Reason::CommentNotTerminated => "comment not terminated",
            Reason::CommentIncomplete => "expected `//` or `/*` for a comment",
            Reason::IllegalEscape => "illegal char escape",
            Reason::OctalEscapeTooLarge => "an octal escape may be \\377 at most",
            Reason::EscapeNoCharacter => "the escape is no character",
            Reason::HexadecimalNumber => "illegal hexadecimal number",
            Reason::OctalNumber => "illegal octal number",
            Reason::LeadingZero => "numbers cannot start with 0",
            Reason::UnknownWord => "expected true, false or null",
            Reason::Unexpected { expected, found } => return write!(formatter, "expected {expected}, got {found}"),
            Reason::Mismatch { path, expected } if path.is_empty() => return write!(formatter, "expected {expected}"),
            Reason::Mismatch { path, expected } => return write!(formatter, "{path}: expected {expected}"),
        })
    }
}

/// What the grammar requires at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// The first key of an item.
    Key,
    /// Another key, `{` or `=` after a key.
    KeyOrValue,
    /// Another key or `{` after several keys: `a b = 1` is no item.
    KeyOrObject,
    /// A value.
    Value,
    /// `,` or `]` after an element of a list.
    CommaOrClosingBracket,
    /// `}` after the items of an object.
    ClosingBrace,
    /// The object that a JSON text must be.
    Object,
    /// A string, as a key of a JSON object.
    QuotedKey,
    /// `:` or another string after a key of a JSON object.
    Colon,
    /// An element of a JSON list, or `]`.
    ElementOrClosingBracket,
}

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Expected::Key => "a key",
            Expected::KeyOrValue => "`{` or `=` after the key",
            Expected::KeyOrObject => "`{` after several keys",
            Expected::Value => "a value",
            Expected::CommaOrClosingBracket => "`,` or `]` in a list",
            Expected::ClosingBrace => "`}`",
            Expected::Object => "an object",
            Expected::QuotedKey => "a key in quotes",
            Expected::Colon => "`:` after the key",
            Expected::ElementOrClosingBracket => "a value or `]` in a list",
        })
    }
}

/// A kind of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// The end of the text.
    End,
    /// A bare word.
    Identifier,
    /// A string in quotes.
    String,
    /// A heredoc.
    Heredoc,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// The null of JSON.
    Null,
    /// One of the characters `= , : { } [ ] . + -`.
    Sign(char),
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Found::End => "the end of the text",
            Found::Identifier => "an identifier",
            Found::String => "a string",
            Found::Heredoc => "a heredoc",
            Found::Bool => "a bool",
            Found::Number => "a number",
            Found::Null => "null",
            Found::Sign(sign) => return write!(formatter, "`{sign}`"),
        })
    }
}
