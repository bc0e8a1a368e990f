//! Decodes the tree into typed values, by the original's rules.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::{Document, Error, Findings, Item, Key, Literal, Node, Position, Reason};

/// A type that a value of a text can be decoded into.
///
/// A struct calls [`decode_object`] with its fields. A type that is written as a string decodes a `String` first, and
/// returns [`Value::mismatch`] if the string does not suit it.
pub trait Decode {
    /// Decodes `value` into `self`. A repeated key is decoded once for each time that it is written, in the order of
    /// the text.
    ///
    /// `path` is the value's location, such as `server.listen[2]`, for errors and findings. It is empty for a whole
    /// text.
    ///
    /// # Errors
    /// If the value does not suit the type. The errors of the parts of an object or a list are added to `findings`
    /// instead, so that one wrong part hides no other.
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error>;

    /// Whether a repeated scalar or list is added to what was decoded before, as with lists. Otherwise the last one
    /// counts. [`RepeatedKey`](crate::RepeatedKey) reports which.
    fn joins(&self) -> bool {
        false
    }
}

/// A value to be decoded: a node of the tree, or the entries of an object that are written apart from one another. For
/// example, `a "x" { … }` and `a "y" { … }` together are the value of `a`.
#[derive(Debug, Clone)]
pub struct Value<'a>(View<'a>);

#[derive(Debug, Clone)]
enum View<'a> {
    Node(&'a Node),
    /// The entries, and the position of the first of them or of their object.
    Entries(Vec<Entry<'a>>, Position),
}

/// An entry of an object, seen from that object.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The keys of the item, without those that led to the object. There are several if the value is nested deeper, and
    /// none if the value was written without a further key (`a = { … }` beside `a "x" { … }`).
    pub keys: &'a [Key],
    /// The value.
    pub value: &'a Node,
}

impl<'a> From<&'a Node> for Value<'a> {
    fn from(node: &'a Node) -> Value<'a> {
        Value(View::Node(node))
    }
}

impl<'a> From<&'a Document> for Value<'a> {
    fn from(document: &'a Document) -> Value<'a> {
        Value(View::Entries(entries_of(&document.items), Position::START))
    }
}

impl<'a> Value<'a> {
    /// The scalar, if the value is one.
    pub fn literal(&self) -> Option<&'a Literal> {
        match self.0 {
            View::Node(Node::Literal(literal, _)) => Some(literal),
            _ => None,
        }
    }

    /// The elements, if the value is a list.
    pub fn list(&self) -> Option<&'a [Node]> {
        match self.0 {
            View::Node(Node::List(nodes, _)) => Some(nodes),
            _ => None,
        }
    }

    /// The entries, if the value is an object.
    pub fn entries(&self) -> Option<Vec<Entry<'a>>> {
        match &self.0 {
            View::Entries(entries, _) => Some(entries.clone()),
            View::Node(Node::Object(items, _)) => Some(entries_of(items)),
            View::Node(_) => None,
        }
    }

    /// A copy of the object as a document of its own, to be decoded later. `None` if the value is no object.
    pub fn to_document(&self) -> Option<Document> {
        let item = |entry: Entry<'_>| Item { keys: entry.keys.to_vec(), value: entry.value.clone() };
        Some(Document { items: self.entries()?.into_iter().map(item).collect() })
    }

    /// The position at which the value begins.
    pub fn position(&self) -> Position {
        match &self.0 {
            View::Node(node) => node.position(),
            View::Entries(_, position) => *position,
        }
    }

    /// Returns the error that the value at `path` does not suit its target. `expected` describes what the target takes,
    /// for example `a string`.
    pub fn mismatch(&self, path: &str, expected: impl Into<Cow<'static, str>>) -> Error {
        Error::new(self.position(), Reason::Mismatch { path: path.to_owned(), expected: expected.into() })
    }

    /// Combines entries into one value. `None` if there are none.
    fn of_entries(entries: Vec<Entry<'a>>) -> Option<Value<'a>> {
        let position = entries.first()?.value.position();
        Some(Value(View::Entries(entries, position)))
    }

    fn expect_entries(&self, path: &str) -> Result<Vec<Entry<'a>>, Error> {
        self.entries().ok_or_else(|| self.mismatch(path, "an object { … }"))
    }
}

/// Decodes an object into its fields. Keys match the names of fields regardless of case. A key that names no field, and
/// the error of a field whose value does not suit it, are added to `findings`.
///
/// # Errors
/// If the value is no object.
pub fn decode_object(
    path: &str,
    value: &Value<'_>,
    fields: &mut [(&str, &mut dyn Decode)],
    findings: &mut Findings,
) -> Result<(), Error> {
    let entries = value.expect_entries(path)?;
    let by_key = ByKey::new(&entries);
    for (name, field) in fields.iter_mut() {
        let field_path = join(path, name);
        let (whole, nested): (Vec<_>, Vec<_>) = by_key.get(name).partition(|entry| entry.keys.is_empty());
        if let Some(nested) = Value::of_entries(nested) {
            let decoded = field.decode(&field_path, &nested, findings);
            findings.keep(decoded);
        }
        for Entry { value: node, .. } in whole {
            findings.note_written(&field_path, node, field.joins());
            let value = match node {
                Node::Object(items, position) => Value(View::Entries(entries_of(items), *position)),
                node => node.into(),
            };
            let decoded = field.decode(&field_path, &value, findings);
            findings.keep(decoded);
        }
    }
    let known: HashSet<String> = fields.iter().map(|(name, _)| fold(name)).collect();
    let mut names: Option<Arc<[String]>> = None;
    let mut previous = None;
    for key in entries.iter().filter_map(|entry| entry.keys.first()) {
        let seen = previous.replace(key).is_some_and(|previous| is_shared(previous, key));
        if !seen && !known.contains(&fold(&key.name)) {
            let names = names.get_or_insert_with(|| fields.iter().map(|(name, _)| (*name).to_owned()).collect());
            findings.note_unknown(join(path, &key.name), key.position, names);
        }
    }
    Ok(())
}

fn entries_of(items: &[Item]) -> Vec<Entry<'_>> {
    items.iter().map(|item| Entry { keys: &item.keys, value: &item.value }).collect()
}

/// Entries by their first key, regardless of case.
struct ByKey<'a> {
    /// The index in `groups`, by key.
    indices: HashMap<String, usize>,
    /// Entries without the key, in the order of the text.
    groups: Vec<Vec<Entry<'a>>>,
}

impl<'a> ByKey<'a> {
    fn new(entries: &[Entry<'a>]) -> ByKey<'a> {
        let mut by_key = ByKey { indices: HashMap::new(), groups: Vec::new() };
        let mut previous: Option<(&Key, usize)> = None;
        for Entry { keys, value } in entries {
            let Some((first, rest)) = keys.split_first() else { continue };
            let index = match previous {
                Some((key, index)) if is_shared(key, first) => index,
                _ => {
                    let next = by_key.groups.len();
                    *by_key.indices.entry(fold(&first.name)).or_insert(next)
                }
            };
            previous = Some((first, index));
            if index == by_key.groups.len() {
                by_key.groups.push(Vec::new());
            }
            if let Some(group) = by_key.groups.get_mut(index) {
                group.push(Entry { keys: rest, value });
            }
        }
        by_key
    }

    /// The entries whose first key is `name`, without that key, in the order of the text.
    fn get(&self, name: &str) -> impl Iterator<Item = Entry<'a>> {
        self.indices.get(&fold(name)).and_then(|index| self.groups.get(*index)).into_iter().flatten().copied()
    }
}

/// Whether two keys are the same key of the text, which precedes everything in its object. Comparing pointers avoids
/// reading a key of 1 MiB again for each of 10,000 items.
fn is_shared(one: &Key, other: &Key) -> bool {
    Arc::ptr_eq(&one.name, &other.name)
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

/// Decodes a string, a heredoc, or a number without a fraction as it is written.
impl Decode for String {
    fn decode(&mut self, path: &str, value: &Value<'_>, _: &mut Findings) -> Result<(), Error> {
        match value.literal() {
            Some(Literal::String(text) | Literal::Number(text)) => {
                self.clone_from(text);
                Ok(())
            }
            _ => Err(value.mismatch(path, "a string")),
        }
    }
}

/// Decodes `true` or `false`.
impl Decode for bool {
    fn decode(&mut self, path: &str, value: &Value<'_>, _: &mut Findings) -> Result<(), Error> {
        match value.literal() {
            Some(Literal::Bool(bool)) => {
                *self = *bool;
                Ok(())
            }
            _ => Err(value.mismatch(path, "true or false, without quotes")),
        }
    }
}

/// Decodes a number without a fraction, or a string that holds one in Go's notation: `-1`, `0x1F`, `010`, `0o17`,
/// `0b11`, `1_000`.
impl Decode for i64 {
    fn decode(&mut self, path: &str, value: &Value<'_>, _: &mut Findings) -> Result<(), Error> {
        let number = match value.literal() {
            Some(Literal::Number(text) | Literal::String(text)) => integer(text),
            _ => None,
        };
        *self = number.ok_or_else(|| value.mismatch(path, "a whole number from -2^63 to 2^63-1"))?;
        Ok(())
    }
}

/// Decodes a number.
impl Decode for f64 {
    fn decode(&mut self, path: &str, value: &Value<'_>, _: &mut Findings) -> Result<(), Error> {
        let number = match value.literal() {
            Some(Literal::Number(text) | Literal::Float(text)) => {
                text.parse().ok().filter(|number: &f64| number.is_finite())
            }
            _ => None,
        };
        *self = number.ok_or_else(|| value.mismatch(path, "a decimal number"))?;
        Ok(())
    }
}

/// Parses a text as Go's `strconv.ParseInt` does when it detects the base itself.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let prefix = digits.get(..2).unwrap_or_default().to_ascii_lowercase();
    let (base, body) = match prefix.as_str() {
        "0x" => (16, digits.get(2..)?),
        "0o" => (8, digits.get(2..)?),
        "0b" => (2, digits.get(2..)?),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    // An underscore stands between two digits, or between the base and a digit.
    let spaced = if base == 10 { body.to_owned() } else { format!("0{body}") };
    if spaced.starts_with('_') || spaced.ends_with('_') || spaced.contains("__") {
        return None;
    }
    let bare = body.replace('_', "");
    if !bare.chars().all(|char| char.is_digit(base)) {
        return None;
    }
    let magnitude = i128::from_str_radix(&bare, base).ok()?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// Decodes an optional key: `Some` once the key was written.
impl<T: Decode + Default> Decode for Option<T> {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        self.get_or_insert_default().decode(path, value, findings)
    }

    fn joins(&self) -> bool {
        T::default().joins()
    }
}

/// For types that hold themselves.
impl<T: Decode + ?Sized> Decode for Box<T> {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        (**self).decode(path, value, findings)
    }

    fn joins(&self) -> bool {
        (**self).joins()
    }
}

/// Decodes a list `[ … ]`, or an empty object. Repeated lists are joined.
impl<T: Decode + Default> Decode for Vec<T> {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        let Some(nodes) = value.list() else {
            // The original accepts an empty object as an empty list in a field, but not in a map or a list.
            return match &value.0 {
                View::Entries(entries, _) if entries.is_empty() => Ok(()),
                _ => Err(value.mismatch(path, "a list [ … ]")),
            };
        };
        for node in nodes {
            let mut element = T::default();
            // The second of two joined lists continues the count, so that each element has its own path.
            let decoded = element.decode(&format!("{path}[{}]", self.len()), &node.into(), findings);
            findings.keep(decoded);
            self.push(element);
        }
        Ok(())
    }

    fn joins(&self) -> bool {
        true
    }
}

/// Decodes an object whose keys are not known beforehand. Repeated objects are joined.
impl<T: Decode + Default> Decode for BTreeMap<String, T> {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        let entries = value.expect_entries(path)?;
        let by_key = ByKey::new(&entries);
        let mut done = HashSet::new();
        let mut last_done: Option<&Key> = None;
        for Entry { keys, value: node } in &entries {
            let Some((key, rest)) = keys.split_first() else { return Err(value.mismatch(path, "keys")) };
            if last_done.is_some_and(|done| is_shared(done, key)) || done.contains(&key.name) {
                continue;
            }
            let (path, element) = (join(path, &key.name), self.entry(key.name.to_string()).or_default());
            if rest.is_empty() {
                findings.note_written(&path, node, element.joins());
                let decoded = element.decode(&path, &Value::from(*node), findings);
                findings.keep(decoded);
            } else {
                done.insert(&key.name);
                last_done = Some(key);
                if let Some(nested) = Value::of_entries(by_key.get(&key.name).collect()) {
                    let decoded = element.decode(&path, &nested, findings);
                    findings.keep(decoded);
                }
            }
        }
        Ok(())
    }
}
