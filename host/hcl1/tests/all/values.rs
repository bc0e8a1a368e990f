//! What is decoded into which type, and what is warned of.

use std::collections::BTreeMap;

use hcl1::bounds::ERRORS;
use hcl1::{Decode, Error, Findings, Found, Position, Reason, Token, Value, decode_object};

/// A target with one field `a`.
#[derive(Debug, Default, PartialEq)]
struct Field<T>(T);

impl<T: Decode> Decode for Field<T> {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        decode_object(path, value, &mut [("a", &mut self.0)], findings)
    }
}

fn decoded<T: Decode + Default>(text: &str) -> Result<T, Error> {
    let mut field = Field(T::default());
    hcl1::decode(text, &mut field).map(|_| field.0).map_err(|errors| errors.iter().next().unwrap().clone())
}

fn map<T>(entries: impl IntoIterator<Item = (&'static str, T)>) -> BTreeMap<String, T> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[test]
fn strings_take_whole_numbers_as_they_are_written() {
    for (text, value) in [("a = \"x\"", "x"), ("a = 010", "010"), ("a = <<E\nx\nE\n", "x\n"), ("{\"a\": null}", "")] {
        assert_eq!(decoded::<String>(text).unwrap(), value, "{text:?}");
    }
    for text in ["a = true", "a = 1.5", "a = []", "a {}"] {
        assert!(decoded::<String>(text).is_err(), "{text}");
    }
}

/// As Go's `strconv.ParseInt` with base 0 reads them.
#[test]
fn whole_numbers_have_four_bases_and_may_stand_in_quotes() {
    for (text, number) in [
        ("10", 10),
        ("-1", -1),
        ("010", 8),
        ("-010", -8),
        ("0x1F", 31),
        ("-0x1f", -31),
        ("0", 0),
        ("\"0o17\"", 15),
        ("\"0b11\"", 3),
        ("\"1_000\"", 1_000),
        ("\"0x_1\"", 1),
        ("\"0_7\"", 7),
        ("\"+5\"", 5),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ] {
        assert_eq!(decoded::<i64>(&format!("a = {text}")), Ok(number), "{text}");
    }
    for text in [
        "\"\"",
        "\"7 \"",
        "\"_1\"",
        "\"1_\"",
        "\"1__0\"",
        "\"0x\"",
        "\"0_\"",
        "\"+\"",
        "\"é\"",
        "1.0",
        "-08",
        "true",
        "9223372036854775808",
        "\"--1\"",
    ] {
        assert!(decoded::<i64>(&format!("a = {text}")).is_err(), "{text}");
    }
}

#[test]
fn decimal_numbers_take_whole_ones_but_no_strings() {
    for (text, number) in [("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("-0.5e+3", -500.0), ("2", 2.0), ("010", 10.0)] {
        assert_eq!(decoded::<f64>(&format!("a = {text}")), Ok(number), "{text}");
    }
    for text in ["\"1\"", "0x10", "1e", "1e999", "true"] {
        assert!(decoded::<f64>(&format!("a = {text}")).is_err(), "{text}");
    }
}

#[test]
fn repeated_scalars_are_replaced_and_everything_else_is_joined() {
    assert_eq!(decoded::<String>("a = 1\nA = 2"), Ok("2".to_owned()));
    assert_eq!(decoded::<Vec<i64>>("a = [1]\na = [2, 3]"), Ok(vec![1, 2, 3]));
    assert_eq!(decoded("a { x = 1 }\na { y = 2, x = 3 }"), Ok(map([("x", 3_i64), ("y", 2)])));
    let joined = map([("x", map([("i", 1_i64), ("j", 2)])), ("y", map([("k", 3)]))]);
    for text in [
        "a \"x\" { i = 1 }\na \"x\" { j = 2 }\na \"y\" { k = 3 }",
        "a { x { i = 1 } }\na \"x\" { j = 2 }\na { \"y\" { k = 3 } }",
        "{\"a\": {\"x\": [{\"i\": 1}, {\"j\": 2}], \"y\": {\"k\": 3}}}",
    ] {
        assert_eq!(decoded(text).as_ref(), Ok(&joined), "{text}");
    }
    assert_eq!(decoded::<Option<bool>>("b = 1"), Ok(None));
    assert_eq!(decoded::<Option<Box<bool>>>("a = false"), Ok(Some(Box::new(false))));
}

#[test]
fn an_empty_object_is_an_empty_list_in_a_field_only() {
    assert_eq!(decoded::<Vec<String>>("a {}"), Ok(vec![]));
    assert!(decoded::<BTreeMap<String, Vec<String>>>("a \"x\" {}").is_err());
    assert!(decoded::<Vec<Vec<String>>>("a = [{}]").is_err());
}

#[test]
fn a_mismatch_names_path_and_position() {
    let error = decoded::<BTreeMap<String, Vec<bool>>>("a = {\n x = [true]\n x = [false, 1] }").unwrap_err();
    assert_eq!(error.position, Position { line: 3, column: 14 });
    assert!(matches!(&error.reason, Reason::Mismatch { path, .. } if path == "a.x[2]"), "{error}");
    assert_eq!(error.to_string(), "line 3, column 14: a.x[2]: expected true or false, without quotes");
    let error = hcl1::decode("", &mut String::new()).unwrap_err();
    assert_eq!(error.to_string(), "line 1, column 1: expected a string");
}

#[test]
fn every_value_of_a_wrong_type_is_an_error() {
    let mut target = Field(BTreeMap::<String, Field<Vec<bool>>>::new());
    let text = "a \"x\" { a = [1, true, 2] }\na \"y\" { a = 1 }\na \"z\" { a = false }\na \"good\" { a = [true] }";
    let errors = hcl1::decode(text, &mut target).unwrap_err();
    let expected = "expected true or false, without quotes";
    assert_eq!(
        errors.to_string(),
        format!(
            "line 1, column 14: a.x.a[0]: {expected}; line 1, column 23: a.x.a[2]: {expected}; \
             line 2, column 13: a.y.a: expected a list [ … ]; line 3, column 13: a.z.a: expected a list [ … ]"
        )
    );
    assert_eq!(target.0["good"].0, [true]);
}

#[test]
fn errors_are_counted_beyond_their_bound() {
    let text = format!("a = [{}]", "1, ".repeat(ERRORS + 7));
    let errors = hcl1::decode(&text, &mut Field(Vec::<bool>::new())).unwrap_err();
    assert_eq!(errors.iter().count(), ERRORS);
    assert!(errors.to_string().ends_with("; and 7 more"));
}

#[test]
fn a_path_has_the_position_of_what_is_written_there() {
    let text = "a = 1\nb \"x\" {\n c = [1, 2]\n c = [3]\n \"D.e\" { f = 1 } }\nb \"y\" {}\na = 2";
    let document = hcl1::parse(text).unwrap();
    for (path, line, column) in [
        (&["a"] as &[&str], 7, 5),
        (&["b", "x"], 2, 3),
        (&["b", "x", "c"], 4, 6),
        (&["b", "x", "c", "1"], 3, 10),
        (&["b", "x", "c", "2"], 4, 7),
        (&["b", "x", "c", "3"], 4, 6),
        (&["b", "x", "d.E", "f"], 5, 14),
        (&["b", "x", "missing"], 2, 3),
        (&["b", "y", "missing", "too"], 6, 3),
        (&["a", "b"], 7, 5),
    ] {
        assert_eq!(document.position_of(path), Some(Position { line, column }), "{path:?}");
    }
    assert_eq!(document.position_of(&["c"]), None);
}

#[test]
fn tokens_stand_between_their_positions() {
    let shown = |text: &str| -> Vec<String> {
        let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        let of =
            |token: &Token| lines[token.start.line - 1][token.start.column - 1..token.end.column - 1].iter().collect();
        hcl1::tokens(text).iter().map(of).collect()
    };
    assert_eq!(
        shown("a-b \"x y\" { # z\n c = -1.5, d = [true] }"),
        ["a-b", "\"x y\"", "{", "c", "=", "-1.5", ",", "d", "=", "[", "true", "]", "}"]
    );
    assert_eq!(shown("{\"a\": [null, 7]}"), ["{", "\"a\"", ":", "[", "null", ",", "7", "]", "}"]);
    // A text that cannot be parsed has tokens up to the character that belongs to none.
    assert_eq!(shown("= a [ \"b\nc = 1"), ["=", "a", "["]);
    let heredoc = hcl1::tokens("a = <<E\nx\nE\n");
    assert_eq!((heredoc[2].kind, heredoc[2].end), (Found::Heredoc, Position { line: 4, column: 1 }));
}

#[test]
fn unknown_keys_are_named_once_by_path() {
    let mut target = Field(Field(0_i64));
    let text = "b = 1\n\"b\" = 2\na { A = 1\n c = 1 }\n{\n";
    assert!(hcl1::decode(text, &mut target).is_err());
    let findings = hcl1::decode(text.trim_end_matches("{\n"), &mut target).unwrap();
    let unknown: Vec<_> = findings.unknown().map(|key| (key.path, key.position.line)).collect();
    assert_eq!(unknown, [("a.c", 4), ("b", 1)]);
    assert!(findings.unknown().all(|key| key.names == ["a"]));
}

#[test]
fn repeated_keys_are_named_with_what_counts() {
    let said =
        |findings: &Findings| -> Vec<String> { findings.repeated().map(|key| format!("{} {key}", key.path)).collect() };
    let once = hcl1::decode("a { x = 1 }\na { y = 1 }", &mut Field(BTreeMap::<String, i64>::new())).unwrap();
    assert_eq!(said(&once), Vec::<String>::new());
    let twice = hcl1::decode("a { x = 1 }\na { x = 1 }", &mut Field(BTreeMap::<String, i64>::new())).unwrap();
    assert_eq!(said(&twice), ["a.x is written twice (line 1 and line 2): the last one counts"]);
    let lists = hcl1::decode("{\"a\": [],\n\"a\": [],\n\"a\": []}", &mut Field(Vec::<i64>::new())).unwrap();
    assert_eq!(said(&lists), ["a is written 3 times (first in line 1, last in line 3): the lists are joined"]);
    assert!(lists.repeated().all(|key| key.joined && key.times == 3));
}

#[test]
fn an_object_can_be_kept_for_later() {
    #[derive(Default)]
    struct Kept(hcl1::Document);
    impl Decode for Kept {
        fn decode(&mut self, path: &str, value: &Value<'_>, _: &mut Findings) -> Result<(), Error> {
            self.0 = value.to_document().ok_or_else(|| value.mismatch(path, "an object"))?;
            Ok(())
        }
    }
    let mut kept = Field(Kept::default());
    hcl1::decode("a \"b\" {\n a = 7 }", &mut kept).unwrap();
    let mut inner = BTreeMap::<String, Field<i64>>::new();
    kept.0.0.decode(&mut inner).unwrap();
    assert_eq!(inner, map([("b", Field(7))]));
    assert!(hcl1::decode("a = 1", &mut kept).is_err());
}
