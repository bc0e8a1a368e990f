#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// In the comments, "the original" is github.com/hashicorp/hcl v1.0.1-vault-7.

pub mod bounds;
mod decode;
mod document;
mod error;
mod findings;
mod hcl;
mod json;
mod scan;
mod token;

pub use self::decode::{Decode, Entry, Value, decode_object};
pub use self::document::{Document, Item, Key, Literal, Node};
pub use self::error::{Error, Errors, Expected, Found, Position, Reason};
pub use self::findings::{Findings, RepeatedKey, UnknownKey};
pub use self::token::{Token, tokens};

/// Parses a text. It is JSON if its first character that is not white space is `{`, and HCL otherwise.
///
/// # Errors
/// If the text is malformed, or exceeds one of the [`bounds`].
pub fn parse(text: &str) -> Result<Document, Error> {
    if text.len() > bounds::TEXT {
        return Err(Error::new(scan::position_of(text, bounds::TEXT), Reason::TextTooLarge));
    }
    let items = match is_json(text) {
        true => json::parse(text)?,
        false => hcl::parse(&text.replace("\r\n", "\n"))?,
    };
    Ok(Document { items })
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// Parses a text and stores its values in `target`.
///
/// # Errors
/// The one of [`parse`], or those of [`Document::decode`].
pub fn decode(text: &str, target: &mut dyn Decode) -> Result<Findings, Errors> {
    parse(text)?.decode(target)
}
