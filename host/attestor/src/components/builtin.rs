//! The policy inside this program, which the build script compiled ahead of time.

use sandbox::SetupError;
use semver::Version;

use crate::attestation::{Policy, Sandbox};

/// The compiled policy.
static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/policy.cwasm"));
/// The digest of the built-in policy's component, `sha256:…`.
pub const DIGEST: &str = env!("BUILTIN_POLICY_DIGEST");

/// Loads and links the built-in policy.
///
/// # Errors
/// The program was put together of parts of different builds.
#[expect(unsafe_code, reason = "the image is a part of this program")]
pub fn policy(sandbox: &Sandbox) -> Result<Policy, SetupError> {
    // SAFETY: `build.rs` made the image with `sandbox::compiler::precompile`, and it is a part of this program.
    let compiled = unsafe { sandbox.load(IMAGE) }?;
    let version = Version::parse(env!("CARGO_PKG_VERSION")).ok();
    Ok(Policy::new(sandbox.policy(&compiled)?, DIGEST.to_owned(), version))
}

#[cfg(test)]
mod tests {
    use sandbox::Compilation;
    use sandbox::limits::FUEL;
    use sandbox::wit::{Capabilities, Settings};

    use super::*;
    use crate::limits;

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
        let sandbox = Sandbox::new(Compilation::in_this_process()).unwrap();
        let policy = policy(&sandbox).unwrap();
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
            let (diagnostics, used) = sandbox.measure_validation(&policy.code, &settings).await.unwrap();
            assert_eq!(diagnostics.is_empty(), name != "ambiguous", "{number} of {name}");
            println!("{number} patterns of {name}: {used} units of fuel");
            assert!(used < FUEL / 4, "{number} patterns of {name} took {used} units of fuel");
        }
    }
}
