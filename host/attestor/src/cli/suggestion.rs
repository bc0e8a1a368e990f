//! A registration entry that would match a workload, made of selectors that survive a deployment.

use bounded::text::is_invisible;

use super::entries::{DOCKER, without_env_value};

/// The maximum of selectors in a suggested entry.
const SUGGESTED: usize = 4;
/// Kinds of selectors that an entry may be made of, the most telling first. Values of env may be secrets, and do not belong into a
/// command line.
const KINDS: [&str; 6] = [
    "image-signature-subject:",
    "image-signature-issuer:",
    "label:",
    "image_id:",
    "image_config_digest:",
    "image_manifest_digest:",
];
/// Kinds that stand for one image, or for one signature of it.
const OF_ONE_IMAGE: [&str; 7] = [
    "image_config_digest:",
    "image_manifest_digest:",
    "image-signature-value:",
    "image-signature-log-id:",
    "image-signature-log-index:",
    "image-signature-integrated-time:",
    "image-signature-signed-entry-timestamp:",
];
/// Keys of labels that builders and Docker Compose set anew for each image or container (OCI image specification, annotations).
const OF_ONE_DEPLOYMENT: [&str; 9] = [
    "com.docker.compose.config-hash",
    "com.docker.compose.container-number",
    "com.docker.compose.image",
    "com.docker.compose.replace",
    "com.docker.compose.version",
    "org.opencontainers.image.created",
    "org.opencontainers.image.revision",
    "org.opencontainers.image.version",
    "org.opencontainers.image.base.digest",
];
/// The length from which hex digits are taken for a digest or a commit.
const HASH: usize = 12;

/// A suggested entry.
pub(super) struct Suggestion {
    /// A ready `spire-server entry create` line.
    pub(super) entry: String,
    /// The selectors that the next deployment or image changes. Values of env are left out.
    pub(super) changing: Vec<String>,
}

impl Suggestion {
    /// A suggestion for a workload with these selectors, which have no `docker:` prefix. `None` if nothing but env and own kinds is there, as
    /// the server accepts no entry without selectors.
    pub(super) fn of(trust_domain: &str, selectors: &[String]) -> Option<Suggestion> {
        let candidates = || KINDS.iter().flat_map(|kind| selectors.iter().filter(move |text| text.starts_with(kind)));
        let mut chosen: Vec<&String> = candidates().filter(|selector| survives(selector)).collect();
        if let Some(image) = chosen.iter().position(|selector| selector.starts_with("image_id:")) {
            // The image before the last labels.
            let image = chosen.remove(image);
            chosen.insert(chosen.len().min(SUGGESTED - 1), image);
        }
        if chosen.is_empty() {
            // Better an entry for one image than none.
            chosen = candidates().take(1).collect();
        }
        chosen.truncate(SUGGESTED);
        if chosen.is_empty() {
            return None;
        }
        let mut entry = format!(
            "spire-server entry create -parentID {} -spiffeID {}",
            quoted(&format!("spiffe://{trust_domain}/spire/agent/PARENT")),
            quoted(&format!("spiffe://{trust_domain}/WORKLOAD"))
        );
        for selector in chosen {
            entry.push_str(" -selector ");
            entry.push_str(&quoted(&[DOCKER, selector].concat()));
        }
        let changing = selectors.iter().filter(|selector| !survives(selector));
        Some(Suggestion {
            entry,
            changing: changing.map(|selector| without_env_value(&[DOCKER, selector].concat())).collect(),
        })
    }
}

/// Whether a selector is likely to be the same after the next deployment of the workload.
fn survives(selector: &str) -> bool {
    if OF_ONE_IMAGE.iter().any(|kind| selector.starts_with(kind)) {
        return false;
    }
    if let Some(name) = selector.strip_prefix("image_id:") {
        let last = name.rsplit_once('/').map_or(name, |(_, last)| last);
        let tag = last.split_once(':').map_or("", |(_, tag)| tag);
        return !name.contains('@') && !tag.contains('.') && !holds_hash(tag);
    }
    if let Some(label) = selector.strip_prefix("label:") {
        let of_one = |key: &str| label.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
        return !OF_ONE_DEPLOYMENT.iter().any(|key| of_one(key)) && !holds_hash(label) && !holds_date(label);
    }
    match selector.strip_prefix("env:") {
        Some(env) => !holds_hash(env) && !holds_date(env),
        None => true,
    }
}

/// Whether the text holds a commit, a digest, or a number of that length.
fn holds_hash(text: &str) -> bool {
    let runs = text.split(|char: char| !matches!(char, '0'..='9' | 'a'..='f'));
    runs.into_iter().any(|run| run.len() >= HASH && run.bytes().any(|byte| byte.is_ascii_digit()))
}

/// Whether the text holds a date, as RFC 3339 writes it.
fn holds_date(text: &str) -> bool {
    let is_date = |window: &[u8]| {
        window.iter().enumerate().all(|(place, byte)| match place {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
    };
    text.as_bytes().windows(10).any(is_date)
}

/// Quotes a word for a POSIX shell, safe whatever the word contains. Uses `$'…'` for invisible characters
/// (POSIX.1-2024, 2.2.4).
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    if !word.chars().any(is_invisible) {
        return format!("'{}'", word.replace('\'', "'\\''"));
    }
    let mut quoted = "$'".to_owned();
    for char in word.chars() {
        match char {
            '\'' | '\\' => quoted.extend(['\\', char]),
            char if is_invisible(char) => {
                for byte in char.to_string().bytes() {
                    quoted.push_str(&format!("\\{byte:03o}"));
                }
            }
            char => quoted.push(char),
        }
    }
    quoted + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggestion(selectors: &[&str]) -> Option<(String, Vec<String>)> {
        let selectors: Vec<String> = selectors.iter().map(|&selector| selector.to_owned()).collect();
        let Suggestion { entry, changing } = Suggestion::of("example.org", &selectors)?;
        let (_, chosen) = entry.split_once("WORKLOAD -selector ").unwrap();
        Some((chosen.to_owned(), changing))
    }

    #[test]
    fn a_real_shell_reads_back_what_was_quoted() {
        for word in [
            "plain",
            "",
            "it's",
            "a b",
            "$(id)",
            "`id`",
            "a\nb",
            "it's\n\u{1b}[31m\\x",
            "\u{e9}\u{85}x",
            "\u{202e}x\u{e0061}",
            "a\"b",
            "-n",
            "*",
            "!x",
        ] {
            let script = format!("printf %s {}", quoted(word));
            let output = std::process::Command::new("bash").arg("-c").arg(&script).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word, "{script}");
        }
    }

    #[test]
    fn an_entry_is_made_of_what_survives_a_deployment_and_the_rest_is_named() {
        let (entry, changing) = suggestion(&[
            "label:app:web",
            "label:build:4be1c1a0d2f3",
            "label:org.opencontainers.image.version:1.4",
            "label:team:x y",
            "env:TOKEN=hunter2",
            "env:BUILT=2026-11-28T13:00:00Z",
            "image_id:shop/web",
            "image_config_digest:sha256:aa",
        ])
        .unwrap();
        assert_eq!(entry, "docker:label:app:web -selector 'docker:label:team:x y' -selector docker:image_id:shop/web");
        let expected = [
            "docker:label:build:4be1c1a0d2f3",
            "docker:label:org.opencontainers.image.version:1.4",
            "docker:env:BUILT=…",
            "docker:image_config_digest:sha256:aa",
        ];
        assert_eq!(changing, expected);
    }

    #[test]
    fn an_image_at_a_release_or_a_digest_changes_and_one_of_a_name_does_not() {
        for (image, survives) in [
            ("web", true),
            ("registry.example.org:5000/shop/web", true),
            ("web:latest", true),
            ("postgres:16", true),
            ("web:1.4", false),
            ("web:4be1c1a0d2f3", false),
            ("web@sha256:aa", false),
        ] {
            assert_eq!(super::survives(&format!("image_id:{image}")), survives, "{image}");
        }
    }

    #[test]
    fn a_signer_goes_before_labels_and_the_image_before_the_last_label() {
        let labels = ["label:a:1", "label:b:2", "label:c:3", "label:d:4"];
        let selectors =
            [&labels[..], &["image_id:web", "image-signature-subject:s", "image-signature-value:v"]].concat();
        let (entry, changing) = suggestion(&selectors).unwrap();
        assert_eq!(
            entry,
            "docker:image-signature-subject:s -selector docker:label:a:1 -selector docker:label:b:2 -selector docker:image_id:web"
        );
        assert_eq!(changing, ["docker:image-signature-value:v"]);
    }

    #[test]
    fn there_is_no_entry_of_env_alone_and_one_of_a_digest_if_there_is_nothing_else() {
        assert_eq!(suggestion(&["env:TOKEN=hunter2"]), None);
        let (entry, changing) = suggestion(&["image_id:web:1.4", "image_manifest_digest:sha256:bb"]).unwrap();
        assert_eq!(entry, "docker:image_id:web:1.4");
        assert_eq!(changing, ["docker:image_id:web:1.4", "docker:image_manifest_digest:sha256:bb"]);
    }
}
