//! Runs every recorded machine of fixtures/scenarios through the real sandbox and the built-in policy.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use containers::Clause;
use docker_attestor::scenario::{Expect, Scenario};

use crate::machine::runtime;

#[tokio::test]
async fn every_recorded_machine_comes_to_what_it_says() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/scenarios"));
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let runtime = runtime();
    let (mut passed, mut failed) = (0, 0);
    let mut clauses = BTreeSet::new();
    for path in paths {
        let scenario = Scenario::read(&path).unwrap();
        if let Expect::NotProven(clause) = scenario.expect {
            clauses.insert(clause);
        }
        match scenario.expect.judge(&scenario.run(&runtime).await) {
            Ok(()) => passed += 1,
            Err(difference) => {
                failed += 1;
                println!("{}: {difference}", path.display());
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    assert!(failed == 0 && passed > 0);
    // Clause b concerns the engine's connection, and is tested with real connections.
    assert_eq!(
        clauses,
        BTreeSet::from([Clause::Id, Clause::Init, Clause::Membership, Clause::NothingBetween, Clause::PidNamespace])
    );
}
