//! The parser of HCL1's own syntax.

use crate::bounds::{DEPTH, ITEMS};
use crate::scan::{Chars, is_digit, is_letter, is_space, position_of};
use crate::{Error, Expected, Found, Item, Key, Literal, Node, Position, Reason};

/// A code point that the original reserves for its own use, and rejects wherever it stands.
const RESERVED: char = '\u{e123}';

pub(super) fn parse(text: &str) -> Result<Vec<Item>, Error> {
    if let Some(offset) = text.find(RESERVED) {
        return Err(Error::new(position_of(text, offset), Reason::IllegalCharacter(RESERVED)));
    }
    let mut parser = Parser { chars: Chars::new(text), ahead: None, items: 0 };
    // The items end with the text. They may also end with `"n" = ` and no value, because the agent writes the null of
    // JSON like that.
    parser.items(0)
}

pub(super) fn tokens(text: &str) -> Vec<crate::Token> {
    let mut parser = Parser { chars: Chars::new(text), ahead: None, items: 0 };
    let mut tokens = Vec::new();
    while let Ok((token, start)) = parser.scan() {
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
    Ident(String),
    Literal(Literal),
    /// A heredoc, which can only be a value, while a string may also be a key.
    Heredoc(String),
    Assign,
    Comma,
    OpenBrace,
    CloseBrace,
    OpenBracket,
    CloseBracket,
    /// A character that the scanner accepts and the grammar does not: `.`, `+` or `-`.
    Sign(char),
}

impl Token {
    fn found(&self) -> Found {
        match self {
            Token::End => Found::End,
            Token::Ident(_) => Found::Identifier,
            Token::Literal(Literal::String(_)) => Found::String,
            Token::Literal(Literal::Bool(_)) => Found::Bool,
            Token::Literal(Literal::Number(_) | Literal::Float(_)) => Found::Number,
            Token::Heredoc(_) => Found::Heredoc,
            Token::Assign => Found::Sign('='),
            Token::Comma => Found::Sign(','),
            Token::OpenBrace => Found::Sign('{'),
            Token::CloseBrace => Found::Sign('}'),
            Token::OpenBracket => Found::Sign('['),
            Token::CloseBracket => Found::Sign(']'),
            Token::Sign(sign) => Found::Sign(*sign),
        }
    }

    fn unexpected(&self, position: Position, expected: Expected) -> Error {
        Error::new(position, Reason::Unexpected { expected, found: self.found() })
    }
}

struct Parser<'a> {
    chars: Chars<'a>,
    /// The next token and its position, if it was scanned ahead.
    ahead: Option<(Token, Position)>,
    items: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Result<(Token, Position), Error> {
        match self.ahead.take() {
            Some(token) => Ok(token),
            None => self.scan(),
        }
    }

    fn peek(&mut self) -> Result<&Token, Error> {
        let token = self.next()?;
        Ok(&self.ahead.insert(token).0)
    }

    /// Reads items up to a closing brace, which is left for the caller, or to the end of the text.
    fn items(&mut self, depth: usize) -> Result<Vec<Item>, Error> {
        let mut items = Vec::new();
        loop {
            let (first, position) = self.next()?;
            if first == Token::End || first == Token::CloseBrace && depth > 0 {
                self.ahead = Some((first, position));
                return Ok(items);
            }
            let (keys, assigned) = self.keys(first, position)?;
            let (token, position) = match assigned {
                true => self.next()?,
                false => (Token::OpenBrace, position),
            };
            if token == Token::End {
                self.ahead = Some((token, position));
                return Ok(items);
            }
            let value = self.value(token, position, depth)?;
            items.push(Item { keys, value });
            self.items += 1;
            if self.items > ITEMS {
                return Err(Error::new(position, Reason::TooManyItems));
            }
            if *self.peek()? == Token::Comma {
                self.next()?;
            }
        }
    }

    /// Reads the keys of an item, up to and including its `=` or `{`. Returns whether it was `=`.
    fn keys(&mut self, first: Token, position: Position) -> Result<(Vec<Key>, bool), Error> {
        let mut keys = Vec::new();
        let (mut token, mut position) = (first, position);
        loop {
            match token {
                Token::Ident(name) | Token::Literal(Literal::String(name)) => {
                    keys.push(Key { name: name.into(), position });
                }
                Token::Assign if keys.len() == 1 => return Ok((keys, true)),
                Token::OpenBrace if !keys.is_empty() => return Ok((keys, false)),
                other => {
                    let expected = match keys.len() {
                        0 => Expected::Key,
                        1 => Expected::KeyOrValue,
                        _ => Expected::KeyOrObject,
                    };
                    return Err(other.unexpected(position, expected));
                }
            }
            (token, position) = self.next()?;
        }
    }

    fn value(&mut self, token: Token, position: Position, depth: usize) -> Result<Node, Error> {
        if depth >= DEPTH {
            return Err(Error::new(position, Reason::NestedTooDeep));
        }
        match token {
            Token::Literal(literal) => Ok(Node::Literal(literal, position)),
            Token::Heredoc(text) => Ok(Node::Literal(Literal::String(text), position)),
            Token::OpenBracket => self.list(position, depth + 1),
            Token::OpenBrace => {
                let items = self.items(depth + 1)?;
                match self.next()? {
                    (Token::CloseBrace, _) => Ok(Node::Object(items, position)),
                    (other, position) => Err(other.unexpected(position, Expected::ClosingBrace)),
                }
            }
            other => Err(other.unexpected(position, Expected::Value)),
        }
    }

    fn list(&mut self, start: Position, depth: usize) -> Result<Node, Error> {
        let mut values = Vec::new();
        let mut needs_comma = false;
        loop {
            let (token, position) = self.next()?;
            match token {
                Token::CloseBracket => return Ok(Node::List(values, start)),
                Token::Comma => {
                    needs_comma = false;
                    continue;
                }
                other if needs_comma => {
                    return Err(other.unexpected(position, Expected::CommaOrClosingBracket));
                }
                // The original requires no comma after a list within a list.
                other => {
                    needs_comma = other != Token::OpenBracket;
                    values.push(self.value(other, position, depth)?);
                }
            }
            self.items += 1;
            if self.items > ITEMS {
                return Err(Error::new(position, Reason::TooManyItems));
            }
        }
    }

    fn scan(&mut self) -> Result<(Token, Position), Error> {
        self.skip_blank()?;
        let position = self.chars.position();
        let start = self.chars.offset();
        let Some(char) = self.chars.next() else { return Ok((Token::End, position)) };
        let token = match char {
            '"' => Token::Literal(Literal::String(self.chars.string(true)?)),
            '<' => Token::Heredoc(self.heredoc(position, start)?),
            '=' => Token::Assign,
            ',' => Token::Comma,
            '{' => Token::OpenBrace,
            '}' => Token::CloseBrace,
            '[' => Token::OpenBracket,
            ']' => Token::CloseBracket,
            '-' if self.chars.peek().is_some_and(|char| char.is_ascii_digit()) => {
                let first = self.chars.next().unwrap_or('0');
                self.number(first, position, start)?
            }
            '.' if self.chars.peek().is_some_and(|char| char.is_ascii_digit()) => {
                self.chars.skip_while(|char| char.is_ascii_digit());
                self.chars.fraction();
                Token::Literal(Literal::Float(self.chars.slice(start, self.chars.offset()).to_owned()))
            }
            '.' | '+' | '-' => Token::Sign(char),
            digit if digit.is_ascii_digit() => self.number(digit, position, start)?,
            letter if is_letter(letter) => {
                self.chars.skip_while(|char| is_letter(char) || is_digit(char) || char == '-' || char == '.');
                match self.chars.slice(start, self.chars.offset()) {
                    "true" => Token::Literal(Literal::Bool(true)),
                    "false" => Token::Literal(Literal::Bool(false)),
                    name => Token::Ident(name.to_owned()),
                }
            }
            other => return Err(Error::new(position, Reason::IllegalCharacter(other))),
        };
        Ok((token, position))
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) -> Result<(), Error> {
        loop {
            self.chars.skip_while(is_space);
            let rest = self.chars.rest();
            if rest.starts_with('#') || rest.starts_with("//") {
                self.chars.skip_while(|char| !matches!(char, '\n' | '\0'));
                if self.chars.peek() == Some('\0') {
                    return Err(self.chars.error(Reason::IllegalCharacter('\0')));
                }
            } else if rest.starts_with("/*") {
                let Some(end) = rest.get(2..).and_then(|rest| rest.find("*/")) else {
                    return Err(self.chars.error(Reason::CommentNotTerminated));
                };
                let end = self.chars.offset() + 2 + end + 2;
                while self.chars.offset() < end {
                    if self.chars.peek() == Some('\0') {
                        return Err(self.chars.error(Reason::IllegalCharacter('\0')));
                    }
                    self.chars.next();
                }
            } else if rest.starts_with('/') {
                return Err(self.chars.error(Reason::CommentIncomplete));
            } else {
                return Ok(());
            }
        }
    }

    fn number(&mut self, first: char, position: Position, start: usize) -> Result<Token, Error> {
        let chars = &mut self.chars;
        if first == '0' && chars.next_if(|char| matches!(char, 'x' | 'X')).is_some() {
            if chars.skip_while(|char| char.is_ascii_hexdigit()) == 0 {
                return Err(Error::new(position, Reason::HexadecimalNumber));
            }
        } else {
            let digits = chars.offset();
            chars.skip_while(|char| char.is_ascii_digit());
            // The original does not check the first digit after the zero of an octal number.
            let illegal = chars.slice(digits, chars.offset()).chars().skip(1).any(|digit| matches!(digit, '8' | '9'));
            if chars.fraction() {
                return Ok(Token::Literal(Literal::Float(chars.slice(start, chars.offset()).to_owned())));
            }
            if first == '0' && illegal {
                return Err(Error::new(position, Reason::OctalNumber));
            }
        }
        Ok(Token::Literal(Literal::Number(chars.slice(start, chars.offset()).to_owned())))
    }

    /// Reads a heredoc after its first `<`. A heredoc is `<<MARK` or `<<-MARK`, lines, and a line with the mark alone.
    fn heredoc(&mut self, position: Position, start: usize) -> Result<String, Error> {
        if self.chars.next_if(|char| char == '<').is_none() {
            return Err(Error::new(position, Reason::HeredocIncomplete));
        }
        let indented = self.chars.next_if(|char| char == '-').is_some();
        let mark_start = self.chars.offset();
        self.chars.skip_while(|char| is_letter(char) || is_digit(char));
        let mark = self.chars.slice(mark_start, self.chars.offset());
        let opening = self.chars.slice(start, self.chars.offset()).len();
        match self.chars.next() {
            Some('\n') => {}
            None | Some('\0') => return Err(Error::new(position, Reason::HeredocNotTerminated)),
            Some(_) => return Err(Error::new(position, Reason::HeredocMark)),
        }
        if mark.is_empty() {
            return Err(Error::new(position, Reason::HeredocWithoutMark));
        }
        let least = mark.len() + usize::from(indented);
        let body_start = self.chars.offset();
        loop {
            let line_start = self.chars.offset();
            self.chars.skip_while(|char| !matches!(char, '\n' | '\0'));
            if self.chars.peek() == Some('\0') {
                return Err(self.chars.error(Reason::HeredocNotTerminated));
            }
            let line = self.chars.slice(line_start, self.chars.offset());
            let is_mark = line.len() >= least && line.trim_start_matches(is_blank).trim_end_matches('\r') == mark;
            let ended = self.chars.next().is_none();
            match (is_mark, ended) {
                // SPIRE's agent writes a heredoc at the end of plugin_data without the last newline.
                (true, _) => {
                    let body =
                        self.chars.slice(body_start, self.chars.offset()).to_owned() + if ended { "\n" } else { "" };
                    return Ok(unindented(&body, opening, indented));
                }
                (false, true) => return Err(Error::new(position, Reason::HeredocNotTerminated)),
                (false, false) => {}
            }
        }
    }
}

fn is_blank(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\r' | '\x0b' | '\x0c')
}

/// The value of a heredoc. `body` is what follows the opening line, up to the newline after the closing mark; `opening` is the
/// length of `<<MARK` or `<<-MARK` in bytes. If the heredoc is `indented` and every line begins with the white space that stands
/// before the closing mark, that white space is removed from every line.
fn unindented(body: &str, opening: usize, indented: bool) -> String {
    // The original removes as many bytes as the opening has, even where the closing line is longer than the mark.
    let cut = |less: usize| body.get(..(body.len() + less).saturating_sub(opening)).unwrap_or_default();
    if !indented {
        return cut(1).to_owned();
    }
    let lines: Vec<&str> = cut(2).split('\n').collect();
    let Some((indent, lines)) = lines.split_last() else { return String::new() };
    if !lines.iter().all(|line| line.starts_with(indent)) {
        return cut(1).trim_end_matches([' ', '\t']).to_owned();
    }
    lines.iter().map(|line| line.strip_prefix(indent).unwrap_or(line).to_owned() + "\n").collect()
}
