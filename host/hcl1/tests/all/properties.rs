//! What holds for every text.

use std::collections::BTreeMap;

use hcl1::bounds::{DEPTH, ITEMS};
use hcl1::{Decode, Document, Error, Findings, Item, Literal, Node, Position, Value, decode_object};
use proptest::prelude::*;

/// A target with a field of each kind.
#[derive(Default)]
struct Target {
    text: String,
    bool: Option<bool>,
    number: i64,
    decimal: f64,
    list: Vec<String>,
    map: BTreeMap<String, Vec<String>>,
    nested: BTreeMap<String, Option<Box<Target>>>,
}

impl Decode for Target {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        let fields: &mut [(&str, &mut dyn Decode)] = &mut [
            ("a", &mut self.text),
            ("b", &mut self.bool),
            ("c", &mut self.number),
            ("d", &mut self.decimal),
            ("e", &mut self.list),
            ("f", &mut self.map),
            ("g", &mut self.nested),
        ];
        decode_object(path, value, fields, findings)
    }
}

/// Texts of the tokens of both forms, whole ones and broken ones.
fn tokens() -> impl Strategy<Value = String> {
    const TOKENS: &[&str] = &[
        "a",
        "b",
        "c",
        "d",
        "e",
        "f",
        "g",
        "\"a\"",
        "\"f\"",
        "\"g\"",
        "=",
        "=",
        "=",
        ":",
        ",",
        "{",
        "{",
        "}",
        "}",
        "[",
        "]",
        "1",
        "-1",
        "010",
        "08",
        "0x",
        "0x1f",
        "1.5",
        "1e",
        "1e+",
        ".5",
        "true",
        "false",
        "null",
        "nul",
        "\"x\"",
        "\"${a \"b\"}\"",
        "\"${",
        "\"\\n\"",
        "\"\\u00e9\"",
        "\"\\q\"",
        "\"\\400\"",
        "\"",
        "\\",
        "<<E\nx\nE\n",
        "<<-E\n  x\n  E\n",
        "<<E",
        "<",
        "E\n",
        "\n",
        "\r\n",
        "\r",
        " ",
        "\t",
        "# c\n",
        "// c\n",
        "/* c */",
        "/*",
        "/",
        "é",
        "٣",
        "\0",
        "\u{feff}",
        "\u{e123}",
        "-",
        "+",
        ".",
    ];
    let token = prop::sample::select(TOKENS);
    ("[{ ]?", prop::collection::vec(token, 0..40)).prop_map(|(first, tokens)| first + &tokens.concat())
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![3 => tokens(), 1 => "\\PC*", 1 => any::<String>()]
}

/// Whether a position is that of a character of the text, or that of its end.
fn lies_within(text: &str, position: Position) -> bool {
    let line = position.line.checked_sub(1).and_then(|line| text.split('\n').nth(line));
    line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&position.column))
}

/// Holds the positions and the depth of items, and answers how many items and elements there are.
fn check_items(text: &str, items: &[Item], depth: usize) -> usize {
    let mut count = 0;
    for Item { keys, value } in items {
        assert!(!keys.is_empty() && keys.iter().all(|key| lies_within(text, key.position)), "{keys:?}");
        count += 1 + check_node(text, value, depth + 1);
    }
    count
}

fn check_node(text: &str, node: &Node, depth: usize) -> usize {
    assert!(lies_within(text, node.position()) && depth <= DEPTH + 1, "{node:?}");
    match node {
        Node::Literal(..) => 0,
        Node::List(nodes, _) => nodes.iter().map(|node| 1 + check_node(text, node, depth + 1)).sum(),
        Node::Object(items, _) => check_items(text, items, depth),
    }
}

fn check(text: &str) {
    match hcl1::parse(text) {
        Ok(document) => {
            assert!(check_items(text, &document.items, 0) <= ITEMS);
            match document.decode(&mut Target::default()) {
                Ok(findings) => {
                    assert!(findings.unknown().all(|key| lies_within(text, key.position)));
                    let repeated = |key: hcl1::RepeatedKey<'_>| key.times >= 2 && lies_within(text, key.last);
                    assert!(findings.repeated().all(repeated));
                }
                Err(errors) => assert!(errors.iter().all(|error| lies_within(text, error.position)), "{errors}"),
            }
        }
        Err(error) => assert!(lies_within(text, error.position), "{error}"),
    }
    let mut end = Position::START;
    for token in hcl1::tokens(text) {
        assert!(end <= token.start && token.start < token.end && lies_within(text, token.start), "{token:?}");
        end = token.end;
    }
}

/// A string in quotes, with every character escaped that must be.
fn quoted(text: &str) -> String {
    let escaped = |char: char| match char {
        '"' | '\\' => format!("\\{char}"),
        '$' | '\u{e123}' | '\0'..='\x1f' => format!("\\u{:04x}", u32::from(char)),
        char => char.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn positions_lie_within_the_text_and_nothing_panics(text in texts()) {
        check(&text);
    }

    /// Nested objects and lists with one character changed, so that much of a text is well-formed.
    #[test]
    fn the_same_of_texts_that_are_nearly_well_formed(
        keys in prop::collection::vec("[a-g]|\"[a-g]\"", 1..12),
        separator in "[=: ]",
        extra in any::<char>(),
        at in any::<prop::sample::Index>(),
        json in any::<bool>(),
    ) {
        let open = |key: &String| if json { format!("\"{}\": {{", key.trim_matches('"')) } else { format!("{key} {separator} {{ ") };
        let nested = keys.iter().map(open).collect::<String>() + "\"a\"" + if json { ":" } else { "=" } + "[1, \"x\"]" + &"}".repeat(keys.len());
        let mut text = if json { format!("{{{nested}}}") } else { nested };
        check(&text);
        let at = at.index(text.len());
        text.insert(at, extra);
        check(&text);
    }

    #[test]
    fn a_quoted_string_is_itself_in_both_forms(string in any::<String>()) {
        for text in [format!("a = {}", quoted(&string)), format!("{{\"a\": {}}}", quoted(&string))] {
            let Document { items } = hcl1::parse(&text).unwrap();
            let expected = Literal::String(string.clone());
            prop_assert!(matches!(&items[0].value, Node::Literal(got, _) if *got == expected), "{:?}: {:?}", text, items);
        }
    }

    #[test]
    fn a_whole_number_is_itself(number in any::<i64>()) {
        let mut target = Target::default();
        hcl1::decode(&format!("c = {number}"), &mut target).unwrap();
        prop_assert_eq!(target.number, number);
    }
}
