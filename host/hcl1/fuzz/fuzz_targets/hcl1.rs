//! Any text: the parser and the decoder answer, and what they accept they accept within their bounds.

#![no_main]

use std::collections::BTreeMap;

use hcl1::{Decode, Findings, Rejected, Value};
use libfuzzer_sys::fuzz_target;

#[derive(Default)]
struct Any {
    text: String,
    bool: Option<bool>,
    list: Vec<String>,
    map: BTreeMap<String, Vec<String>>,
    nested: BTreeMap<String, Option<Box<Any>>>,
}

impl Decode for Box<Any> {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Rejected> {
        let Any { text, bool, list, map, nested } = &mut **self;
        let fields: &mut [(&str, &mut dyn Decode)] =
            &mut [("a", text), ("b", bool), ("c", list), ("d", map), ("sigstore", nested)];
        hcl1::object(path, value, fields, findings)
    }
}

fuzz_target!(|text: &str| {
    if let Ok(items) = hcl1::parse(text) {
        let mut any = Box::new(Any::default());
        let _ = any.decode("", &Value::of_text(&items), &mut Findings::default());
    }
});
