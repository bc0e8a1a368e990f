//! Text from outside: cut to a bound, and escaped so that no part of it is invisible.

use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory;

/// Cuts a text to the whole characters that fit into `bytes` bytes.
pub fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// Whether a character is invisible, or changes how the text around it is displayed. Those are Unicode's general
/// categories Cc (control characters), Cf (format characters, such as zero-width and bidirectional ones), Zl and Zp
/// (line and paragraph separators).
pub fn is_invisible(char: char) -> bool {
    matches!(
        CodePointMapData::<GeneralCategory>::new().get(char),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

/// Escapes the invisible characters of a text from outside, ESC and CR among them. The result is safe on a terminal and in a log.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        match is_invisible(char) {
            true => printable.extend(char.escape_default()),
            false => printable.push(char),
        }
    }
    printable
}

/// Whether a text is 64 lowercase hex digits, as a SHA-256 digest without the name of its algorithm and a container's
/// id are.
pub fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::string_slice, reason = "the digits are ASCII")]

    use super::*;

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        for (text, shown) in [
            ("a\u{1b}[31m\r", "a\\u{1b}[31m\\r"),
            // A right-to-left override, a zero-width space, a soft hyphen, a tag character.
            ("a\u{202e}b\u{200b}c\u{ad}d\u{e0061}", "a\\u{202e}b\\u{200b}c\\u{ad}d\\u{e0061}"),
            ("a\u{2028}b\u{2029}", "a\\u{2028}b\\u{2029}"),
            ("Grüße, \u{5d0}\u{5d1} \u{1f600}", "Grüße, \u{5d0}\u{5d1} \u{1f600}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn only_64_lowercase_hex_digits_are_a_digest() {
        let digest = "0123456789abcdef".repeat(4);
        assert!(is_sha256_hex(&digest));
        for other in
            ["", &digest[1..], &digest.to_uppercase(), &format!("{digest}0"), &digest.replacen('0', "\u{660}", 1)]
        {
            assert!(!is_sha256_hex(other), "{other}");
        }
    }
}
