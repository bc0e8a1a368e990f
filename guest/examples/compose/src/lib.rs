//! Derives the Compose project and service of a container: `compose:project:shop`, `compose:service:web`. Grant: `labels`.
//!
//! Both come from labels, and anyone who may start containers on the machine can choose labels.

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

/// Whether Compose allows a project or a service of this name. A label with another value was not written by Compose.
fn is_name(value: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=128).contains(&value.len()) && value.bytes().all(fits)
}

#[cfg(target_arch = "wasm32")]
export!(Compose);
