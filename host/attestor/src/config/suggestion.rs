//! What a person may have meant to write.

/// Bytes of a word that is compared. No key is as long.
const WORD: usize = 64;

/// The candidate that looks most like the word: at most a third of the word's characters are wrong, missing, too many or
/// swapped, whatever the case.
pub(super) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD {
        return None;
    }
    let word = word.to_lowercase();
    let most = (word.chars().count() / 3).max(1);
    let distance = |name: &str| strsim::osa_distance(&word, &name.to_lowercase());
    let nearest = candidates.into_iter().map(|name| (distance(name), name)).min_by_key(|(distance, _)| *distance);
    nearest.filter(|(distance, name)| *distance <= most && *distance < name.chars().count()).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_has_a_suggestion_and_another_word_has_none() {
        let keys = ["plugin_cmd", "plugin_checksum", "enabled", "path"];
        for (word, meant) in [
            ("plugin_checksm", Some("plugin_checksum")),
            ("pluginChecksum", Some("plugin_checksum")),
            ("PLUGIN_CMD", Some("plugin_cmd")),
            ("enabeld", Some("enabled")),
            ("pth", Some("path")),
            ("", None),
            ("x", None),
            ("sigstore", None),
        ] {
            assert_eq!(closest(word, keys), meant, "{word}");
        }
        assert_eq!(closest(&"p".repeat(1 << 20), keys), None);
    }
}
