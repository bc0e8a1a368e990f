//! A NUL byte, wherever it may stand. The answers are those of hashicorp/hcl v1.0.1-vault-7, whose scanner takes a NUL byte for
//! the end of the text: an error in HCL, and in the strings of JSON.

/// Holds that each text is an error at this line and column, for a reason that contains these words.
fn refused(cases: &[(&str, (usize, usize), &str)]) {
    for (text, (line, column), words) in cases {
        let rejected = hcl1::parse(text).unwrap_err();
        assert_eq!((rejected.position.line, rejected.position.column), (*line, *column), "{text:?}: {rejected}");
        assert!(rejected.to_string().contains(words), "{text:?}: {rejected}");
    }
}

#[test]
fn in_a_string_it_is_an_error() {
    refused(&[
        ("a = \"x\0y\"", (1, 7), "literal not terminated"),
        ("a = \"x\0", (1, 7), "literal not terminated"),
        ("\"a\0\" = 1", (1, 3), "literal not terminated"),
        ("a = \"${\0}\"", (1, 8), "literal not terminated"),
        ("{\"a\": \"x\0y\"}", (1, 9), "literal not terminated"),
        ("{\"a\0\": \"x\"}", (1, 4), "literal not terminated"),
    ]);
}

#[test]
fn in_an_escape_it_is_an_error() {
    refused(&[
        ("a = \"\\\0\"", (1, 7), "illegal char escape"),
        ("a = \"\\x0\0\"", (1, 9), "illegal char escape"),
        ("a = \"\\u00\0\"", (1, 10), "illegal char escape"),
        ("{\"a\": \"\\\0\"}", (1, 9), "illegal char escape"),
    ]);
}

#[test]
fn in_a_heredoc_it_is_an_error() {
    refused(&[
        ("a = <<E\nx\0y\nE\n", (2, 2), "heredoc not terminated"),
        ("a = <<-E\n x\n \0E\n", (3, 2), "heredoc not terminated"),
        ("a = <<E\0\nx\nE\n", (1, 5), "heredoc not terminated"),
    ]);
}

#[test]
fn in_a_comment_it_is_an_error() {
    refused(&[
        ("# c\0 d\na = 1", (1, 4), "NUL"),
        ("a = 1 // \0", (1, 10), "NUL"),
        ("/* c\n\0 */ a = 1", (2, 1), "NUL"),
    ]);
}

#[test]
fn between_tokens_it_is_an_error() {
    refused(&[
        ("\0", (1, 1), "'\\0'"),
        ("a = \"x\" \0 b = true", (1, 9), "'\\0'"),
        ("a = \0", (1, 5), "'\\0'"),
        ("a\0 = 1", (1, 2), "'\\0'"),
        ("a = 12\0", (1, 7), "'\\0'"),
        ("a = 1e\0", (1, 7), "'\\0'"),
        ("a = true\0", (1, 9), "'\\0'"),
        ("a = [1 \0]", (1, 8), "'\\0'"),
    ]);
}

/// The original takes it for the end of the text, and silently leaves out what follows. A configuration that was cut short is
/// no configuration: this one is an error here.
#[test]
fn between_tokens_of_json_it_is_an_error_unlike_the_original() {
    refused(&[
        ("{\0\"a\": \"x\"}", (1, 2), "'\\0'"),
        ("{\"a\": \"x\"\0}", (1, 10), "'\\0'"),
        ("{\"a\": 1e\0}", (1, 9), "'\\0'"),
    ]);
}

#[test]
fn an_escape_may_stand_for_it() {
    for text in ["a = \"\\x00\"", "a = \"\\000\"", "a = \"\\u0000\"", "{\"a\": \"\\u0000\"}"] {
        let items = hcl1::parse(text).unwrap();
        let literal = hcl1::Literal::String("\0".to_owned());
        assert!(matches!(&items[0].value, hcl1::Node::Literal(got, _) if *got == literal), "{text:?}: {items:?}");
    }
}

/// The other character that Go's scanner of HCL refuses wherever it stands; its scanner of JSON does not.
#[test]
fn the_reserved_code_point_is_an_error_in_hcl_only() {
    refused(&[
        ("a = \"\u{e123}\"", (1, 6), "U+E123"),
        ("# \u{e123}", (1, 3), "U+E123"),
        ("a = <<E\n\u{e123}\nE\n", (2, 1), "U+E123"),
        ("a\u{e123} = 1", (1, 2), "U+E123"),
    ]);
    assert!(hcl1::parse("{\"a\": \"\u{e123}\"}").is_ok());
    assert!(hcl1::parse("a = \"\\ue123\"").is_ok());
}
