//! The registration entry that `attest` suggests.

use bounded::text::is_invisible;

/// The maximum of selectors in the suggested entry.
const SUGGESTED: usize = 3;

/// A ready `spire-server entry create` line. It never has env selectors, because their values may be secrets. `None` if
/// there are no other selectors, as the server accepts no entry without selectors.
pub(super) fn entry(trust_domain: &str, selectors: &[String]) -> Option<String> {
    let kinds = ["label:", "image_config_digest:", "image_manifest_digest:", "image_id:"];
    let suggested = kinds.iter().flat_map(|kind| selectors.iter().filter(move |selector| selector.starts_with(kind)));
    let mut line = format!(
        "spire-server entry create -parentID {} -spiffeID {}",
        quoted(&format!("spiffe://{trust_domain}/spire/agent/PARENT")),
        quoted(&format!("spiffe://{trust_domain}/WORKLOAD"))
    );
    // One selector that names the image, and labels for the rest.
    let mut chosen: Vec<&String> =
        suggested.clone().filter(|selector| !selector.starts_with("label:")).take(1).collect();
    chosen.extend(suggested.filter(|selector| selector.starts_with("label:")).take(SUGGESTED - chosen.len()));
    if chosen.is_empty() {
        return None;
    }
    for selector in chosen {
        line.push_str(" -selector ");
        line.push_str(&quoted(&format!("docker:{selector}")));
    }
    Some(line)
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
    fn the_entry_names_the_image_and_labels_and_no_env() {
        let selectors = [
            "label:a:1",
            "label:b:x y",
            "label:c:3",
            "env:TOKEN=hunter2",
            "image_id:web:1",
            "image_config_digest:sha256:aa",
        ];
        let selectors: Vec<String> = selectors.iter().map(|&selector| selector.to_owned()).collect();
        let line = entry("example.org", &selectors).unwrap();
        assert!(line.ends_with("-selector docker:image_config_digest:sha256:aa -selector docker:label:a:1 -selector 'docker:label:b:x y'"), "{line}");
        assert!(!line.contains("hunter2"));
    }

    #[test]
    fn there_is_no_entry_of_env_alone_and_a_digest_goes_before_a_tag() {
        let entry = |selectors: &[&str]| {
            entry("example.org", &selectors.iter().map(|&selector| selector.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(entry(&["env:TOKEN=hunter2"]), None);
        let line = entry(&["image_id:web:1", "image_manifest_digest:sha256:bb"]).unwrap();
        assert!(line.ends_with("-selector docker:image_manifest_digest:sha256:bb"), "{line}");
    }
}
