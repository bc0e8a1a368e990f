//! What is decoded into which type, and what is warned of.

use hcl1::{Decode, Error, Value, Warnings, decode_object};

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
