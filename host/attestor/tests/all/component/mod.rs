//! Makes components for tests from the bodies of their functions as WebAssembly text, with the canonical ABI written by
//! hand.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]
#![allow(dead_code, reason = "every test file takes what it needs")]

use std::fmt::Write as _;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The memory and its allocator, which never frees, because a call is short. The first 32 KiB are for the tests' own data.
const MEMORY: &str = "
    (memory (export \"memory\") 1)
    (global $top (mut i32) (i32.const 32768))
    (func $allocate (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
        (global.set $top (i32.add (local.get $at) (local.get 3)))
        (local.get $at))";

/// The address of an `ok` with an empty list, or of an empty list. Nothing is ever written there.
pub(crate) const NOTHING: &str = "(i32.const 16)";

/// Makes a component of `world` from a core module.
pub(crate) fn encode(text: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit")).unwrap();
    encode_in(text, &resolve, world)
}

/// Makes a component of a world in the test's own contract.
pub(crate) fn encode_in(text: &str, resolve: &Resolve, world: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).unwrap();
    let packages: Vec<_> = resolve.packages.iter().map(|(package, _)| package).collect();
    let world = resolve.select_world(&packages, Some(world)).unwrap();
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// Makes a policy from the body of its `attest`, which returns the address of a `result<list<string>, fault>`.
pub(crate) fn policy(functions: &str, attest: &str) -> Vec<u8> {
    policy_that_validates(functions, NOTHING, attest)
}

/// Makes a policy that also has this body of `validate`, which returns the address of a `list<diagnostic>`. Both functions
/// have the settings as parameters: 4 and 5 are the address and length of their `extra`.
pub(crate) fn policy_that_validates(functions: &str, validate: &str, attest: &str) -> Vec<u8> {
    encode(&policy_text("1.1.0", functions, validate, attest), "policy")
}

/// The text of a policy's core module for a version of the contract.
pub(crate) fn policy_text(version: &str, functions: &str, validate: &str, attest: &str) -> String {
    format!(
        r#"(module
            (import "docker-attestor:policy/process@{version}" "cgroups" (func $cgroups (param i32)))
            (import "docker-attestor:policy/docker@{version}" "container" (func $container (param i32 i32 i32 i32 i32)))
            (import "docker-attestor:policy/log@{version}" "write" (func $log (param i32 i32 i32)))
            {MEMORY}
            {functions}
            (func (export "docker-attestor:policy/attestor@{version}#validate")
                (param i32 i32 i32 i32 i32 i32) (result i32) {validate})
            (func (export "docker-attestor:policy/attestor@{version}#attest")
                (param i32 i32 i32 i32 i32 i32) (result i32) {attest}))"#
    )
}

/// Makes an extension from the body of its `derive`, which has the address of its arguments and returns the address of a
/// `result<list<string>, string>`. `$emit` adds an address and a length to the list, and `$done` returns the list.
pub(crate) fn extension(functions: &str, derive: &str) -> Vec<u8> {
    encode(&extension_text("1.1.0", functions, derive), "extension")
}

/// Makes an extension that checks its settings. The body of its `validate` has the address and the number of the settings, and
/// returns the address of a `result<list<string>, list<string>>`.
pub(crate) fn validating_extension(functions: &str, validate: &str, derive: &str) -> Vec<u8> {
    let functions = format!(
        r#"{functions} (func (export "docker-attestor:policy/settings-validator@1.1.0#validate")
            (param i32 i32) (result i32) {validate})"#
    );
    encode(&extension_text("1.1.0", &functions, derive), "validating-extension")
}

/// The text of an extension's core module for a version of the contract.
pub(crate) fn extension_text(version: &str, functions: &str, derive: &str) -> String {
    format!(
        r#"(module
            (import "docker-attestor:policy/log@{version}" "write" (func $log (param i32 i32 i32)))
            {MEMORY}
            (global $count (mut i32) (i32.const 0))
            (func $emit (param i32 i32)
                (i32.store (i32.add (i32.const 1024) (i32.mul (global.get $count) (i32.const 8))) (local.get 0))
                (i32.store (i32.add (i32.const 1028) (i32.mul (global.get $count) (i32.const 8))) (local.get 1))
                (global.set $count (i32.add (global.get $count) (i32.const 1))))
            (func $done (result i32)
                (i32.store (i32.const 68) (i32.const 1024))
                (i32.store (i32.const 72) (global.get $count))
                (i32.const 64))
            {functions}
            (func (export "docker-attestor:policy/deriver@{version}#derive") (param i32) (result i32) {derive}))"#
    )
}

/// A policy that claims a container (unless `claim` is empty) and returns these selectors whatever the answer is.
pub(crate) fn returning(claim: &str, selectors: &[&str]) -> Vec<u8> {
    // Addresses: 64 the result; 4096 the claim, with its answer at 4224; 8192 the list, then its texts.
    let (mut texts, mut list) = (Vec::new(), Vec::new());
    for selector in selectors {
        list.extend((8192 + 8 * selectors.len() + texts.len()).to_le_bytes()[..4].iter());
        list.extend(selector.len().to_le_bytes()[..4].iter());
        texts.extend_from_slice(selector.as_bytes());
    }
    assert!(list.len() + texts.len() < 24_000, "too much for a test's policy");
    let result = [0, 8192, u32::try_from(selectors.len()).unwrap()].map(u32::to_le_bytes).concat();
    let data = [(64, &result), (4096, &claim.as_bytes().to_vec()), (8192, &[list, texts].concat())];
    policy(&data.map(|(at, bytes)| data_at(at, bytes)).concat(), &format!("{} (i32.const 64)", asking(claim)))
}

/// An extension that emits these selectors.
pub(crate) fn emitting(selectors: &[&str]) -> Vec<u8> {
    let (mut data, mut emit, mut at) = (String::new(), String::new(), 8192);
    for selector in selectors {
        data += &data_at(at, selector.as_bytes());
        write!(emit, "(call $emit (i32.const {at}) (i32.const {}))", selector.len()).unwrap();
        at += selector.len();
    }
    assert!(at < 32_000, "too much for a test's extension");
    extension(&data, &format!("{emit} (call $done)"))
}

/// The call that claims the container whose id lies at 4096.
pub(crate) fn asking(claim: &str) -> String {
    asking_at(4096, claim)
}

/// The call that claims the container whose id lies at this address.
pub(crate) fn asking_at(at: usize, claim: &str) -> String {
    match claim.len() {
        0 => String::new(),
        length => format!(
            "(call $container (i32.const 0) (i32.const 0) (i32.const {at}) (i32.const {length}) (i32.const {}))",
            at + 128
        ),
    }
}

/// Data that lies in memory from the beginning.
pub(crate) fn data_at(at: usize, bytes: &[u8]) -> String {
    let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    format!("(data (i32.const {at}) \"{escaped}\")")
}

/// Adds a custom section to a component, for example with its version.
pub(crate) fn with_section(component: &[u8], name: &str, content: &[u8]) -> Vec<u8> {
    use wasm_encoder::{ComponentSection as _, CustomSection};
    let mut component = component.to_vec();
    CustomSection { name: name.into(), data: content.into() }.append_to_component(&mut component);
    component
}

/// Adds nested types to a component, this many levels deep.
pub(crate) fn with_types(component: &[u8], levels: usize) -> Vec<u8> {
    use wasm_encoder::{ComponentSection as _, ComponentSectionId, RawSection};
    let data = [&[1][..], &[0x42, 1, 1].repeat(levels - 1), &[0x42, 0]].concat();
    let mut component = component.to_vec();
    RawSection { id: ComponentSectionId::Type as u8, data: &data }.append_to_component(&mut component);
    component
}
