//! A NUL byte, wherever it may stand. The answers are those of hashicorp/hcl v1.0.1-vault-7, whose scanner takes a NUL byte for
//! the end of the text: an error in HCL, and in the strings of JSON.

use hcl1::{Document, Error, Literal, Node, Position, Reason};

/// Holds that each text is an error for this reason, at this line and column.
fn refused(cases: &[(&str, (usize, usize), Reason)]) {
    for (text, (line, column), reason) in cases {
        let expected = Error { position: Position { line: *line, column: *column }, reason: reason.clone() };
        assert_eq!(hcl1::parse(text), Err(expected), "{text:?}");
    }
}

#[test]
fn in_a_string_it_is_an_error() {
    refused(&[
        ("a = \"x\0y\"", (1, 7), Reason::StringNotTerminated),
        ("a = \"x\0", (1, 7), Reason::StringNotTerminated),
        ("\"a\0\" = 1", (1, 3), Reason::StringNotTerminated),
        ("a = \"${\0}\"", (1, 8), Reason::StringNotTerminated),
        ("{\"a\": \"x\0y\"}", (1, 9), Reason::StringNotTerminated),
        ("{\"a\0\": \"x\"}", (1, 4), Reason::StringNotTerminated),
    ]);
}

#[test]
fn in_an_escape_it_is_an_error() {
    refused(&[
        ("a = \"\\\0\"", (1, 7), Reason::IllegalEscape),
        ("a = \"\\x0\0\"", (1, 9), Reason::IllegalEscape),
        ("a = \"\\u00\0\"", (1, 10), Reason::IllegalEscape),
        ("{\"a\": \"\\\0\"}", (1, 9), Reason::IllegalEscape),
    ]);
}

#[test]
fn in_a_heredoc_it_is_an_error() {
    refused(&[
        ("a = <<E\nx\0y\nE\n", (2, 2), Reason::HeredocNotTerminated),
        ("a = <<-E\n x\n \0E\n", (3, 2), Reason::HeredocNotTerminated),
        ("a = <<E\0\nx\nE\n", (1, 5), Reason::HeredocNotTerminated),
    ]);
}

#[test]
fn in_a_comment_it_is_an_error() {
    refused(&[
        ("# c\0 d\na = 1", (1, 4), Reason::IllegalCharacter('\0')),
        ("a = 1 // \0", (1, 10), Reason::IllegalCharacter('\0')),
        ("/* c\n\0 */ a = 1", (2, 1), Reason::IllegalCharacter('\0')),
    ]);
}

#[test]
fn between_tokens_it_is_an_error() {
    refused(&[
        ("\0", (1, 1), Reason::IllegalCharacter('\0')),
        ("a = \"x\" \0 b = true", (1, 9), Reason::IllegalCharacter('\0')),
        ("a = \0", (1, 5), Reason::IllegalCharacter('\0')),
        ("a\0 = 1", (1, 2), Reason::IllegalCharacter('\0')),
        ("a = 12\0", (1, 7), Reason::IllegalCharacter('\0')),
        ("a = 1e\0", (1, 7), Reason::IllegalCharacter('\0')),
        ("a = true\0", (1, 9), Reason::IllegalCharacter('\0')),
        ("a = [1 \0]", (1, 8), Reason::IllegalCharacter('\0')),
    ]);
}

/// The original takes it for the end of the text, and silently leaves out what follows. A configuration that was cut short is
/// no configuration: this one is an error here.
#[test]
fn between_tokens_of_json_it_is_an_error_unlike_the_original() {
    refused(&[
        ("{\0\"a\": \"x\"}", (1, 2), Reason::IllegalCharacter('\0')),
        ("{\"a\": \"x\"\0}", (1, 10), Reason::IllegalCharacter('\0')),
        ("{\"a\": 1e\0}", (1, 9), Reason::IllegalCharacter('\0')),
    ]);
}

#[test]
fn an_escape_may_stand_for_it() {
    for text in ["a = \"\\x00\"", "a = \"\\000\"", "a = \"\\u0000\"", "{\"a\": \"\\u0000\"}"] {
        let Document { items } = hcl1::parse(text).unwrap();
        let literal = Literal::String("\0".to_owned());
        assert!(matches!(&items[0].value, Node::Literal(got, _) if *got == literal), "{text:?}: {items:?}");
    }
}

/// The other character that Go's scanner of HCL refuses wherever it stands; its scanner of JSON does not.
#[test]
fn the_reserved_code_point_is_an_error_in_hcl_only() {
    refused(&[
        ("a = \"\u{e123}\"", (1, 6), Reason::IllegalCharacter('\u{e123}')),
        ("# \u{e123}", (1, 3), Reason::IllegalCharacter('\u{e123}')),
        ("a = <<E\n\u{e123}\nE\n", (2, 1), Reason::IllegalCharacter('\u{e123}')),
        ("a\u{e123} = 1", (1, 2), Reason::IllegalCharacter('\u{e123}')),
    ]);
    assert!(hcl1::parse("{\"a\": \"\u{e123}\"}").is_ok());
    assert!(hcl1::parse("a = \"\\ue123\"").is_ok());
}
