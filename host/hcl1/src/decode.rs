//! From the tree to typed values, with the original's rules: keys match whatever their case, a repeated scalar is the last one,
//! repeated lists, maps and objects are joined.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::{Item, Key, Literal, Node, Position, Rejected};

/// Bytes of a path up to which a repeated key is noticed: the path of each key is kept while a text is decoded.
const PATH: usize = 4 << 10;

/// What is decoded.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// A value.
    Node(&'a Node),
    /// The items of an object: the keys that are not used up yet, and the values.
    Items(Vec<(&'a [Key], &'a Node)>),
}

/// What is odd about the keys of a text.
#[derive(Debug, Default)]
pub struct Findings {
    /// The paths of keys that nothing asks for.
    pub unknown: Vec<String>,
    /// Every key that was given a scalar or a list, by its path.
    written: BTreeMap<String, Written>,
}

/// How often a key was written, and where.
#[derive(Debug)]
struct Written {
    times: usize,
    first: Position,
    last: Position,
    joins: bool,
}

impl Findings {
    /// The keys that were written more than once. Repeated blocks are none: their keys are joined.
    pub fn repeated(&self) -> impl Iterator<Item = Repeated<'_>> {
        self.written.iter().filter(|(_, written)| written.times > 1).map(|(path, written)| Repeated { path, written })
    }

    fn write(&mut self, path: &str, value: &Node, joins: bool) {
        if matches!(value, Node::Object(..)) || path.len() > PATH {
            return;
        }
        let position = value.position();
        let first = || Written { times: 0, first: position, last: position, joins };
        let written = self.written.entry(path.to_owned()).or_insert_with(first);
        written.times += 1;
        written.last = position;
    }
}

/// A key that was written more than once. Displays how often, where, and what counts, without path and values.
#[derive(Debug)]
pub struct Repeated<'a> {
    /// The key's path.
    pub path: &'a str,
    written: &'a Written,
}

impl fmt::Display for Repeated<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Written { times, first, last, joins } = self.written;
        match times {
            2 => formatter.write_str("is written twice")?,
            times => write!(formatter, "is written {times} times")?,
        }
        match (times, first.line, last.line) {
            // JSON has no positions.
            (_, 0, _) => {}
            (2, first, last) => write!(formatter, " (line {first} and line {last})")?,
            (_, first, last) => write!(formatter, " (first in line {first}, last in line {last})")?,
        }
        formatter.write_str(if *joins { ": the lists are joined" } else { ": the last one counts" })
    }
}

/// A type that values are put into. A repeated key comes by more than once.
pub trait Decode {
    /// Puts `value`, which stands at `path`, into `self`. What is odd about its keys is added to `findings`.
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Rejected>;

    /// Whether a repeated value is added to the ones before. Otherwise the last one counts.
    fn joins(&self) -> bool {
        false
    }
}

/// Decodes an object into its fields.
pub fn object(
    path: &str,
    value: &Value<'_>,
    fields: &mut [(&str, &mut dyn Decode)],
    findings: &mut Findings,
) -> Result<(), Rejected> {
    let items = value.items(path)?;
    for (name, field) in fields.iter_mut() {
        let field_path = join(path, name);
        let (whole, nested): (Vec<_>, Vec<_>) = named(&items, name).into_iter().partition(|(keys, _)| keys.is_empty());
        if !nested.is_empty() {
            field.decode(&field_path, &Value::Items(nested), findings)?;
        }
        for (_, value) in whole {
            findings.write(&field_path, value, field.joins());
            field.decode(&field_path, &Value::Node(value), findings)?;
        }
    }
    let known: Vec<String> = fields.iter().map(|(name, _)| fold(name)).collect();
    let keys = items.iter().filter_map(|(keys, _)| keys.first());
    findings.unknown.extend(keys.filter(|key| !known.contains(&fold(&key.name))).map(|key| join(path, &key.name)));
    Ok(())
}

impl<'a> Value<'a> {
    /// The value of a whole text.
    pub fn of_text(items: &'a [Item]) -> Value<'a> {
        Value::Items(views(items))
    }

    fn items(&self, path: &str) -> Result<Vec<(&'a [Key], &'a Node)>, Rejected> {
        match self {
            Value::Items(items) => Ok(items.clone()),
            Value::Node(Node::Object(items, _)) => Ok(views(items)),
            Value::Node(node) => Err(Rejected::new(node.position(), format!("{path}: expected an object {{ … }}"))),
        }
    }

    /// The items of an object, with the keys that are left of each.
    pub fn into_items(self, path: &str) -> Result<Vec<Item>, Rejected> {
        let items = self.items(path)?;
        Ok(items.into_iter().map(|(keys, value)| Item { keys: keys.to_vec(), value: value.clone() }).collect())
    }

    fn position(&self) -> Position {
        match self {
            Value::Node(node) => node.position(),
            Value::Items(items) => items.first().map(|(_, value)| value.position()).unwrap_or_default(),
        }
    }

    fn literal(&self) -> Option<&'a Literal> {
        match self {
            Value::Node(Node::Literal(literal, _)) => Some(literal),
            _ => None,
        }
    }

    fn reject<T>(&self, path: &str, expected: &str) -> Result<T, Rejected> {
        Err(Rejected::new(self.position(), format!("{path}: expected {expected}")))
    }
}

fn views(items: &[Item]) -> Vec<(&[Key], &Node)> {
    items.iter().map(|item| (item.keys.as_slice(), &item.value)).collect()
}

/// The items whose first key is `name`, without that key.
fn named<'a>(items: &[(&'a [Key], &'a Node)], name: &str) -> Vec<(&'a [Key], &'a Node)> {
    let name = fold(name);
    items
        .iter()
        .filter_map(|(keys, value)| {
            keys.split_first().filter(|(first, _)| fold(&first.name) == name).map(|(_, rest)| (rest, *value))
        })
        .collect()
}

fn fold(name: &str) -> String {
    name.to_lowercase()
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

impl Decode for String {
    fn decode(&mut self, path: &str, value: &Value<'_>, _: &mut Findings) -> Result<(), Rejected> {
        match value.literal() {
            Some(Literal::String(text) | Literal::Number(text)) => {
                self.clone_from(text);
                Ok(())
            }
            _ => value.reject(path, "a string"),
        }
    }
}

impl Decode for bool {
    fn decode(&mut self, path: &str, value: &Value<'_>, _: &mut Findings) -> Result<(), Rejected> {
        match value.literal() {
            Some(Literal::Bool(bool)) => {
                *self = *bool;
                Ok(())
            }
            _ => value.reject(path, "true or false, without quotes"),
        }
    }
}

impl<T: Decode + Default> Decode for Option<T> {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Rejected> {
        self.get_or_insert_default().decode(path, value, findings)
    }

    fn joins(&self) -> bool {
        T::default().joins()
    }
}

impl<T: Decode + Default> Decode for Vec<T> {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Rejected> {
        let Value::Node(Node::List(nodes, _)) = value else {
            // The original takes an empty object for an empty list.
            return match value.items(path) {
                Ok(items) if items.is_empty() => Ok(()),
                _ => value.reject(path, "a list [ … ]"),
            };
        };
        for node in nodes {
            let mut element = T::default();
            // A list that is joined to another goes on counting: each element has a path of its own.
            element.decode(&format!("{path}[{}]", self.len()), &Value::Node(node), findings)?;
            self.push(element);
        }
        Ok(())
    }

    fn joins(&self) -> bool {
        true
    }
}

impl<T: Decode + Default> Decode for BTreeMap<String, T> {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Rejected> {
        let items = value.items(path)?;
        let mut done = HashSet::new();
        for (keys, node) in &items {
            let Some((key, rest)) = keys.split_first() else { return value.reject(path, "keys") };
            if done.contains(&key.name) {
                continue;
            }
            let element = match rest {
                [] => Value::Node(node),
                _ => {
                    done.insert(&key.name);
                    Value::Items(named(&items, &key.name))
                }
            };
            let (path, entry) = (join(path, &key.name), self.entry(key.name.clone()).or_default());
            if rest.is_empty() {
                findings.write(&path, node, entry.joins());
            }
            entry.decode(&path, &element, findings)?;
        }
        Ok(())
    }
}
