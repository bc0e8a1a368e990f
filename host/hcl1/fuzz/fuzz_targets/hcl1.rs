//! Fuzzes the parser, the decoder and the scanner with any text. None may panic, whatever the text.

#![no_main]

use std::collections::BTreeMap;

use hcl1::{Decode, Error, Value, Findings, decode_object};
use libfuzzer_sys::fuzz_target;

#[derive(Default)]
struct Any {
    text: String,
    bool: Option<bool>,
    list: Vec<String>,
    map: BTreeMap<String, Vec<String>>,
    nested: BTreeMap<String, Option<Box<Any>>>,
}

impl Decode for Any {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        let fields: &mut [(&str, &mut dyn Decode)] = &mut [
            ("a", &mut self.text),
            ("b", &mut self.bool),
            ("c", &mut self.list),
            ("d", &mut self.map),
            ("sigstore", &mut self.nested),
        ];
        decode_object(path, value, fields, findings)
    }
}

fuzz_target!(|text: &str| {
    let _ = hcl1::decode(text, &mut Any::default());
    let _ = hcl1::tokens(text);
});
