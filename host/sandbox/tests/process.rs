//! The compiler's process, which is this program once more.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the verdict")]
#![expect(clippy::print_stdout, reason = "the program says what it tested")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::wit::{Cgroup, CgroupMount, Engine, ProvenContainer, Verdict};
use sandbox::{Compilation, ImportResult, Imports, Sandbox, Values, compiler};

/// The imports of a policy that is never run.
struct NeverAsked;

impl Values for NeverAsked {
    fn values(&self) -> Vec<&str> {
        Vec::new()
    }
}

impl Imports for NeverAsked {
    type Question = ();
    type Claimant = ();

    fn cgroups(&mut self) -> ImportResult<Vec<Cgroup>, ()> {
        panic!("asked")
    }

    fn cgroup_mounts(&mut self) -> ImportResult<Vec<CgroupMount>, ()> {
        panic!("asked")
    }

    fn job_object_names(&mut self) -> ImportResult<Vec<String>, ()> {
        panic!("asked")
    }

    fn container(&mut self, _: Engine, _: String) -> ImportResult<Option<ProvenContainer>, ()> {
        panic!("asked")
    }

    fn verify(&mut self) -> ImportResult<Verdict, ()> {
        panic!("asked")
    }

    fn answered(&self) -> usize {
        0
    }

    fn claimant(&mut self) {}
}

fn main() -> ExitCode {
    if let Some(code) = compiler::run(std::env::args_os()) {
        return code;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let sandbox = Sandbox::<NeverAsked>::new(Compilation::in_own_process()).unwrap();
        a_component_is_compiled_by_a_process_of_this_program(&sandbox).await;
        a_component_that_is_refused_is_refused_for_ever_with_the_compilers_reason(&sandbox).await;
        a_compilation_that_is_given_up_leaves_the_next_one_its_turn(&sandbox).await;
    });
    ExitCode::SUCCESS
}

async fn a_component_is_compiled_by_a_process_of_this_program(sandbox: &Sandbox<NeverAsked>) {
    let started = Instant::now();
    sandbox.compile(wat::parse_str("(component (core module (func)))").unwrap().into()).await.map(drop).unwrap();
    println!("compiled in {:?}", started.elapsed());
}

async fn a_component_that_is_refused_is_refused_for_ever_with_the_compilers_reason(sandbox: &Sandbox<NeverAsked>) {
    for bytes in [b"not a component".as_slice(), b"", b"\0asm\x01\0\0\0"] {
        let refused = sandbox.compile(bytes.into()).await.map(drop).unwrap_err();
        assert!(!refused.retryable && !refused.reason.is_empty(), "{refused:?}");
        println!("refused: {refused}");
    }
}

async fn a_compilation_that_is_given_up_leaves_the_next_one_its_turn(sandbox: &Sandbox<NeverAsked>) {
    let reads: String = (0..5_000).map(|number| format!("(drop (local.get {number}))")).collect();
    let module = format!(
        "(component (core module (func (local {}) {} {reads} {})))",
        "i64 ".repeat(5_000),
        "loop ".repeat(5_000),
        "end ".repeat(5_000)
    );
    let slow: Arc<[u8]> = wat::parse_str(module).unwrap().into();
    let given_up = tokio::time::timeout(Duration::from_millis(500), sandbox.compile(slow)).await;
    assert!(given_up.is_err(), "it is slow to compile");
    a_component_is_compiled_by_a_process_of_this_program(sandbox).await;
}
