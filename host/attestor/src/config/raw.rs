//! The configuration as written: every key that the plugin knows, checked by type only.

use std::collections::BTreeMap;
use std::fmt;

use containers::process::System;
use hcl1::{Decode, Document, Error, Findings, Position, Value, decode_object};

/// `plugin_data`, as written.
#[derive(Debug, Default)]
pub(super) struct Raw {
    /// Linux: where the engine listens.
    pub(super) docker_socket_path: String,
    /// Windows: where the engine listens.
    pub(super) docker_host: String,
    pub(super) docker_version: String,
    pub(super) container_id_cgroup_matchers: Vec<String>,
    pub(super) use_new_container_locator: Option<bool>,
    pub(super) verbose_container_locator_logs: bool,
    pub(super) engine_shares_pid_namespace: bool,
    pub(super) podman_socket_path: Option<String>,
    pub(super) podman_socket_path_template: Option<String>,
    pub(super) use_rootless_podman: Option<bool>,
    pub(super) rootless_podman_uids: Option<Vec<String>>,
    pub(super) sigstore: Option<Sigstore>,
    pub(super) policy: Option<Component>,
    pub(super) extension: Option<BTreeMap<String, Extension>>,
    pub(super) selectors: Option<Selectors>,
}

impl Raw {
    /// Decodes the configuration, and finds unknown keys, repeated keys, and values of the wrong type. The keys of another operating system are unknown.
    pub(super) fn decode(system: System, value: &Value<'_>) -> (Raw, Findings) {
        let mut raw = Raw::default();
        let mut findings = Findings::default();
        let mut fields: Vec<(&str, &mut dyn Decode)> = vec![
            ("docker_version", &mut raw.docker_version),
            ("engine_shares_pid_namespace", &mut raw.engine_shares_pid_namespace),
            ("sigstore", &mut raw.sigstore),
            ("policy", &mut raw.policy),
            ("extension", &mut raw.extension),
            ("selectors", &mut raw.selectors),
        ];
        match system {
            System::Windows => fields.push(("docker_host", &mut raw.docker_host)),
            System::Linux => fields.extend([
                ("docker_socket_path", &mut raw.docker_socket_path as &mut dyn Decode),
                ("container_id_cgroup_matchers", &mut raw.container_id_cgroup_matchers),
                ("use_new_container_locator", &mut raw.use_new_container_locator),
                ("verbose_container_locator_logs", &mut raw.verbose_container_locator_logs),
                ("podman_socket_path", &mut raw.podman_socket_path),
                ("podman_socket_path_template", &mut raw.podman_socket_path_template),
                ("use_rootless_podman", &mut raw.use_rootless_podman),
                ("rootless_podman_uids", &mut raw.rootless_podman_uids),
            ]),
        }
        let decoded = decode_object("", value, &mut fields, &mut findings);
        findings.keep(decoded);
        drop(fields);
        (raw, findings)
    }
}

/// `sigstore { … }`
#[derive(Debug, Default)]
pub(super) struct Sigstore {
    pub(super) allowed_identities: BTreeMap<String, Vec<String>>,
    pub(super) skipped_images: Vec<String>,
    pub(super) rekor_url: String,
    pub(super) ignore_tlog: bool,
    pub(super) ignore_attestations: bool,
    pub(super) ignore_sct: bool,
    pub(super) registry_credentials: BTreeMap<String, Credentials>,
    pub(super) trusted_root: Option<String>,
    pub(super) public_keys: Vec<String>,
    pub(super) require_attestations: Option<bool>,
    pub(super) on_failure: String,
    pub(super) insecure_registries: Vec<String>,
    pub(super) registry_ca: Vec<String>,
    pub(super) cache: Cache,
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
                ("ignore_attestations", &mut self.ignore_attestations),
                ("ignore_sct", &mut self.ignore_sct),
                ("registry_credentials", &mut self.registry_credentials),
                ("trusted_root", &mut self.trusted_root),
                ("public_keys", &mut self.public_keys),
                ("require_attestations", &mut self.require_attestations),
                ("on_failure", &mut self.on_failure),
                ("insecure_registries", &mut self.insecure_registries),
                ("registry_ca", &mut self.registry_ca),
                ("cache", &mut self.cache),
            ],
            findings,
        )
    }
}

/// `cache { … }` of sigstore.
#[derive(Debug, Default)]
pub(super) struct Cache {
    pub(super) ttl: String,
    pub(super) max_entries: String,
}

impl Decode for Cache {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        decode_object(path, value, &mut [("ttl", &mut self.ttl), ("max_entries", &mut self.max_entries)], findings)
    }
}

/// A registry's credentials.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    username: String,
    password: Secret,
}

impl Credentials {
    /// The user name and the password.
    pub(super) fn into_parts(self) -> (String, String) {
        (self.username, self.password.0)
    }
}

impl Decode for Credentials {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        // The part of a registry's key before an @ may be a password.
        let path = match path.rsplit_once('@') {
            Some((_, host)) => &format!("sigstore.registry_credentials.…@{host}"),
            None => path,
        };
        decode_object(path, value, &mut [("username", &mut self.username), ("password", &mut self.password)], findings)
    }
}

/// A text that is never printed.
#[derive(Default)]
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

impl Decode for Secret {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        self.0.decode(path, value, findings)
    }
}

/// `policy { … }`, and the keys that an extension shares with it.
#[derive(Debug, Default)]
pub(super) struct Component {
    pub(super) path: String,
    pub(super) sha256: OneOrMore,
    pub(super) bundle: String,
    pub(super) identity: String,
    pub(super) issuer: String,
    pub(super) unpinned: bool,
    pub(super) allow_older: bool,
    pub(super) settings: BTreeMap<String, String>,
}

impl Component {
    fn fields(&mut self) -> [(&str, &mut dyn Decode); 8] {
        [
            ("path", &mut self.path),
            ("sha256", &mut self.sha256),
            ("bundle", &mut self.bundle),
            ("identity", &mut self.identity),
            ("issuer", &mut self.issuer),
            ("unpinned", &mut self.unpinned),
            ("allow_older", &mut self.allow_older),
            ("settings", &mut self.settings),
        ]
    }
}

impl Decode for Component {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        decode_object(path, value, &mut self.fields(), findings)
    }
}

/// `extension "NAME" { … }`
#[derive(Debug, Default)]
pub(super) struct Extension {
    pub(super) component: Component,
    pub(super) grants: Vec<String>,
    pub(super) on_failure: String,
}

impl Decode for Extension {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        let mut fields: Vec<(&str, &mut dyn Decode)> = self.component.fields().into();
        fields.push(("grants", &mut self.grants));
        fields.push(("on_failure", &mut self.on_failure));
        decode_object(path, value, &mut fields, findings)
    }
}

/// `"…"` or `["…", "…"]`
#[derive(Debug, Default)]
pub(super) struct OneOrMore(pub(super) Vec<String>);

impl Decode for OneOrMore {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        let mut one = String::new();
        if one.decode(path, value, findings).is_ok() {
            self.0.push(one);
            return Ok(());
        }
        let list = self.0.decode(path, value, findings);
        list.map_err(|_| value.mismatch(path, "a string or a list [ … ]"))
    }

    fn joins(&self) -> bool {
        true
    }
}

/// `selectors { … }`
#[derive(Debug, Default)]
pub(super) struct Selectors {
    env: Vec<String>,
    labels: Vec<String>,
}

impl Decode for Selectors {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        decode_object(path, value, &mut [("env", &mut self.env), ("labels", &mut self.labels)], findings)
    }
}

/// The agent's own keys in `WorkloadAttestor "NAME" { … }`, which SPIRE's pkg/common/catalog/config.go lists.
#[derive(Debug, Default)]
pub(super) struct Plugin {
    pub(super) plugin_cmd: String,
    pub(super) plugin_args: Vec<String>,
    pub(super) plugin_checksum: String,
    /// Every `plugin_data`, in the order of the text.
    pub(super) plugin_data: Objects,
    pub(super) plugin_data_file: Option<String>,
    pub(super) enabled: Option<bool>,
}

impl Decode for Plugin {
    fn decode(&mut self, path: &str, value: &Value<'_>, findings: &mut Findings) -> Result<(), Error> {
        decode_object(
            path,
            value,
            &mut [
                ("plugin_cmd", &mut self.plugin_cmd),
                ("plugin_args", &mut self.plugin_args),
                ("plugin_checksum", &mut self.plugin_checksum),
                ("plugin_data", &mut self.plugin_data),
                ("plugin_data_file", &mut self.plugin_data_file),
                ("enabled", &mut self.enabled),
            ],
            findings,
        )
    }
}

/// Keeps every object that is decoded into it, and where it is written.
#[derive(Debug, Default)]
pub(super) struct Objects(pub(super) Vec<(Document, Position)>);

impl Decode for Objects {
    fn decode(&mut self, path: &str, value: &Value<'_>, _: &mut Findings) -> Result<(), Error> {
        let document = value.to_document().ok_or_else(|| value.mismatch(path, "an object { … }"))?;
        self.0.push((document, value.position()));
        Ok(())
    }
}
