//! Each bound, from both sides, and what the bounds are for: time and memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hcl1::bounds::{DEPTH, ITEMS, PATH, TEXT};
use hcl1::{Position, Reason};

fn reason(text: &str) -> Option<Reason> {
    hcl1::parse(text).err().map(|error| error.reason)
}

#[test]
fn a_text_has_so_many_bytes() {
    let text = format!("{}\n", "# é\n".repeat(TEXT / 5));
    assert_eq!(text.get(..TEXT).and_then(reason), None);
    let error = hcl1::parse(&(text + "#####")).unwrap_err();
    assert_eq!(error.reason, Reason::TextTooLarge);
    assert_eq!(error.position, Position { line: TEXT / 5 + 2, column: 1 });
}

#[test]
fn nesting_has_so_many_levels() {
    for (open, middle, close) in
        [("a {", "", "}"), ("a = {", "", "}"), ("{\"a\": ", "{}", "}"), ("{\"a\": [", "{}", "]}")]
    {
        let nested = |levels: usize| open.repeat(levels) + middle + &close.repeat(levels);
        let most = (0..).find(|levels| reason(&nested(levels + 1)).is_some()).unwrap();
        assert!((DEPTH / 2 - 1..=DEPTH).contains(&most), "{open}: {most}");
        assert_eq!(reason(&nested(most + 1)), Some(Reason::NestedTooDeep), "{open}");
        assert_eq!(reason(&nested(50_000)), Some(Reason::NestedTooDeep), "{open}");
    }
    let lists = |levels: usize| format!("a = {}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!((reason(&lists(DEPTH)), reason(&lists(DEPTH + 1))), (None, Some(Reason::NestedTooDeep)));
}

#[test]
fn a_text_has_so_many_items() {
    for (before, item, after, others) in [
        ("", "a=1 ", "", 0),
        ("", "a{}", "", 0),
        ("a = [", "1,", "]", 1),
        ("a = [", "{},", "]", 1),
        ("a = {", "b{}", "}", 1),
        ("{", "\"a\":1,", "}", 0),
        ("{\"a\": [", "1 ", "]}", 1),
        // What is flattened is counted again.
        ("{\"a\": {", "\"b\":{},", "}}", 1),
    ] {
        let text = |count: usize| format!("{before}{}{after}", item.repeat(count));
        assert_eq!(reason(&text(ITEMS - others)), None, "{item}");
        assert_eq!(reason(&text(ITEMS + 1)), Some(Reason::TooManyItems), "{item}");
    }
    // A bound that is exceeded behind a closing brace ended the objects around it, without an error.
    for list in ["{},".repeat(ITEMS), "{} ".repeat(ITEMS + 1), "{\"b\": 1}\n".repeat(ITEMS + 1)] {
        assert_eq!(reason(&format!("{{\"a\": [{list}]}}")), Some(Reason::TooManyItems));
    }
}

#[test]
fn a_warning_has_so_many_bytes_of_a_path() {
    let key = "é".repeat(PATH);
    let mut map = BTreeMap::<String, i64>::new();
    let findings = hcl1::decode(&format!("{key} = 1\n{key} = 2"), &mut map).unwrap();
    assert_eq!((map[&key], findings.repeated().count()), (2, 0));

    struct Nothing;
    impl hcl1::Decode for Nothing {
        fn decode(
            &mut self,
            path: &str,
            value: &hcl1::Value<'_>,
            findings: &mut hcl1::Findings,
        ) -> Result<(), hcl1::Error> {
            hcl1::decode_object(path, value, &mut [], findings)
        }
    }
    let findings = hcl1::decode(&format!("{key} = 1\n{key}x = 2"), &mut Nothing).unwrap();
    assert_eq!(findings.unknown().map(|key| key.path.len()).collect::<Vec<_>>(), [PATH]);
}

/// The worst texts that were found. Each took seconds or gigabytes, or would have, when names were copied for each item and
/// items were looked through for each key.
#[test]
fn the_worst_texts_take_a_moment() {
    let long = "k".repeat(TEXT / 2);
    let numbered = |item: fn(usize) -> String| (0..ITEMS - 2).map(item).collect::<String>();
    let texts = [
        format!("{{\"{long}\": {{{}}}}}", numbered(|number| format!("\"{number}\":{{}},")).trim_end_matches(',')),
        format!("{{\"{long}\": [{}]}}", numbered(|_| "{},".to_owned())),
        format!("{long} {{{}}}", numbered(|number| format!("k{number} {{}}\n"))),
        numbered(|number| format!("k{number} \"x\" {{}}\n")),
        format!("a {{{}}}", numbered(|number| format!("k{number} x y {{}}\n"))),
        "a = [".repeat(DEPTH - 1),
        format!("{}\"{}\"", "a = ", "\\x41".repeat(TEXT / 4 - 10)),
        format!("a = <<E\n{}E\n", " E x\n".repeat(TEXT / 5 - 10)),
        format!("a = \"{}\"", "${".repeat(TEXT / 2 - 10)),
        "/**/".repeat(TEXT / 4),
        "a ".repeat(TEXT / 2),
    ];
    for text in texts {
        let started = Instant::now();
        let mut map = BTreeMap::<String, BTreeMap<String, BTreeMap<String, String>>>::new();
        let outcome = hcl1::decode(&text, &mut map);
        let (taken, start) = (started.elapsed(), text.get(..40));
        println!("{taken:?} {start:?} {}", outcome.is_ok());
        assert!(taken < Duration::from_secs(5), "{taken:?} {start:?}");
    }
}
