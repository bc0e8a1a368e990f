//! The grammar of both forms: what is parsed, and what is rejected for which reason. The cases are answers of hashicorp/hcl
//! v1.0.1-vault-7, unless a test says otherwise.

use hcl1::{Document, Error, Expected, Found, Item, Literal, Node, Position, Reason};

/// A document in one line: `a.b = …` for each item.
fn shown(document: &Document) -> String {
    items(&document.items)
}

fn items(items: &[Item]) -> String {
    let item = |item: &Item| {
        let keys: Vec<&str> = item.keys.iter().map(|key| &*key.name).collect();
        format!("{}={}", keys.join("."), node(&item.value))
    };
    items.iter().map(item).collect::<Vec<_>>().join(" ")
}

fn node(value: &Node) -> String {
    match value {
        Node::Literal(Literal::String(text), _) => format!("{text:?}"),
        Node::Literal(Literal::Number(text) | Literal::Float(text), _) => text.clone(),
        Node::Literal(Literal::Bool(bool), _) => bool.to_string(),
        Node::List(nodes, _) => format!("[{}]", nodes.iter().map(node).collect::<Vec<_>>().join(" ")),
        Node::Object(nested, _) => format!("{{{}}}", items(nested)),
    }
}

fn parses(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let document = hcl1::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(shown(&document), *expected, "{text:?}");
    }
}

fn rejects(text: &str, line: usize, column: usize, reason: Reason) {
    let error = Error { position: Position { line, column }, reason };
    assert_eq!(hcl1::parse(text), Err(error), "{text:?}");
}

fn unexpected(text: &str, column: usize, expected: Expected, found: Found) {
    rejects(text, 1, column, Reason::Unexpected { expected, found });
}

#[test]
fn items_are_separated_by_nothing_at_all() {
    parses(&[
        ("", ""),
        ("a = 1 b = 2", "a=1 b=2"),
        ("a = 1, b = 2", "a=1 b=2"),
        ("a=\"x\"b=true", "a=\"x\" b=true"),
        ("a {} b \"c\" d {}", "a={} b.c.d={}"),
        ("\"a\" = { b = 1, c = 2 }", "a={b=1 c=2}"),
        ("x-y.z = 1", "x-y.z=1"),
        ("a = 1\r\nb = 2\r\n", "a=1 b=2"),
        ("# c\n// c\n/* c\n c */ a = 1 # c", "a=1"),
    ]);
}

#[test]
fn a_key_without_a_value_ends_the_text() {
    parses(&[("a = 1\nb = ", "a=1")]);
    unexpected("a { b = }", 9, Expected::Value, Found::Sign('}'));
    unexpected("a b", 4, Expected::KeyOrObject, Found::End);
}

#[test]
fn lists_may_begin_and_end_with_commas() {
    parses(&[
        ("a = [1, \"x\", true, 1.5]", "a=[1 \"x\" true 1.5]"),
        ("a = [,1,,2,]", "a=[1 2]"),
        ("a = [[1] [2]]", "a=[[1] [2]]"),
        ("a = [{b = 1}, {b = 2}]", "a=[{b=1} {b=2}]"),
        ("a = [<<E\nx\nE\n, 2]", "a=[\"x\\n\" 2]"),
    ]);
    unexpected("a = [1 2]", 8, Expected::CommaOrClosingBracket, Found::Number);
    unexpected("a = [b]", 6, Expected::Value, Found::Identifier);
}

#[test]
fn escapes_are_characters_or_bytes() {
    parses(&[
        (r#"a = "\a\b\f\n\r\t\v\\\"""#, r#"a="\u{7}\u{8}\u{c}\n\r\t\u{b}\\\"""#),
        (r#"a = "\101\x41\u00e9\U0001f600""#, "a=\"AAé😀\""),
        (r#"a = "\xc3\xa9""#, "a=\"é\""),
        (r#"a = "\ud83d""#, "a=\"\u{fffd}\""),
    ]);
    for text in [r#"a = "\q""#, r#"a = "\8""#, r#"a = "\x4""#, r#"a = "\u00""#, r#"a = "\'""#] {
        let reason = hcl1::parse(text).unwrap_err().reason;
        assert_eq!(reason, Reason::IllegalEscape, "{text}");
    }
    // On these the original panics.
    rejects(r#"a = "\400""#, 1, 10, Reason::OctalEscapeTooLarge);
    rejects(r#"a = "\U00110000""#, 1, 16, Reason::EscapeNoCharacter);
    rejects(r#"{"a": "\ud83d"}"#, 1, 14, Reason::EscapeNoCharacter);
}

#[test]
fn interpolations_hold_quotes_and_newlines_and_no_escapes() {
    parses(&[
        (r#"a = "x ${f("y")} z""#, r#"a="x ${f(\"y\")} z""#),
        ("a = \"${\n}\"", "a=\"${\\n}\""),
        (r#"a = "${"\n"}""#, r#"a="${\"\\n\"}""#),
        (r#"a = "$x $$ {""#, "a=\"$x $$ {\""),
    ]);
    rejects("a = \"x\n\"", 1, 7, Reason::StringNotTerminated);
    rejects("a = \"${\"", 1, 9, Reason::StringNotTerminated);
}

#[test]
fn heredocs_end_with_their_mark() {
    parses(&[
        ("a = <<E\nx\n y\nE\nb = 1", "a=\"x\\n y\\n\" b=1"),
        ("a = <<-E\n  x\n   y\n  E\n", "a=\"x\\n y\\n\""),
        ("a = <<-E\n  x\ny\n  E\n", "a=\"  x\\ny\\n\""),
        ("a = <<E\nE\n", "a=\"\""),
        // Unlike the original: the agent reprints a text without its last newline.
        ("a = <<E\nx\nE", "a=\"x\\n\""),
    ]);
    rejects("a = <<E\nx\n", 1, 5, Reason::HeredocNotTerminated);
    rejects("a = <<E", 1, 5, Reason::HeredocNotTerminated);
    rejects("a = <<E x\nE\n", 1, 5, Reason::HeredocMark);
    rejects("a = <<\nE\n", 1, 5, Reason::HeredocWithoutMark);
    rejects("a = <E\n", 1, 5, Reason::HeredocIncomplete);
}

#[test]
fn numbers_stay_as_they_are_written() {
    parses(&[
        ("a = [-1, 0x1F, 010, 1., 1.5e-3]", "a=[-1 0x1F 010 1. 1.5e-3]"),
        ("a = 1e", "a=1e"),
        ("a = 1e}b = 1", "a=1e} b=1"),
    ]);
    rejects("a = 0x", 1, 5, Reason::HexadecimalNumber);
    rejects("a = 0798", 1, 5, Reason::OctalNumber);
    unexpected("a = -x", 5, Expected::Value, Found::Sign('-'));
}

#[test]
fn a_malformed_text_is_rejected_where_it_is_malformed() {
    unexpected("= 1", 1, Expected::Key, Found::Sign('='));
    unexpected("a 1", 3, Expected::KeyOrValue, Found::Number);
    unexpected("a b = 1", 5, Expected::KeyOrObject, Found::Sign('='));
    unexpected("a { b = 1", 10, Expected::ClosingBrace, Found::End);
    rejects("a = 1\n  ;", 2, 3, Reason::IllegalCharacter(';'));
    rejects("\u{feff}a = 1", 1, 1, Reason::IllegalCharacter('\u{feff}'));
    rejects("/* x", 1, 1, Reason::CommentNotTerminated);
    rejects("é = /x", 1, 5, Reason::CommentIncomplete);
}

#[test]
fn nested_objects_of_json_become_keys() {
    parses(&[
        ("{\"a\": {\"b\": {\"c\": 1}}}", "a.b={c=1}"),
        ("{\"a\": [{\"b\": 1}, {\"b\": 2}]}", "a={b=1} a={b=2}"),
        ("{\"a\": {\"b\": 1, \"c\": {}}}", "a={b=1 c={}}"),
        (" \n{\"a\": null, \"b\": [1, true, [2]]}", "a=\"\" b=[1 2]"),
        ("{\"a\": \"${x}\\n\"}", "a=\"${x}\\n\""),
    ]);
}

/// The original's parser of JSON forgives much; the answers to what is malformed are its own.
#[test]
fn malformed_json_is_parsed_as_far_as_the_original_parses_it() {
    parses(&[
        ("{\"a\": 1", "a=1"),
        ("{\"a\": 1,}", "a=1"),
        ("{\"a\": 1} x", "a=1"),
        ("{\"a\": }", ""),
        ("{\"a\": [1}", ""),
        ("{\"a\" \"b\": {\"c\": 1}}", "a.b={c=1}"),
    ]);
    unexpected("{\"a\": 1, 2}", 10, Expected::QuotedKey, Found::Number);
    unexpected("{\"a\", 1}", 5, Expected::Colon, Found::Sign(','));
    unexpected("{\"a\": :}", 7, Expected::Value, Found::Sign(':'));
    unexpected("{\"a\": [:]}", 8, Expected::ElementOrClosingBracket, Found::Sign(':'));
    rejects("{\"a\": 01}", 1, 7, Reason::LeadingZero);
    rejects("{\"a\": 0", 1, 7, Reason::LeadingZero);
    rejects("{\"a\": nul}", 1, 7, Reason::UnknownWord);
    rejects("{\"a\": \"x\n\"}", 1, 9, Reason::StringNotTerminated);
}

#[test]
fn keys_and_values_have_positions_in_both_forms() {
    for (text, key, value) in [("\n  é.a = 1", (2, 3), (2, 9)), ("{\n \"a\":\n  1}", (2, 2), (3, 3))] {
        let Document { items } = hcl1::parse(text).unwrap();
        let at = |position: Position| (position.line, position.column);
        assert_eq!((at(items[0].keys[0].position), at(items[0].value.position())), (key, value), "{text:?}");
    }
}
