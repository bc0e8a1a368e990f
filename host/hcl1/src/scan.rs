//! A reader of characters with their positions, and the scanning that HCL and JSON share.

use crate::{Error, Position, Reason};

/// The position of the character that the byte at `offset` belongs to.
pub(super) fn position_of(text: &str, offset: usize) -> Position {
    let before = text.get(..text.floor_char_boundary(offset)).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.get(line_start..).unwrap_or_default();
    Position { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
}

/// Reads characters one by one.
pub(super) struct Chars<'a> {
    text: &'a str,
    /// The byte offset of the next character.
    offset: usize,
    line: usize,
    column: usize,
}

impl<'a> Chars<'a> {
    pub(super) fn new(text: &'a str) -> Chars<'a> {
        Chars { text, offset: 0, line: 1, column: 1 }
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// The text between two offsets.
    pub(super) fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    pub(super) fn rest(&self) -> &'a str {
        self.slice(self.offset, self.text.len())
    }

    /// The position of the next character.
    pub(super) fn position(&self) -> Position {
        Position { line: self.line, column: self.column }
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.offset += char.len_utf8();
        self.column += 1;
        if char == '\n' {
            self.line += 1;
            self.column = 1;
        }
        Some(char)
    }

    pub(super) fn next_if(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        self.peek().filter(|&char| wanted(char))?;
        self.next()
    }

    pub(super) fn skip_while(&mut self, wanted: impl Fn(char) -> bool) -> usize {
        let mut skipped = 0;
        while self.next_if(&wanted).is_some() {
            skipped += 1;
        }
        skipped
    }

    /// Returns an error with this reason, at the position of the next character.
    pub(super) fn error(&self, reason: Reason) -> Error {
        Error::new(self.position(), reason)
    }

    /// Reads a string after its opening quote, up to and including the closing one. With `interpolation` (HCL), quotes
    /// and newlines within `${…}` belong to the string, and escapes there are checked but left as written.
    pub(super) fn string(&mut self, interpolation: bool) -> Result<String, Error> {
        // Bytes, not characters, because `\xff` stands for a byte. Bytes that are not UTF-8 become U+FFFD.
        let mut value: Vec<u8> = Vec::new();
        let mut braces = 0_usize;
        loop {
            let start = self.offset;
            let Some(char) = self.peek() else { return Err(self.error(Reason::StringNotTerminated)) };
            // The original treats a NUL byte as the end of the text.
            if char == '\0' || char == '\n' && braces == 0 {
                return Err(self.error(Reason::StringNotTerminated));
            }
            self.next();
            match char {
                '"' if braces == 0 => return Ok(String::from_utf8_lossy(&value).into_owned()),
                '$' if interpolation && braces == 0 && self.peek() == Some('{') => {
                    self.next();
                    braces = 1;
                }
                '{' if braces > 0 => braces += 1,
                '}' if braces > 0 => braces -= 1,
                '\\' => {
                    let escape = self.escape(interpolation)?;
                    if braces == 0 {
                        value.extend_from_slice(&escape);
                        continue;
                    }
                }
                _ => {}
            }
            value.extend_from_slice(self.slice(start, self.offset).as_bytes());
        }
    }

    /// Returns the bytes that an escape stands for. The backslash was already read.
    fn escape(&mut self, hcl: bool) -> Result<Vec<u8>, Error> {
        let simple = match self.peek() {
            Some('a') => 0x07,
            Some('b') => 0x08,
            Some('f') => 0x0c,
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('v') => 0x0b,
            Some('\\') => b'\\',
            Some('"') => b'"',
            Some('0'..='7') => {
                let value = self.digits(8, 3)?;
                return match u8::try_from(value) {
                    Ok(byte) => Ok(vec![byte]),
                    Err(_) => Err(self.error(Reason::OctalEscapeTooLarge)),
                };
            }
            Some(kind @ ('x' | 'u' | 'U')) => {
                self.next();
                let value = self.digits(
                    16,
                    match kind {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    },
                )?;
                return match (kind, u8::try_from(value), char::from_u32(value)) {
                    ('x', Ok(byte), _) => Ok(vec![byte]),
                    // The original turns a surrogate into U+FFFD in HCL, and panics on one in JSON.
                    (_, _, None) if hcl && value < 0x11_0000 => Ok("\u{fffd}".into()),
                    (_, _, Some(char)) => Ok(char.to_string().into_bytes()),
                    _ => Err(self.error(Reason::EscapeNoCharacter)),
                };
            }
            _ => return Err(self.error(Reason::IllegalEscape)),
        };
        self.next();
        Ok(vec![simple])
    }

    fn digits(&mut self, base: u32, count: usize) -> Result<u32, Error> {
        let mut value = 0_u32;
        for _ in 0..count {
            match self.peek().and_then(|char| char.to_digit(base)) {
                Some(digit) => value = value.wrapping_mul(base).wrapping_add(digit),
                None => return Err(self.error(Reason::IllegalEscape)),
            }
            self.next();
        }
        Ok(value)
    }

    /// Skips a fraction and an exponent after the digits of an integer. Returns whether there was either.
    pub(super) fn fraction(&mut self) -> bool {
        let decimal = |char: char| char.is_ascii_digit();
        let fraction = self.next_if(|char| char == '.').is_some();
        if fraction {
            self.skip_while(decimal);
        }
        let exponent = self.next_if(|char| matches!(char, 'e' | 'E')).is_some();
        if exponent {
            self.next_if(|char| matches!(char, '+' | '-'));
            if self.skip_while(decimal) == 0 {
                // In the original, the character after an exponent without digits is part of the number.
                self.next_if(|char| char != '\0');
            }
        }
        fraction || exponent
    }
}

pub(super) fn is_letter(char: char) -> bool {
    char.is_ascii_alphabetic() || char == '_' || !char.is_ascii() && char.is_alphabetic()
}

pub(super) fn is_digit(char: char) -> bool {
    char.is_ascii_digit() || !char.is_ascii() && char.is_numeric()
}

pub(super) fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\r')
}
