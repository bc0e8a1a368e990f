//! From the tree to typed values, with the original's rules: keys match whatever their case, a repeated scalar is the last one,
//! repeated lists, maps and objects are joined.

use std::collections::{BTreeMap, HashSet};

use super::{Item, Key, Literal, Node, Position, Rejected};

/// What is decoded.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// A value.
    Node(&'a Node),
    /// The items of an object: the keys that are not used up yet, and the values.
    Items(Vec<(&'a [Key], &'a Node)>),
}

/// A type that values are put into. A repeated key comes by more than once.
pub trait Decode {
    /// Puts `value`, which stands at `path`, into `self`. Keys that nothing asks for are added to `unknown`.
    fn decode(&mut self, path: &str, value: &Value<'_>, unknown: &mut Vec<String>) -> Result<(), Rejected>;
}

/// Decodes an object into its fields.
pub fn object(
    path: &str,
    value: &Value<'_>,
    fields: &mut [(&str, &mut dyn Decode)],
    unknown: &mut Vec<String>,
) -> Result<(), Rejected> {
    let items = value.items(path)?;
    for (name, field) in fields.iter_mut() {
        let field_path = join(path, name);
        let (whole, nested): (Vec<_>, Vec<_>) = named(&items, name).into_iter().partition(|(keys, _)| keys.is_empty());
        if !nested.is_empty() {
            field.decode(&field_path, &Value::Items(nested), unknown)?;
        }
        for (_, value) in whole {
            field.decode(&field_path, &Value::Node(value), unknown)?;
        }
    }
    let known: Vec<String> = fields.iter().map(|(name, _)| fold(name)).collect();
    let keys = items.iter().filter_map(|(keys, _)| keys.first());
    unknown.extend(keys.filter(|key| !known.contains(&fold(&key.name))).map(|key| join(path, &key.name)));
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
    fn decode(&mut self, path: &str, value: &Value<'_>, _: &mut Vec<String>) -> Result<(), Rejected> {
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
    fn decode(&mut self, path: &str, value: &Value<'_>, _: &mut Vec<String>) -> Result<(), Rejected> {
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
    fn decode(&mut self, path: &str, value: &Value<'_>, unknown: &mut Vec<String>) -> Result<(), Rejected> {
        self.get_or_insert_default().decode(path, value, unknown)
    }
}

impl<T: Decode + Default> Decode for Vec<T> {
    fn decode(&mut self, path: &str, value: &Value<'_>, unknown: &mut Vec<String>) -> Result<(), Rejected> {
        let Value::Node(Node::List(nodes, _)) = value else {
            // The original takes an empty object for an empty list.
            return match value.items(path) {
                Ok(items) if items.is_empty() => Ok(()),
                _ => value.reject(path, "a list [ … ]"),
            };
        };
        for (index, node) in nodes.iter().enumerate() {
            let mut element = T::default();
            element.decode(&format!("{path}[{index}]"), &Value::Node(node), unknown)?;
            self.push(element);
        }
        Ok(())
    }
}

impl<T: Decode + Default> Decode for BTreeMap<String, T> {
    fn decode(&mut self, path: &str, value: &Value<'_>, unknown: &mut Vec<String>) -> Result<(), Rejected> {
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
            self.entry(key.name.clone()).or_default().decode(&join(path, &key.name), &element, unknown)?;
        }
        Ok(())
    }
}
