//! The HCL1 parser and decoder against recorded answers of hashicorp/hcl: every case of the folder that `ATTESTOR_HCL1_ORACLE`
//! names. `decoded-by-go.txt` has a line a case: its name, OK and the decoded value as JSON, or REJECT and the error.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hcl1::{Decode, Error, Findings, Value, decode_object};
use serde_json::{Value as Json, json};

/// The struct that the recorded answers were decoded into.
#[derive(Default)]
struct Recorded {
    path: String,
    matchers: Option<Vec<String>>,
    verbose: bool,
    use_new: Option<bool>,
    version: String,
    sigstore: Option<Sigstore>,
}

impl Decode for Recorded {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        decode_object(
            path,
            value,
            &mut [
                ("docker_socket_path", &mut self.path),
                ("container_id_cgroup_matchers", &mut self.matchers),
                ("verbose_container_locator_logs", &mut self.verbose),
                ("use_new_container_locator", &mut self.use_new),
                ("docker_version", &mut self.version),
                ("sigstore", &mut self.sigstore),
            ],
            findings,
        )
    }
}

#[derive(Default)]
struct Sigstore {
    allowed_identities: Option<BTreeMap<String, Vec<String>>>,
    skipped_images: Option<Vec<String>>,
    rekor_url: Option<String>,
    ignore_tlog: Option<bool>,
    registry_credentials: Option<BTreeMap<String, Credentials>>,
}

impl Decode for Sigstore {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        decode_object(
            path,
            value,
            &mut [
                ("allowed_identities", &mut self.allowed_identities),
                ("skipped_images", &mut self.skipped_images),
                ("rekor_url", &mut self.rekor_url),
                ("ignore_tlog", &mut self.ignore_tlog),
                ("registry_credentials", &mut self.registry_credentials),
            ],
            findings,
        )
    }
}

#[derive(Default)]
struct Credentials {
    username: String,
    password: String,
}

impl Decode for Credentials {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        decode_object(path, value, &mut [("username", &mut self.username), ("password", &mut self.password)], findings)
    }
}

impl Recorded {
    fn json(&self) -> Json {
        let credentials =
            |credentials: &Credentials| json!({"Username": credentials.username, "Password": credentials.password});
        json!({
            "Path": self.path,
            "M": self.matchers,
            "V": self.verbose,
            "U": self.use_new,
            "Ver": self.version,
            "Sigstore": self.sigstore.as_ref().map(|sigstore| json!({
                "AllowedIdentities": sigstore.allowed_identities,
                "SkippedImages": sigstore.skipped_images,
                "RekorURL": sigstore.rekor_url,
                "IgnoreTlog": sigstore.ignore_tlog,
                "RegistryCredentials": sigstore.registry_credentials.as_ref().map(|map| {
                    map.iter().map(|(key, value)| (key.clone(), credentials(value))).collect::<BTreeMap<_, _>>()
                }),
            })),
        })
    }
}

#[test]
fn decoding_agrees_with_the_recorded_answers() {
    let folder = std::env::var_os("ATTESTOR_HCL1_ORACLE").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/hcl1-oracle")),
        PathBuf::from,
    );
    let Ok(answers) = std::fs::read_to_string(folder.join("decoded-by-go.txt")) else {
        println!("skipped: no recorded HCL1 answers here (set ATTESTOR_HCL1_ORACLE)");
        return;
    };
    let (mut passed, mut failed) = (0, 0);
    for line in answers.lines().filter(|line| !line.trim().is_empty()) {
        let (name, answer) = line.split_once(char::is_whitespace).unwrap();
        let text = std::fs::read(folder.join("cases").join(name)).unwrap();
        match judge(&text, answer.trim_start()) {
            Ok(()) => passed += 1,
            Err(difference) => {
                failed += 1;
                println!("{name}: {difference}");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    assert!(failed == 0 && passed > 0);
}

fn judge(text: &[u8], answer: &str) -> Result<(), String> {
    let mut recorded = Recorded::default();
    let outcome = match std::str::from_utf8(text) {
        Ok(text) => hcl1::decode(text, &mut recorded).map_err(|error| error.to_string()),
        Err(_) => Err("not UTF-8".to_owned()),
    };
    match (outcome, answer.strip_prefix("OK")) {
        (Err(_), None) => Ok(()),
        (Ok(_), Some(expected)) => {
            let expected: Json = serde_json::from_str(expected.trim()).unwrap();
            match recorded.json() {
                got if got == expected => Ok(()),
                got => Err(format!("expected {expected}, got {got}")),
            }
        }
        (Ok(_), None) => Err(format!("expected {answer}, got {}", recorded.json())),
        (Err(rejected), Some(_)) => Err(format!("expected it to be accepted, got {rejected}")),
    }
}
