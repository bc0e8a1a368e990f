//! Derives the team of a workload: `my-extension:TEAM`, from the label that the setting
//! `label` names.

use std::panic::{PanicHookInfo, set_hook};

use docker_attestor::policy::log;
use exports::docker_attestor::policy::deriver::{Guest, Workload};

// The contract, whose parts are documented in wit/policy.wit.
wit_bindgen::generate!({ world: "extension" });

struct Extension;

impl Guest for Extension {
    fn derive(workload: Workload, settings: Vec<(String, String)>) -> Result<Vec<String>, String> {
        set_hook(Box::new(log_panic));
        let labels = workload.labels.ok_or("it needs grants = [\"labels\"]")?;
        let label = settings.into_iter().find(|(key, _)| key == "label");
        let (_, label) = label.ok_or("it needs settings = { label = \"…\" }")?;
        match labels.into_iter().find(|(key, _)| *key == label) {
            Some((_, team)) if is_team(&team) => Ok(vec![team]),
            _ => Ok(Vec::new()),
        }
    }
}

/// Whether a value may be a team's name. Anyone who starts a container can choose its labels.
fn is_team(value: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    (1..=64).contains(&value.len()) && value.bytes().all(fits)
}

/// Logs the message of a panic, because the trap that follows the panic carries no message.
fn log_panic(panic: &PanicHookInfo<'_>) {
    log::write(log::Level::Error, &panic.to_string());
}

#[cfg(target_arch = "wasm32")]
export!(Extension);
