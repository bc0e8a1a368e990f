//! Hostile components in place of good ones, offered through the files that the configuration names. Each is refused or
//! contained, with its own reason, and the components in use stay in use.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "in a test a panic is the verdict"
)]

#[path = "all/component/mod.rs"]
mod component;
#[path = "all/machine/mod.rs"]
mod machine;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use docker_attestor::attestor::Attestor;
use docker_attestor::components::history::FailedUpdate;
use docker_attestor::components::load::Step;
use docker_attestor::error::Error;
use docker_attestor::limits;
use docker_attestor::update::Reloaded;
use sandbox::inspect::digest;
use tokio::sync::RwLock;
use wasm_encoder::{
    Alias, CodeSection, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection,
    ComponentImportSection, ComponentInstanceSection, ComponentOuterAliasKind, ComponentSectionId, ComponentTypeRef,
    ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType, MemorySection,
    MemoryType, Module, ModuleSection, NestedComponentSection, RawSection, RefType, TableSection, TableType,
    TypeSection, ValType,
};

use self::component::{
    asking, data_at, emitting, extension, policy, policy_that_validates, returning, with_section, with_types,
};
use self::machine::{OURS, PID, PID_BELOW, attestor, configure, resident};

/// Tests that measure take the process for themselves with a write lock; all others share it.
static PROCESS: RwLock<()> = RwLock::const_new(());

/// The file of a configuration that is attacked.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Policy,
    Extension,
}

/// A machine that runs a good policy and a good extension from unpinned files.
struct Service {
    _folder: tempfile::TempDir,
    policy: PathBuf,
    extension: PathBuf,
    attestor: Arc<Attestor>,
}

const GOOD: [&str; 2] = ["own:good", "x:good"];

impl Service {
    async fn start() -> Service {
        let folder = tempfile::tempdir().unwrap();
        let (policy, extension) = (folder.path().join("policy.wasm"), folder.path().join("x.wasm"));
        std::fs::write(&policy, returning(OURS, &["own:good"])).unwrap();
        std::fs::write(&extension, emitting(&["good"])).unwrap();
        let plugin_data = format!(
            "policy {{ path = {policy:?} unpinned = true }}\nextension \"x\" {{ path = {extension:?} unpinned = true }}"
        );
        let attestor = attestor(&plugin_data).await;
        Service { attestor, _folder: folder, policy, extension }
    }

    /// Puts a component into a file, and makes the attestor check its files.
    async fn offer(&self, place: Place, component: &[u8]) -> Reloaded {
        std::fs::write(self.path(place), component).unwrap();
        self.attestor.reload().await
    }

    fn path(&self, place: Place) -> &Path {
        match place {
            Place::Policy => &self.policy,
            Place::Extension => &self.extension,
        }
    }

    fn last_failure(&self, place: Place) -> FailedUpdate {
        self.attestor.status().components[place as usize].last_failure.clone().unwrap()
    }

    /// Offers a hostile component. It must be refused at this step for this reason, and the good components must stay in
    /// use.
    async fn refuses(&self, place: Place, name: &str, component: &[u8], step: Step, reason: &str) {
        assert_eq!(self.attestor.attest(PID).await.unwrap(), GOOD, "before {name}");
        assert_eq!(self.offer(place, component).await, Reloaded { replaced: 0, failed: 1 }, "{name}");
        let failure = self.last_failure(place);
        assert!(
            failure.step == step && failure.reason.contains(reason),
            "{name}: {}: {}",
            failure.step,
            failure.reason
        );
        assert!(
            failure.reason.len() <= 2 * sandbox::limits::GUEST_TEXT,
            "{name}: a reason of {} bytes",
            failure.reason.len()
        );
        assert!(!failure.reason.contains(char::is_control), "{name}: {}", failure.reason);
        assert_eq!(self.attestor.attest(PID).await.unwrap(), GOOD, "after {name}");
    }
}

/// Makes a component that contains only a module.
fn of_module(module: &Module) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&ModuleSection(module));
    component.finish()
}

/// Makes a module with `count` functions with this body.
fn functions(count: usize, body: &[u8]) -> Module {
    let mut module = Module::new();
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], []);
    module.section(&types);
    let mut declared = FunctionSection::new();
    let mut code = CodeSection::new();
    for _ in 0..count {
        declared.function(0);
        let mut function = Function::new([]);
        function.raw(body.iter().copied().chain([0x0b]));
        code.function(&function);
    }
    module.section(&declared);
    let mut tables = TableSection::new();
    let element_type = RefType::FUNCREF;
    tables.table(TableType { element_type, minimum: 10, maximum: None, table64: false, shared: false });
    module.section(&tables);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    module.section(&memories);
    let mut globals = GlobalSection::new();
    globals.global(GlobalType { val_type: ValType::I32, mutable: true, shared: false }, &ConstExpr::i32_const(0));
    module.section(&globals);
    let mut exports = ExportSection::new();
    exports.export("first", ExportKind::Func, 0);
    module.section(&exports);
    module.section(&code);
    module
}

fn code(count: usize, body: &[u8]) -> Vec<u8> {
    of_module(&functions(count, body))
}

/// `local.get 0; i32.load; local.set 0`: each load depends on the one before.
const LOAD: [u8; 7] = [0x20, 0, 0x28, 2, 0, 0x21, 0];

/// Nests components within one another, this many levels deep.
fn nested(levels: usize) -> Vec<u8> {
    let mut component = Component::new();
    for _ in 1..levels {
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&component));
        component = outer;
    }
    component.finish()
}

/// Makes a policy in which each component instantiates the previous one twice. Instantiating all would make a billion
/// instances.
fn laughs(levels: u32) -> Vec<u8> {
    let mut component = Component::new();
    for level in 0..levels {
        let mut inner = Component::new();
        if level > 0 {
            let mut aliases = ComponentAliasSection::new();
            aliases.alias(Alias::Outer { kind: ComponentOuterAliasKind::Component, count: 1, index: level - 1 });
            inner.section(&aliases);
            let mut instances = ComponentInstanceSection::new();
            for _ in 0..2 {
                instances.instantiate::<[(&str, ComponentExportKind, u32); 0], &str>(0, []);
            }
            inner.section(&instances);
        }
        component.section(&NestedComponentSection(&inner));
    }
    let mut instances = ComponentInstanceSection::new();
    instances.instantiate::<[(&str, ComponentExportKind, u32); 0], &str>(levels - 1, []);
    component.section(&instances);
    with_attestor(component, 1)
}

/// Adds an empty attestor interface, which is the instance with this number.
fn with_attestor(mut component: Component, instance: u32) -> Vec<u8> {
    let mut instances = ComponentInstanceSection::new();
    instances.export_items([("nothing", ComponentExportKind::Component, 0)].into_iter().take(0));
    component.section(&instances);
    let mut exports = ComponentExportSection::new();
    exports.export("docker-attestor:policy/attestor@1.0.0", ComponentExportKind::Instance, instance, None);
    component.section(&exports);
    component.finish()
}

/// Makes a thousand types of which each names the previous one.
fn chain() -> Vec<u8> {
    // instance { alias of the previous type; export "a" of it }
    let mut types = [leb(1_000), vec![0x42, 0]].concat();
    for before in 0..999 {
        types.extend([0x42, 2, 2, 3, 2, 1].into_iter().chain(leb(before)).chain([4, 0, 1, b'a', 5, 0]));
    }
    let mut component = Component::new();
    component.section(&RawSection { id: ComponentSectionId::Type as u8, data: &types });
    with_attestor(component, 0)
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        match number {
            0 => return [bytes, vec![byte]].concat(),
            _ => bytes.push(byte | 0x80),
        }
    }
}

/// A hostile component: its name, its bytes, the step at which it is refused, and the reason.
type Hostile<'a> = (&'static str, Cow<'a, [u8]>, Step, &'static str);

/// Functions that misbehave in either world. `of` makes a component from its functions and the body of the function that is
/// called.
fn misbehaving(of: fn(&str, &str) -> Vec<u8>) -> [Hostile<'static>; 4] {
    let deeper = "(func $deeper (param i64) (result i64) (i64.add (call $deeper (local.get 0)) (i64.const 1)))";
    [
        ("spins", "", "(loop $again (br $again))", "more CPU than a call may"),
        (
            "takes all memory",
            "",
            "(loop $again (drop (memory.grow (i32.const 64))) (br $again))",
            "forcing trap when growing memory",
        ),
        ("traps", "", "", "unreachable"),
        ("goes too deep", deeper, "(drop (call $deeper (i64.const 1)))", "more stack than"),
    ]
    .map(|(name, functions, body, reason)| {
        (name, of(functions, &format!("{body} (unreachable)")).into(), Step::Trial, reason)
    })
}

/// Files that no component of either world may be.
fn malformed(good: &[u8]) -> Vec<Hostile<'_>> {
    let text = |text: &str| wat::parse_str(text).unwrap();
    let mut random = vec![0_u8; 50_000];
    let mut state = 88_172_645_463_325_252_u64;
    random.fill_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    });
    let mut imports = ComponentImportSection::new();
    for number in 0..100_000 {
        imports.import(format!("i{number}"), ComponentTypeRef::Instance(0));
    }
    let mut many_imports = Component::new();
    many_imports.section(&imports);
    let mut modules = Component::new();
    for _ in 0..65 {
        modules.section(&ModuleSection(&Module::new()));
    }
    let within = |bytes: &[u8]| bytes.repeat((sandbox::limits::COMPONENT_FUNCTION - 64) / bytes.len());
    vec![
        ("no bytes", Cow::Borrowed(&[][..]), Step::Inspect, "no WebAssembly component"),
        ("random bytes", random.into(), Step::Inspect, "no WebAssembly component"),
        ("the first half", good[..good.len() / 2].into(), Step::Inspect, "no WebAssembly component"),
        ("all but one byte", good[..good.len() - 1].into(), Step::Inspect, "no WebAssembly component"),
        ("the header", good[..8].into(), Step::Inspect, "exports neither"),
        ("something after the end", [good, b"?"].concat().into(), Step::Inspect, "no WebAssembly component"),
        (
            "a file of 4 MiB and a byte",
            vec![0; sandbox::limits::COMPONENT_FILE + 1].into(),
            Step::Read,
            "larger than 4194304",
        ),
        ("a core module", text("(module)").into(), Step::Inspect, "is a core module"),
        (
            "an import of WASI",
            text("(component (import \"wasi:cli/environment@0.2.0\" (instance)))").into(),
            Step::Inspect,
            "imports \"wasi:cli/environment@0.2.0\"",
        ),
        (
            "a huge name",
            text(&format!("(component (import \"wasi{}:a/b\" (instance)))", "i".repeat(90_000))).into(),
            Step::Inspect,
            "imports \"wasiiii",
        ),
        (
            "both worlds",
            text(
                "(component (instance $i) (export \"docker-attestor:policy/attestor@1.0.0\" (instance $i))
                    (export \"docker-attestor:policy/deriver@1.0.0\" (instance $i)))",
            )
            .into(),
            Step::Inspect,
            "exports both",
        ),
        ("a long version", with_section(good, "version", &[b'1'; 129]).into(), Step::Inspect, "129 bytes of version"),
        ("100,000 imports", many_imports.finish().into(), Step::Inspect, "257 imports"),
        ("65 modules", modules.finish().into(), Step::Inspect, "65 modules and components"),
        ("components nested deep", nested(6).into(), Step::Inspect, "5 levels of components"),
        ("components nested very deep", nested(2_000).into(), Step::Inspect, "5 levels of components"),
        ("20,001 functions", code(20_001, &[]).into(), Step::Inspect, "20001 functions"),
        ("code of more than 3 MiB", code(40, &[0x01; 80_000]).into(), Step::Inspect, "bytes of code"),
        ("a function of more than 128 KiB", code(1, &[0x01; 131_072]).into(), Step::Inspect, "bytes in one function"),
        ("more than 3 MiB of loads", code(25, &within(&LOAD)).into(), Step::Inspect, "bytes of code"),
    ]
}

/// The data of a result at 64. The result is a fault of the policy, whose text lies at an address.
fn fault(at: usize, length: usize) -> String {
    let number = |number: usize| number.to_le_bytes()[..4].to_vec();
    data_at(64, &[number(1), number(8), number(at), number(length)].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_policy_is_refused_for_its_reason_and_the_good_one_goes_on() {
    let _shared = PROCESS.read().await;
    let service = Service::start().await;
    let (attestor, done) = (Arc::clone(&service.attestor), Arc::new(AtomicBool::new(false)));
    let over = Arc::clone(&done);
    let caller = tokio::spawn(async move {
        let mut calls = 0;
        while !over.load(Ordering::Relaxed) {
            assert_eq!(attestor.attest(PID).await.unwrap(), GOOD);
            calls += 1;
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        calls
    });
    let good = returning(OURS, &["own:good"]);
    for (name, component, step, reason) in malformed(&good).into_iter().chain(misbehaving(policy)) {
        service.refuses(Place::Policy, name, &component, step, reason).await;
    }
    let long = "own:".to_owned() + &"x".repeat(20_000);
    let many: Vec<String> = (0..900).map(|number| format!("own:{number}")).collect();
    let million = "(local i32) (drop (memory.grow (i32.const 200)))
        (loop $next
            (i32.store (i32.add (i32.const 65540) (i32.mul (local.get 6) (i32.const 8))) (i32.const 65536))
            (local.set 6 (i32.add (local.get 6) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get 6) (i32.const 1000000))))
        (i32.store (i32.const 68) (i32.const 65536)) (i32.store (i32.const 72) (i32.const 1000000)) (i32.const 64)";
    let strings = |count: u32, length: u32| {
        // A list of equal strings, which all point to address 65536, where "ow:n" is followed by NULs.
        format!(
            "(local i32) (drop (memory.grow (i32.const 100))) (i32.store (i32.const 65536) (i32.const 0x6e3a776f))
            (loop $next
                (i32.store (i32.add (i32.const 1024) (i32.mul (local.get 6) (i32.const 8))) (i32.const 65536))
                (i32.store (i32.add (i32.const 1028) (i32.mul (local.get 6) (i32.const 8))) (i32.const {length}))
                (local.set 6 (i32.add (local.get 6) (i32.const 1)))
                (br_if $next (i32.lt_u (local.get 6) (i32.const {count}))))
            (i32.store (i32.const 68) (i32.const 1024)) (i32.store (i32.const 72) (i32.const {count})) (i32.const 64)"
        )
    };
    let ask = data_at(4096, OURS.as_bytes());
    let secret = format!("{ask} {} {}", data_at(8192, b"told: "), fault(8192, 5_000));
    let one_diagnostic = [[0_u32, 1_000_000, 5_000].map(u32::to_le_bytes).concat()].concat();
    for (name, component, step, reason) in [
        (
            "spins as it starts",
            policy("(func $spin (loop $again (br $again))) (start $spin)", "(i32.const 16)"),
            Step::Settings,
            "more CPU than a call may",
        ),
        (
            "spins over its settings",
            policy_that_validates("", "(loop $again (br $again)) (unreachable)", "(i32.const 16)"),
            Step::Settings,
            "more CPU than a call may",
        ),
        (
            "takes all of a table",
            policy(
                "(table $t 1 funcref)",
                "(loop $again (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $again)) (unreachable)",
            ),
            Step::Trial,
            "forcing trap when growing table",
        ),
        ("points outside its memory", policy("", "(i32.const -4)"), Step::Trial, "broke a limit or the contract"),
        ("returns a million selectors", policy("", million), Step::Trial, "broke a limit or the contract"),
        (
            "returns 4,097 selectors",
            policy("", &strings(4_097, 5)),
            Step::Trial,
            "returned 4097 selectors, more than 4096",
        ),
        ("returns the same one twice", policy("", &strings(2, 4)), Step::Trial, "selector 2 is a duplicate"),
        ("returns 65,537 bytes", policy("", &strings(1, 65_537)), Step::Trial, "selector 1 is too long"),
        ("returns 3 MiB", policy("", &strings(1, 3 << 20)), Step::Trial, "broke a limit or the contract"),
        ("returns no kind", returning("", &["own"]), Step::Trial, "not of the form KIND:VALUE"),
        ("returns an extension's name", returning(OURS, &["x:good"]), Step::Trial, "looks like an extension's name"),
        ("returns a false label", returning(OURS, &["label:name:ours"]), Step::Trial, "states no fact"),
        (
            "logs for ever",
            policy("", "(loop $again (call $log (i32.const 1) (i32.const 0) (i32.const 0)) (br $again)) (unreachable)"),
            Step::Trial,
            "called the host more than 1024 times",
        ),
        (
            "returns an error of 5,000 bytes",
            policy(&secret, &format!("{} (i32.const 64)", asking(OURS))),
            Step::Trial,
            "error text is longer than 4096",
        ),
        (
            "has much to say about its settings",
            policy_that_validates(
                &data_at(8192, &one_diagnostic),
                "(drop (memory.grow (i32.const 100))) (i32.store (i32.const 64) (i32.const 8192)) (i32.store (i32.const 68) (i32.const 1)) (i32.const 64)",
                "(i32.const 16)",
            ),
            Step::Settings,
            "more diagnostics, or longer ones, than it may",
        ),
        ("has types nested deep", with_types(&good, 500_000), Step::Compile, "MiB of stack"),
        ("is a billion laughs", laughs(31), Step::Compile, "it may take"),
        ("has types that name one another", chain(), Step::Compile, "the compiler panicked"),
        (
            "is an extension",
            emitting(&["good"]),
            Step::Inspect,
            "is of the world extension, and a component of the world policy is needed",
        ),
        (
            "exports nothing of its world",
            wat::parse_str(
                "(component (instance $i) (export \"docker-attestor:policy/attestor@1.0.0\" (instance $i)))",
            )
            .unwrap(),
            Step::Link,
            "validate",
        ),
        (
            "imports what only a later contract has",
            wat::parse_str(
                "(component (import \"docker-attestor:policy/clock@1.2.0\" (instance))
                    (instance $i) (export \"docker-attestor:policy/attestor@1.2.0\" (instance $i)))",
            )
            .unwrap(),
            Step::Inspect,
            "imports \"docker-attestor:policy/clock@1.2.0\", which version 1.1.0 of the contract does not have",
        ),
    ] {
        service.refuses(Place::Policy, name, &component, step, reason).await;
    }
    done.store(true, Ordering::Relaxed);
    assert!(caller.await.unwrap() > 100, "hardly a call meanwhile: nothing is tested");
    // A component within the limits is accepted.
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for selectors in [&[long.as_str()][..], &many] {
        let replaced = service.offer(Place::Policy, &returning(OURS, selectors)).await;
        assert_eq!(replaced, Reloaded { replaced: 1, failed: 0 });
        assert_eq!(service.attestor.attest(PID).await.unwrap(), [selectors, &["x:good"]].concat());
    }
}

#[tokio::test]
async fn a_hostile_extension_is_refused_for_its_reason_and_the_good_one_goes_on() {
    let _shared = PROCESS.read().await;
    let service = Service::start().await;
    let good = emitting(&["good"]);
    for (name, component, step, reason) in malformed(&good).into_iter().chain(misbehaving(extension)) {
        service.refuses(Place::Extension, name, &component, step, reason).await;
    }
    let many: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "x".repeat(1_025);
    let text = "(i32.store (i32.const 64) (i32.const 1)) (i32.store (i32.const 68) (i32.const 8192))
        (i32.store (i32.const 72) (i32.const 5000)) (i32.const 64)";
    for (name, component, step, reason) in [
        ("emits 65 selectors", emitting(&many), Step::Trial, "returned 65 selectors, more than 64"),
        ("emits 1,025 bytes", emitting(&[&long]), Step::Trial, "selector 1 has 1025 bytes: 1 to 1024 may be"),
        ("emits nothing but a name", emitting(&["a", ""]), Step::Trial, "selector 2 has 0 bytes"),
        ("emits a line break", emitting(&["a\nb"]), Step::Trial, "selector 1 has a control or format character"),
        ("emits an escape", emitting(&["\u{1b}[31m"]), Step::Trial, "selector 1 has a control or format character"),
        (
            "emits a zero-width space",
            emitting(&["a\u{200b}"]),
            Step::Trial,
            "selector 1 has a control or format character",
        ),
        ("emits the same one twice", emitting(&["a", "a"]), Step::Trial, "selector 2 is a duplicate"),
        ("returns an error of 5,000 bytes", extension("", text), Step::Trial, "error text is longer than 4096"),
        (
            "is a policy",
            returning("", &["own:a"]),
            Step::Inspect,
            "is of the world policy, and a component of the world extension is needed",
        ),
        (
            "wants what policies have",
            wat::parse_str(
                "(component (import \"docker-attestor:policy/docker@1.0.0\" (instance))
                    (instance $i) (export \"docker-attestor:policy/deriver@1.0.0\" (instance $i)))",
            )
            .unwrap(),
            Step::Inspect,
            "imports \"docker-attestor:policy/docker@1.0.0\", which version 1.1.0 of the contract does not have for the world extension",
        ),
    ] {
        service.refuses(Place::Extension, name, &component, step, reason).await;
    }
    // An extension cannot write another name, because the host adds the name.
    let replaced = service.offer(Place::Extension, &emitting(&["label:name:theirs", &long[1..], "y:a"])).await;
    assert_eq!(replaced, Reloaded { replaced: 1, failed: 0 });
    let x = |text: &str| format!("x:{text}");
    let selectors = ["own:good".to_owned(), x("label:name:theirs"), x(&long[1..]), x("y:a")];
    assert_eq!(service.attestor.attest(PID).await.unwrap(), selectors);
}

/// The length of the only cgroup's path, which is told at 1024.
const PATH: &str = "(call $cgroups (i32.const 1024)) (i32.load offset=20 (i32.load (i32.const 1028)))";

/// A policy that misbehaves for a workload whose cgroup path is as long as that of [`PID_BELOW`].
fn hostile_to_one(misbehave: &str) -> Vec<u8> {
    let length = "/docker/".len() + OURS.len() + "/below".len();
    let list = [[256, 1].map(u32::to_le_bytes).concat(), [8192_u32, 8].map(u32::to_le_bytes).concat()];
    let data = [data_at(68, &list[0]), data_at(256, &list[1]), data_at(8192, b"own:good")].concat();
    policy(&data, &format!("(if (i32.eq {PATH} (i32.const {length})) (then {misbehave})) (i32.const 64)"))
}

#[tokio::test]
async fn what_no_trial_shows_costs_its_own_call_only() {
    let _shared = PROCESS.read().await;
    let service = Service::start().await;
    configure(&service.attestor, &format!("policy {{ path = {:?} unpinned = true }}", service.policy)).await.unwrap();
    for (name, misbehave, reason) in [
        ("spins", "(loop $again (br $again))", "more CPU"),
        ("grows", "(loop $again (drop (memory.grow (i32.const 64))) (br $again))", "forcing trap when growing memory"),
        ("traps", "(unreachable)", "unreachable"),
    ] {
        let component = hostile_to_one(misbehave);
        assert_eq!(service.offer(Place::Policy, &component).await, Reloaded { replaced: 1, failed: 0 }, "{name}");
        for _ in 0..3 {
            let (bad, good) = tokio::join!(service.attestor.attest(PID_BELOW), service.attestor.attest(PID));
            let error = bad.unwrap_err();
            assert!(matches!(&error, Error::Policy { digest: named, .. } if *named == digest(&component)), "{error}");
            assert!(error.to_string().contains(reason), "{name}: {error}");
            assert_eq!(good.unwrap(), ["own:good"], "{name}");
        }
    }
}

/// A policy that works, and also has this many functions with this many statements.
fn slow(functions: usize, statement: &str, times: usize) -> Vec<u8> {
    let beside = format!("(func (param i32) {})", statement.repeat(times)).repeat(functions);
    policy(&format!("(table 10 funcref) (global $g (mut i32) (i32.const 0)) {beside}"), "(i32.const 16)")
}

const LOADS: &str = "local.get 0 i32.load local.set 0 ";
const GLOBALS: &str = "global.get $g i32.const 1 i32.add global.set $g ";
const TABLES: &str = "local.get 0 local.get 0 local.get 0 table.copy ";

/// The slowest components that pass the limits, by measurement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_is_compiled_in_time_and_delays_nobody() {
    let _alone = PROCESS.write().await;
    let service = Service::start().await;
    let components = [
        ("loads", slow(22, LOADS, 18_000)),
        ("globals", slow(12, GLOBALS, 16_000)),
        ("table.copy", slow(12, TABLES, 850)),
    ];
    let before = resident();
    for (name, component) in components {
        let attestor = Arc::clone(&service.attestor);
        let done = Arc::new(AtomicBool::new(false));
        let compiled = Arc::clone(&done);
        let meanwhile = tokio::spawn(async move {
            let mut times = Vec::new();
            while !compiled.load(Ordering::Relaxed) {
                let started = Instant::now();
                attestor.attest(PID).await.unwrap();
                times.push(started.elapsed());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            times.sort();
            times
        });
        let started = Instant::now();
        assert_eq!(service.offer(Place::Policy, &component).await, Reloaded { replaced: 1, failed: 0 }, "{name}");
        let took = started.elapsed();
        done.store(true, Ordering::Relaxed);
        let times = meanwhile.await.unwrap();
        let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
        println!(
            "{name}: {} KiB, took {took:.1?}, {} KiB more resident; {} calls meanwhile, median {median:.0?}, \
             slowest {slowest:.1?}",
            component.len() >> 10,
            resident().saturating_sub(before) >> 10,
            times.len()
        );
        assert!(took < sandbox::limits::COMPILATION, "{name}: {took:?}");
        assert!(times.len() > 50 && slowest < Duration::from_secs(1), "{name}: a call took {slowest:?} meanwhile");
    }
    assert_eq!(
        service.offer(Place::Policy, &returning(OURS, &["own:good"])).await,
        Reloaded { replaced: 1, failed: 0 }
    );
    let after = resident();
    let kept = limits::COMPILED_BYTES + (8 << 20);
    assert!(after < before + kept, "{} KiB resident before, {} KiB after", before >> 10, after >> 10);
}

#[tokio::test]
async fn memory_is_back_where_it_was_after_many_hostile_components() {
    let _alone = PROCESS.write().await;
    let service = Service::start().await;
    let hostile = [
        policy("", "(loop $again (br $again)) (unreachable)"),
        policy("", "(loop $again (drop (memory.grow (i32.const 64))) (br $again)) (unreachable)"),
        policy(&format!("(func (param i32) {})", LOADS.repeat(10_000)), "(unreachable)"),
        vec![0; 1 << 20],
        chain(),
    ];
    let mut after = Vec::new();
    for round in 0..40 {
        for component in &hostile {
            // Each round has a different component, so that no compiled one is cached.
            let component = with_section(component, "round", &[round]);
            assert_eq!(service.offer(Place::Policy, &component).await, Reloaded { replaced: 0, failed: 1 });
        }
        assert_eq!(service.attestor.attest(PID).await.unwrap(), GOOD);
        after.push(resident() >> 10);
    }
    println!("KiB resident after each round: {after:?}");
    // The caches have filled by now with some compiled components.
    assert!(after[39] < after[9] + (limits::COMPILED_BYTES >> 10), "{after:?}");
}

/// A write to the file between its check and its use changes nothing: the bytes that were checked are the bytes that run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_what_was_checked_however_the_file_changes() {
    let _shared = PROCESS.read().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.wasm");
    let components: Vec<Vec<u8>> = ["own:one", "own:two", "own:evil"].map(|own| returning("", &[own])).to_vec();
    std::fs::write(&path, &components[0]).unwrap();
    let (one, two) = (digest(&components[0]), digest(&components[1]));
    let attestor = attestor(&format!("policy {{ path = {path:?} sha256 = [{one:?}, {two:?}] }}")).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::Builder::new().spawn({
        let (stop, next) = (Arc::clone(&stop), folder.path().join("next"));
        move || {
            for (number, component) in components.iter().cycle().enumerate() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                match number % 2 {
                    0 => std::fs::write(&path, component).unwrap(),
                    _ => {
                        std::fs::write(&next, component).unwrap();
                        std::fs::rename(&next, &path).unwrap();
                    }
                }
            }
        }
    });
    let (mut seen, mut refused) = (BTreeSet::new(), 0);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        refused += attestor.reload().await.failed;
        let selectors = attestor.attest(PID).await.unwrap();
        let expected = if attestor.status().components[0].digest == one { "own:one" } else { "own:two" };
        assert_eq!(selectors, [expected]);
        seen.insert(expected);
    }
    stop.store(true, Ordering::Relaxed);
    writer.unwrap().join().unwrap();
    assert!(seen.len() == 2 && refused > 10, "{seen:?} ran, {refused} were refused: nothing is tested");
}
