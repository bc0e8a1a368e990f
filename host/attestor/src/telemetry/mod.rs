//! The telemetry of the running plugin: its log and its metrics.

pub mod metrics;

/// The crates whose events are logged, this program's first. A crate of this workspace that logs must be listed here,
/// or its events are dropped.
pub const LOGGED: &[&str] = &["docker_attestor", "containers", "image_signatures", "sandbox", "spire_plugin"];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_events_of_every_library_beside_this_crate_are_logged() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        for entry in [here, here.parent().unwrap()].iter().flat_map(|folder| fs::read_dir(folder).unwrap()) {
            let Ok(manifest) = fs::read_to_string(entry.unwrap().path().join("Cargo.toml")) else { continue };
            // Only a crate that depends on tracing logs.
            if manifest.lines().any(|line| line.starts_with("tracing")) {
                let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).unwrap();
                let name = name.trim_matches('"').replace('-', "_");
                assert!(LOGGED.contains(&name.as_str()), "{name} logs, and is not in LOGGED");
            }
        }
        assert_eq!(LOGGED.first(), Some(&env!("CARGO_CRATE_NAME")));
    }
}
