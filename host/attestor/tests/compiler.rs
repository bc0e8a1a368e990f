//! The compiler is a process of its own, with bounds that the kernel enforces.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "all/component/mod.rs"]
mod component;
#[path = "all/machine/mod.rs"]
mod machine;

use std::sync::Arc;
use std::time::{Duration, Instant};

use docker_attestor::attestation::Sandbox;

use self::component::with_types;
use self::machine::{compilation, resident};

/// Makes a component of one function, with this many locals that are read within this many nested loops. The component is
/// small, but slow to compile.
fn slow(locals: usize, loops: usize) -> Arc<[u8]> {
    let reads: String = (0..locals).map(|number| format!("(drop (local.get {number}))")).collect();
    let module = format!(
        "(core module (func (local {}) {} {reads} {}))",
        "i64 ".repeat(locals),
        "loop ".repeat(loops),
        "end ".repeat(loops)
    );
    wat::parse_str(format!("(component {module})")).unwrap().into()
}

#[tokio::test]
async fn a_component_that_would_keep_the_compiler_busy_is_given_up_by_a_process_of_its_own() {
    let sandbox = Sandbox::new(compilation()).unwrap();
    sandbox.compile(slow(10, 10)).await.unwrap();
    let before = resident();
    for (what, locals, loops) in [("memory", 20_000, 10_000), ("time", 5_000, 5_000)] {
        let component = slow(locals, loops);
        assert!(component.len() < 128 << 10, "{what}: within every limit of size");
        let started = Instant::now();
        let error = sandbox.compile(component).await.err().unwrap();
        assert!(error.reason.contains("for one component it may take") && !error.retryable, "{what}: {error}");
        assert!(started.elapsed() < Duration::from_secs(200), "{what}: {:?}", started.elapsed());
    }
    assert!(resident() < before + (256 << 20), "what it took was another process's");
    sandbox.compile(slow(10, 10)).await.unwrap();
}

/// Types nested so deeply that parsing them overflows the stack.
#[tokio::test]
async fn what_is_too_deep_ends_the_process_of_its_own_only() {
    let sandbox = Sandbox::new(compilation()).unwrap();
    let mut given_up = 0;
    for levels in (500..8_000).step_by(750) {
        let component = with_types(b"\0asm\x0d\0\x01\0", levels);
        given_up += usize::from(sandbox.compile(component.into()).await.is_err());
    }
    assert!((2..10).contains(&given_up), "{given_up} were given up: nothing is tested");
}
