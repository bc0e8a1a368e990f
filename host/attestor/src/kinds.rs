//! The kinds of selectors: the built-in ones, and which kinds a policy or an extension may have of its own.

use bounded::text::is_invisible;

use crate::limits;

/// The kinds that state a fact of a container.
pub const CONTAINER_KINDS: [&str; 5] = ["label", "env", "image_id", "image_config_digest", "image_manifest_digest"];
/// What the kinds that state a fact of a verified signature begin with.
pub const SIGNATURE_KINDS: [&str; 2] = ["image-signature", "image-attestations"];
/// The type that spire-server puts before each selector: `docker:docker:label:…` would be read as one of ours.
const TYPE: &str = "docker";

/// Checks a selector of a policy's own kind.
///
/// # Errors
/// What is wrong with the kind, as the end of a sentence.
pub fn check_own(kind: &str, selector: &str, extensions: &[String]) -> Result<(), &'static str> {
    if kind.len() == selector.len() || kind.is_empty() {
        return Err("is not of the form KIND:VALUE");
    }
    if kind.len() > limits::OWN_KIND {
        return Err("has more than 64 bytes");
    }
    if kind.len() + 1 == selector.len() {
        return Err("has an empty value");
    }
    if selector.chars().any(is_invisible) {
        return Err("has a control or format character in its selector");
    }
    if !kind.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.')) {
        return Err("may have a-z, 0-9, _, - and . only");
    }
    if let Some(why) = reserved(kind) {
        return Err(why);
    }
    if extensions.iter().any(|extension| folded(extension) == folded(kind)) {
        return Err("looks like an extension's name");
    }
    Ok(())
}

/// Why a kind is reserved, as the end of a sentence: a reader could take it for a built-in one, or for the type before it. `None`
/// when it is free.
pub fn reserved(kind: &str) -> Option<&'static str> {
    let kind = folded(kind);
    let built_in = CONTAINER_KINDS.iter().any(|built_in| kind == folded(built_in))
        || SIGNATURE_KINDS.iter().any(|built_in| kind.starts_with(&folded(built_in)));
    match kind.as_str() {
        _ if built_in => Some("looks like a built-in kind"),
        TYPE => Some("looks like the type of all selectors, docker"),
        _ => None,
    }
}

fn folded(kind: &str) -> String {
    kind.chars().filter(char::is_ascii_alphanumeric).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_kind_has_a_value_that_can_be_seen() {
        let extensions = ["compose".to_owned()];
        let own = |selector: &str| {
            let (kind, _) = selector.split_once(':').unwrap_or((selector, ""));
            check_own(kind, selector, &extensions)
        };
        assert_eq!(own("own:a b"), Ok(()));
        assert_eq!(own("docker-host:a"), Ok(()));
        assert_eq!(own("own:"), Err("has an empty value"));
        for invisible in ["\n", "\u{ad}", "\u{200b}", "\u{202e}", "\u{2066}", "\u{2028}", "\u{2029}", "\u{e0061}"] {
            assert_eq!(own(&format!("own:a{invisible}")), Err("has a control or format character in its selector"));
        }
        for docker in ["docker:a", "doc-ker:a", "d.o.c.k.e.r:a"] {
            assert_eq!(own(docker), Err("looks like the type of all selectors, docker"));
        }
    }
}
