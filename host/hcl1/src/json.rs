//! The JSON form. Objects within objects become keys, lists of objects become repeated items, as in HCL.

use super::scan::{Chars, is_digit, is_letter, is_space};
use super::{DEPTH, ITEMS, Item, Key, Literal, Node, Position, Rejected};

pub(super) fn parse(text: &str) -> Result<Vec<Item>, Rejected> {
    let mut parser = Parser { chars: Chars::new(text), last: Token::End, items: 0 };
    match parser.next()? {
        Token::OpenBrace => {}
        _ => return parser.chars.reject("expected an object"),
    }
    let items = parser.object(0)?;
    let mut flat = 0;
    flattened(items, &mut flat)
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

struct Parser<'a> {
    chars: Chars<'a>,
    last: Token,
    items: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Result<Token, Rejected> {
        // What cannot be scanned is no closing brace, whatever came before.
        self.last = Token::End;
        self.last = self.scan()?;
        Ok(self.last.clone())
    }

    fn count(&mut self) -> Result<(), Rejected> {
        self.items += 1;
        match self.items > ITEMS {
            true => self.chars.reject(format!("more than {ITEMS} items")),
            false => Ok(()),
        }
    }

    /// Items after an opening brace. As in the original, any token that is no comma ends them, and a comma may be the last.
    fn object(&mut self, depth: usize) -> Result<Vec<Item>, Rejected> {
        let mut items = Vec::new();
        loop {
            match self.item(depth) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => return Ok(items),
                Err(_) if self.last == Token::CloseBrace => return Ok(items),
                Err(rejected) => return Err(rejected),
            }
            self.count()?;
            if self.next()? != Token::Comma {
                return Ok(items);
            }
        }
    }

    fn item(&mut self, depth: usize) -> Result<Option<Item>, Rejected> {
        let mut keys = Vec::new();
        loop {
            match self.next()? {
                Token::End => return Ok(None),
                Token::Literal(Literal::String(name)) => keys.push(Key { name, position: Position::default() }),
                Token::Colon if !keys.is_empty() => break,
                _ => return self.chars.reject("expected a key in quotes and `:`"),
            }
        }
        let token = self.next()?;
        Ok(self.value(token, depth)?.map(|value| Item { keys, value }))
    }

    fn value(&mut self, token: Token, depth: usize) -> Result<Option<Node>, Rejected> {
        if depth >= DEPTH {
            return self.chars.reject(format!("nested deeper than {DEPTH}"));
        }
        let position = Position::default();
        Ok(Some(match token {
            Token::Literal(literal) => Node::Literal(literal, position),
            Token::Null => Node::Literal(Literal::String(String::new()), position),
            Token::OpenBrace => Node::Object(self.object(depth + 1)?, position),
            Token::OpenBracket => Node::List(self.list(depth + 1)?, position),
            Token::End => return Ok(None),
            _ => return self.chars.reject("expected a value"),
        }))
    }

    /// Values after an opening bracket. As in the original, bools and inner brackets are passed over.
    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Rejected> {
        let mut values = Vec::new();
        loop {
            match self.next()? {
                Token::CloseBracket => return Ok(values),
                Token::Comma | Token::OpenBracket | Token::Literal(Literal::Bool(_)) => {}
                token @ (Token::Literal(_) | Token::OpenBrace) => values.extend(self.value(token, depth)?),
                _ => return self.chars.reject("expected a value or `]` in a list"),
            }
            self.count()?;
        }
    }

    fn scan(&mut self) -> Result<Token, Rejected> {
        self.chars.skip_while(is_space);
        let position = self.chars.position();
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
                Token::Literal(Literal::Float)
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
                    _ => return Err(Rejected::new(position, "expected true, false or null")),
                }
            }
            other => return Err(Rejected::new(position, format!("illegal char {other:?}"))),
        })
    }

    fn number(&mut self, first: char, position: Position, start: usize) -> Result<Token, Rejected> {
        let digits = self.chars.skip_while(|char| char.is_ascii_digit());
        if self.chars.fraction() {
            return Ok(Token::Literal(Literal::Float));
        }
        match first == '0' && digits > 0 {
            true => Err(Rejected::new(position, "numbers cannot start with 0")),
            false => Ok(Token::Literal(Literal::Number(self.chars.slice(start, self.chars.offset()).to_owned()))),
        }
    }
}

/// `{"a": {"b": {…}}}` is `a "b" {…}`, and `{"a": [{…}, {…}]}` is `a {…}` twice. `count` bounds what comes out.
fn flattened(items: Vec<Item>, count: &mut usize) -> Result<Vec<Item>, Rejected> {
    let mut flat = Vec::with_capacity(items.len());
    for item in items {
        flatten(item, &mut flat, count)?;
    }
    for item in &mut flat {
        flatten_within(&mut item.value, count)?;
    }
    Ok(flat)
}

fn flatten(item: Item, flat: &mut Vec<Item>, count: &mut usize) -> Result<(), Rejected> {
    *count += 1;
    if *count > ITEMS {
        return Err(Rejected::new(Position::default(), format!("more than {ITEMS} items")));
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

fn flatten_within(value: &mut Node, count: &mut usize) -> Result<(), Rejected> {
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
