//! The Compose project and service of a container: `compose:project:shop`, `compose:service:web`. Grant: `labels`.
//!
//! These are labels, so they are as good as whoever may start containers on the machine.

use exports::docker_attestor::policy::deriver::{Guest, Workload};

wit_bindgen::generate!({ world: "extension", path: "../../../wit" });

const KINDS: [&str; 2] = ["project", "service"];

struct Compose;

impl Guest for Compose {
    fn derive(workload: Workload, _: Vec<(String, String)>) -> Result<Vec<String>, String> {
        let labels = workload.labels.ok_or("it needs grants = [\"labels\"]")?;
        let value = |kind| {
            let (_, value) = labels.iter().find(|(key, _)| key.strip_prefix("com.docker.compose.") == Some(kind))?;
            is_name(value).then(|| format!("{kind}:{value}"))
        };
        Ok(KINDS.into_iter().filter_map(value).collect())
    }
}

/// What Compose lets a project or a service be called: with another value, somebody else wrote the label.
fn is_name(value: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=128).contains(&value.len()) && value.bytes().all(fits)
}

#[cfg(target_arch = "wasm32")]
export!(Compose);
