//! Derives the team of a workload: `my-extension:TEAM`, from the label that the setting
//! `label` names.

use std::panic::{PanicHookInfo, set_hook};

use docker_attestor::policy::log;
use exports::docker_attestor::policy::deriver::{self, Workload};
use exports::docker_attestor::policy::settings_validator;

// The contract, whose parts are documented in wit/policy.wit.
wit_bindgen::generate!({ world: "validating-extension" });

struct Extension;

/// Checks what `needs.json` cannot say about the settings: their values.
impl settings_validator::Guest for Extension {
    fn validate(settings: Vec<(String, String)>) -> Result<Vec<String>, Vec<String>> {
        set_hook(Box::new(log_panic));
        match settings.iter().any(|(key, value)| key == "label" && value.is_empty()) {
            true => Err(vec!["label is empty: write the name of a label".to_owned()]),
            false => Ok(Vec::new()),
        }
    }
}

impl deriver::Guest for Extension {
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
