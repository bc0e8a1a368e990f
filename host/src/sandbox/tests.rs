//! What the largest settings cost the built-in policy.

use super::*;
use crate::sandbox::bindings::docker_attestor::policy::types::Capabilities;

/// Patterns of 8,192 bytes in all: as many as `number`, each of its own last component after as many of `unit` as fit.
fn patterns(number: usize, unit: &str) -> Vec<String> {
    let length = limits::MATCHERS_TOTAL / number;
    let pattern = |index| {
        let end = format!("/<id>/{index:03}");
        unit.repeat((length - end.len()) / unit.len()) + &end
    };
    (0..number).map(pattern).collect()
}

/// Every attestation checks the patterns again, so the check leaves three quarters of a call's CPU to the rest of it.
#[tokio::test]
async fn the_most_matchers_take_a_quarter_of_a_calls_cpu_at_most() {
    let sandbox = Sandbox::new().unwrap();
    let policy = sandbox.builtin().unwrap();
    let long = format!("/{}", "a".repeat(19));
    let mut sets = vec![("ambiguous", vec!["/*/<id>/a".to_owned(); limits::MATCHERS])];
    for number in [2, 16, 64, limits::MATCHERS] {
        // Nothing but empty components; tokens in every component; long and short texts, alike in every pattern.
        sets.extend(["/", "/*", "/a", "/*/a", "/abcdefg", &long].map(|unit| (unit, patterns(number, unit))));
    }
    for (name, matchers) in sets {
        let number = matchers.len();
        let settings = Settings {
            capabilities: Capabilities::PROCESS | Capabilities::DOCKER,
            use_new_container_locator: false,
            container_id_cgroup_matchers: matchers,
            extra: Vec::new(),
        };
        let Instance { mut store, bindings } = sandbox.instance(&policy, None).await.unwrap();
        let judged = run(bindings.docker_attestor_policy_attestor().call_validate(&mut store, &settings)).await;
        assert_eq!(judged.unwrap().is_empty(), name != "ambiguous", "{number} of {name}");
        let used = limits::FUEL - store.get_fuel().unwrap();
        println!("{number} patterns of {name}: {used} units of fuel");
        assert!(used < limits::FUEL / 4, "{number} patterns of {name} took {used} units of fuel");
    }
}
