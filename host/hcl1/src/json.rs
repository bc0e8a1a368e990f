//! The parser of the JSON form. Objects within objects become keys, and lists of objects become repeated items, as in HCL.

use crate::bounds::{DEPTH, ITEMS};
use crate::scan::{Chars, is_digit, is_letter, is_space};
use crate::{Error, Expected, Found, Item, Key, Literal, Node, Position, Reason};

pub(super) fn parse(text: &str) -> Result<Vec<Item>, Error> {
    let mut parser = Parser { chars: Chars::new(text), items: 0 };
    let items = match parser.next()? {
        (Token::OpenBrace, _) => parser.object(0)?,
        (other, position) => return Err(other.unexpected(position, Expected::Object)),
    };
    let mut count = 0;
    flattened(items, &mut count)
}

pub(super) fn tokens(text: &str) -> Vec<crate::Token> {
    let mut parser = Parser { chars: Chars::new(text), items: 0 };
    let mut tokens = Vec::new();
    while let Ok((token, start)) = parser.next() {
        match token.found() {
            Found::End => break,
            kind => tokens.push(crate::Token { kind, start, end: parser.chars.position() }),
        }
    }
    tokens
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    End,
    Literal(Literal),
    Null,
    Comma,
    Colon,
    OpenBrace,
    CloseBrace,
    OpenBracket,
    CloseBracket,
    Period,
}

impl Token {
    fn found(&self) -> Found {
        match self {
            Token::End => Found::End,
            Token::Literal(Literal::String(_)) => Found::String,
            Token::Literal(Literal::Bool(_)) => Found::Bool,
            Token::Literal(Literal::Number(_) | Literal::Float(_)) => Found::Number,
            Token::Null => Found::Null,
            Token::Comma => Found::Sign(','),
            Token::Colon => Found::Sign(':'),
            Token::OpenBrace => Found::Sign('{'),
            Token::CloseBrace => CLOSING_BRACE,
            Token::OpenBracket => Found::Sign('['),
            Token::CloseBracket => Found::Sign(']'),
            Token::Period => Found::Sign('.'),
        }
    }

    fn unexpected(&self, position: Position, expected: Expected) -> Error {
        Error::new(position, Reason::Unexpected { expected, found: self.found() })
    }
}

const CLOSING_BRACE: Found = Found::Sign('}');

struct Parser<'a> {
    chars: Chars<'a>,
    items: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Result<(Token, Position), Error> {
        self.chars.skip_while(is_space);
        let position = self.chars.position();
        Ok((self.scan(position)?, position))
    }

    fn count(&mut self) -> Result<(), Error> {
        self.items += 1;
        match self.items > ITEMS {
            true => Err(self.chars.error(Reason::TooManyItems)),
            false => Ok(()),
        }
    }

    /// Reads items after an opening brace. As in the original, any token but a comma ends them, a comma may be the last token,
    /// and a closing brace in the place of any other token ends the object without the item that it stands in.
    fn object(&mut self, depth: usize) -> Result<Vec<Item>, Error> {
        let mut items = Vec::new();
        loop {
            match self.item(depth) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => return Ok(items),
                Err(Error { reason: Reason::Unexpected { found: CLOSING_BRACE, .. }, .. }) => return Ok(items),
                Err(error) => return Err(error),
            }
            self.count()?;
            if self.next()?.0 != Token::Comma {
                return Ok(items);
            }
        }
    }

    /// Reads an item. `None` at the end of the text.
    fn item(&mut self, depth: usize) -> Result<Option<Item>, Error> {
        let mut keys: Vec<Key> = Vec::new();
        loop {
            match self.next()? {
                (Token::End, _) => return Ok(None),
                (Token::Literal(Literal::String(name)), position) => keys.push(Key { name: name.into(), position }),
                (Token::Colon, _) if !keys.is_empty() => break,
                (other, position) => {
                    let expected = if keys.is_empty() { Expected::QuotedKey } else { Expected::Colon };
                    return Err(other.unexpected(position, expected));
                }
            }
        }
        let (token, position) = self.next()?;
        Ok(self.value(token, position, depth)?.map(|value| Item { keys, value }))
    }

    /// Reads a value that begins with `token`. `None` at the end of the text.
    fn value(&mut self, token: Token, position: Position, depth: usize) -> Result<Option<Node>, Error> {
        if depth >= DEPTH {
            return Err(Error::new(position, Reason::NestedTooDeep));
        }
        Ok(Some(match token {
            Token::Literal(literal) => Node::Literal(literal, position),
            Token::Null => Node::Literal(Literal::String(String::new()), position),
            Token::OpenBrace => Node::Object(self.object(depth + 1)?, position),
            Token::OpenBracket => Node::List(self.list(depth + 1)?, position),
            Token::End => return Ok(None),
            other => return Err(other.unexpected(position, Expected::Value)),
        }))
    }

    /// Reads values after an opening bracket. As in the original, bools and inner opening brackets are skipped.
    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Error> {
        let mut values = Vec::new();
        loop {
            match self.next()? {
                (Token::CloseBracket, _) => return Ok(values),
                (Token::Comma | Token::OpenBracket | Token::Literal(Literal::Bool(_)), _) => {}
                (token @ (Token::Literal(_) | Token::OpenBrace), position) => {
                    values.extend(self.value(token, position, depth)?);
                }
                (other, position) => return Err(other.unexpected(position, Expected::ElementOrClosingBracket)),
            }
            self.count()?;
        }
    }

    fn scan(&mut self, position: Position) -> Result<Token, Error> {
        let start = self.chars.offset();
        let Some(char) = self.chars.next() else { return Ok(Token::End) };
        Ok(match char {
            '"' => Token::Literal(Literal::String(self.chars.string(false)?)),
            ',' => Token::Comma,
            ':' => Token::Colon,
            '{' => Token::OpenBrace,
            '}' => Token::CloseBrace,
            '[' => Token::OpenBracket,
            ']' => Token::CloseBracket,
            '.' if self.chars.peek().is_some_and(|char| char.is_ascii_digit()) => {
                self.chars.skip_while(|char| char.is_ascii_digit());
                self.chars.fraction();
                Token::Literal(Literal::Float(self.chars.slice(start, self.chars.offset()).to_owned()))
            }
            '.' => Token::Period,
            '-' if self.chars.peek().is_some_and(|char| char.is_ascii_digit()) => {
                let first = self.chars.next().unwrap_or('0');
                self.number(first, position, start)?
            }
            digit if digit.is_ascii_digit() => self.number(digit, position, start)?,
            letter if is_letter(letter) => {
                self.chars.skip_while(|char| is_letter(char) || is_digit(char) || char == '-');
                match self.chars.slice(start, self.chars.offset()) {
                    "true" => Token::Literal(Literal::Bool(true)),
                    "false" => Token::Literal(Literal::Bool(false)),
                    "null" => Token::Null,
                    _ => return Err(Error::new(position, Reason::UnknownWord)),
                }
            }
            other => return Err(Error::new(position, Reason::IllegalCharacter(other))),
        })
    }

    fn number(&mut self, first: char, position: Position, start: usize) -> Result<Token, Error> {
        let digits = self.chars.skip_while(|char| char.is_ascii_digit());
        if self.chars.fraction() {
            return Ok(Token::Literal(Literal::Float(self.chars.slice(start, self.chars.offset()).to_owned())));
        }
        // The original rejects a zero that ends the text, too.
        match first == '0' && (digits > 0 || self.chars.peek().is_none()) {
            true => Err(Error::new(position, Reason::LeadingZero)),
            false => Ok(Token::Literal(Literal::Number(self.chars.slice(start, self.chars.offset()).to_owned()))),
        }
    }
}

/// Flattens nested objects: `{"a": {"b": {…}}}` becomes `a "b" {…}`, and `{"a": [{…}, {…}]}` becomes two items `a {…}`.
/// `count` is the number of items so far, which is bounded.
fn flattened(items: Vec<Item>, count: &mut usize) -> Result<Vec<Item>, Error> {
    let mut flat = Vec::with_capacity(items.len());
    for item in items {
        flatten(item, &mut flat, count)?;
    }
    for item in &mut flat {
        flatten_within(&mut item.value, count)?;
    }
    Ok(flat)
}

fn flatten(item: Item, flat: &mut Vec<Item>, count: &mut usize) -> Result<(), Error> {
    *count += 1;
    if *count > ITEMS {
        return Err(Error::new(item.value.position(), Reason::TooManyItems));
    }
    let Item { keys, value } = item;
    match value {
        Node::Object(items, _)
            if !items.is_empty() && items.iter().all(|item| matches!(item.value, Node::Object(..))) =>
        {
            for item in items {
                let keys = keys.iter().cloned().chain(item.keys).collect();
                flatten(Item { keys, value: item.value }, flat, count)?;
            }
        }
        Node::List(values, _) if !values.is_empty() && values.iter().all(|value| matches!(value, Node::Object(..))) => {
            for value in values {
                flatten(Item { keys: keys.clone(), value }, flat, count)?;
            }
        }
        value => flat.push(Item { keys, value }),
    }
    Ok(())
}

fn flatten_within(value: &mut Node, count: &mut usize) -> Result<(), Error> {
    match value {
        Node::Object(items, _) => *items = flattened(std::mem::take(items), count)?,
        Node::List(values, _) => {
            for value in values {
                flatten_within(value, count)?;
            }
        }
        Node::Literal(..) => {}
    }
    Ok(())
}
