//! Which parts of a configuration's text may be shown. Everything else is hidden, because a line may hold a password, a
//! setting of a component, or the configuration of another plugin.

use std::collections::HashSet;

use hcl1::{Document, Item, Node, Position};

use super::suggestion::closest;

/// Keys whose values may be shown, and the objects that hold such keys.
const KEYS: [&str; 46] = [
    "agent",
    "allow_older",
    "bundle",
    "cache",
    "container_id_cgroup_matchers",
    "docker_host",
    "docker_socket_path",
    "docker_version",
    "enabled",
    "engine_shares_pid_namespace",
    "env",
    "grants",
    "identity",
    "ignore_attestations",
    "ignore_sct",
    "ignore_tlog",
    "insecure_registries",
    "issuer",
    "labels",
    "max_entries",
    "on_failure",
    "path",
    "plugin_checksum",
    "plugin_cmd",
    "plugin_data",
    "plugin_data_file",
    "plugins",
    "podman_socket_path",
    "podman_socket_path_template",
    "policy",
    "public_keys",
    "registry_ca",
    "rekor_url",
    "require_attestations",
    "rootless_podman_uids",
    "selectors",
    "sha256",
    "sigstore",
    "skipped_images",
    "trust_domain",
    "trusted_root",
    "ttl",
    "unpinned",
    "use_new_container_locator",
    "use_rootless_podman",
    "verbose_container_locator_logs",
];
/// Keys whose objects have labels or other keys that are chosen freely.
const LABELLED: [&str; 3] = ["allowed_identities", "extension", "workloadattestor"];
/// Keys below which keys may be shown, and no value.
const SECRET: [&str; 5] = ["password", "plugin_args", "registry_credentials", "settings", "username"];

/// The positions of the keys and values of a text that may be shown.
#[derive(Debug, Clone, Default)]
pub struct Visible(HashSet<Position>);

/// What may be shown at a place of the tree.
#[derive(Debug, Clone, Copy)]
enum Below {
    /// Below known keys: a known key and its value.
    Known,
    /// Below a key with labels: any key, and then what a known key may.
    Label,
    /// Below a key with secrets: keys.
    Keys,
    /// Below an unknown key: nothing.
    Unknown,
}

impl Visible {
    /// The positions of a parsed text.
    pub fn of(document: &Document) -> Visible {
        let mut visible = Visible::default();
        visible.items(&document.items, Below::Known);
        visible
    }

    /// Whether what begins at the position may be shown.
    pub fn shows(&self, position: Position) -> bool {
        self.0.contains(&position)
    }

    fn items(&mut self, items: &[Item], below: Below) {
        for Item { keys, value } in items {
            let mut below = below;
            for key in keys {
                let hidden = matches!(below, Below::Unknown) || may_hold_password(&key.name);
                if !hidden {
                    self.0.insert(key.position);
                }
                below = below_key(below, &key.name);
            }
            self.value(value, below);
        }
    }

    fn value(&mut self, value: &Node, below: Below) {
        match value {
            Node::Object(items, _) => self.items(items, below),
            Node::List(nodes, _) => nodes.iter().for_each(|node| self.value(node, below)),
            Node::Literal(literal, position) => {
                let password = matches!(literal, hcl1::Literal::String(text) if may_hold_password(text));
                if matches!(below, Below::Known) && !password {
                    self.0.insert(*position);
                }
            }
        }
    }
}

fn below_key(below: Below, name: &str) -> Below {
    let name = name.to_lowercase();
    let is = |keys: &[&str]| keys.contains(&name.as_str());
    match below {
        Below::Label => Below::Known,
        Below::Keys | Below::Unknown => below,
        Below::Known if is(&SECRET) => Below::Keys,
        Below::Known if is(&LABELLED) => Below::Label,
        Below::Known if is(&KEYS) => Below::Known,
        Below::Known => Below::Unknown,
    }
}

/// Whether the text may be a URL with a user and a password.
fn may_hold_password(text: &str) -> bool {
    text.contains('@')
}

/// Whether the word is one of the configuration's keys.
pub fn is_key(word: &str) -> bool {
    all_keys().any(|key| key.eq_ignore_ascii_case(word))
}

/// Whether the word is one of the configuration's keys, perhaps misspelt.
pub fn looks_like_key(word: &str) -> bool {
    closest(word, all_keys()).is_some()
}

fn all_keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().chain(&LABELLED).chain(&SECRET).copied()
}

#[cfg(test)]
mod tests {
    use containers::process::System;
    use hcl1::Value;

    use super::super::raw::Raw;
    use super::*;

    #[test]
    fn every_key_of_the_configuration_is_known_here() {
        let text = "x = 1\nsigstore { x = 1\n cache { x = 1 }\n registry_credentials { r { x = 1 } } }\n\
                    policy { x = 1 }\nextension \"e\" { x = 1 }\nselectors { x = 1 }";
        let document = hcl1::parse(text).unwrap();
        for system in [System::Linux, System::Windows] {
            let (_, findings) = Raw::decode(system, &Value::from(&document));
            assert_eq!(findings.unknown().count(), 7);
            for name in findings.unknown().flat_map(|key| key.names) {
                assert!(is_key(name), "{name}");
            }
        }
    }

    #[test]
    fn a_value_is_visible_only_below_known_keys_without_secrets() {
        let text = r#"
            agent { trust_domain = "seen" join_token = "hidden" }
            plugins { WorkloadAttestor "docker" { plugin_cmd = "seen" plugin_args = ["hidden"] plugin_data {
                sigstore {
                    registry_credentials = { "r" = { username = "hidden" password = "hidden" } }
                    rekor_url = "https://hidden:hidden@r"
                    allowed_identities { "https://i" = ["seen"] }
                    password = "hidden"
                    registry_credential { r { path = "hidden" } }
                }
                policy { path = "seen" settings = { path = "hidden" } sha256 = ["seen"] }
                extension "any" { path = "seen" settings { a { b = "hidden" } } }
            } } UpstreamAuthority "vault" { plugin_data { token = "hidden" vault { path = "hidden" } } } }
        "#;
        let visible = Visible::of(&hcl1::parse(text).unwrap());
        let mut counts = (0, 0);
        for (line, content) in text.lines().enumerate() {
            for word in ["\"seen", "\"hidden", "\"https://hidden"] {
                for (offset, _) in content.match_indices(word) {
                    let shown = visible.shows(Position { line: line + 1, column: offset + 1 });
                    assert_eq!(shown, word == "\"seen", "{content} at {offset}");
                    match shown {
                        true => counts.0 += 1,
                        false => counts.1 += 1,
                    }
                }
            }
        }
        assert_eq!(counts, (6, 11));
    }
}
