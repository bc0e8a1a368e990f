//! What is decoded into which type, and what is warned of.

use std::collections::BTreeMap;

use hcl1::{Decode, Error, Position, Reason, Value, Warnings, decode_object};

/// A target with one field `a`.
#[derive(Debug, Default, PartialEq)]
struct Field<T>(T);

impl<T: Decode> Decode for Field<T> {
    fn decode(&mut self, path: &str, value: &Value<'_>, warnings: &mut Warnings) -> Result<(), Error> {
        decode_object(path, value, &mut [("a", &mut self.0)], warnings)
    }
}

fn decoded<T: Decode + Default>(text: &str) -> Result<T, Error> {
    let mut field = Field(T::default());
    hcl1::decode(text, &mut field).map(|_| field.0)
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
fn unknown_keys_are_named_once_by_path() {
    let mut target = Field(Field(0_i64));
    let text = "b = 1\n\"b\" = 2\na { A = 1\n c = 1 }\n{\n";
    assert!(hcl1::decode(text, &mut target).is_err());
    let warnings = hcl1::decode(text.trim_end_matches("{\n"), &mut target).unwrap();
    let unknown: Vec<_> = warnings.unknown().map(|key| (key.path, key.position.line)).collect();
    assert_eq!(unknown, [("a.c", 4), ("b", 1)]);
}

#[test]
fn repeated_keys_are_named_with_what_counts() {
    let said =
        |warnings: &Warnings| -> Vec<String> { warnings.repeated().map(|key| format!("{} {key}", key.path)).collect() };
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
        fn decode(&mut self, path: &str, value: &Value<'_>, _: &mut Warnings) -> Result<(), Error> {
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
