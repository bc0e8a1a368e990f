//! Test results as JUnit XML, in the form that CI systems read (testsuite, testcase, failure, system-err).

use std::fmt::Write as _;
use std::io::{self, Write};

use super::test::TestCase;

pub(super) fn write(component: &str, cases: &[TestCase], out: &mut impl Write) -> io::Result<()> {
    let failed = cases.iter().filter(|case| case.failed()).count();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    let name = escape(component);
    writeln!(out, "<testsuite name=\"{name}\" tests=\"{}\" failures=\"{failed}\">", cases.len())?;
    for case in cases {
        let seconds = case.cost.map_or(0.0, |cost| cost.microseconds as f64 / 1e6);
        let (test, description) = (escape(&case.scenario), escape(&case.description));
        writeln!(out, "  <testcase classname=\"{name}\" name=\"{test}\" time=\"{seconds:.6}\">")?;
        if case.failed() {
            let lines = escape(&case.difference.join("\n"));
            writeln!(out, "    <failure message=\"{description}\">{lines}</failure>")?;
        }
        if !case.warnings.is_empty() {
            writeln!(out, "    <system-err>{}</system-err>", escape(&case.warnings.join("\n")))?;
        }
        writeln!(out, "  </testcase>")?;
    }
    writeln!(out, "</testsuite>")
}

/// The text with what XML 1.0 reserves as entities, and what it does not allow as `\u{…}`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {
                let _ = write!(escaped, "{}", letter.escape_unicode());
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_reserves_or_forbids_is_escaped() {
        assert_eq!(escape("a<b>&\"\n\u{1b}\u{ffff}é"), "a&lt;b&gt;&amp;&quot;&#10;\\u{1b}\\u{ffff}é");
    }

    #[test]
    fn a_failure_has_its_difference_and_warnings_stand_beside_it() {
        let case = |passed: bool| TestCase {
            scenario: "s/a.json".to_owned(),
            description: "one & two".to_owned(),
            passed,
            accepted: false,
            difference: if passed { Vec::new() } else { vec!["- label:a:b".to_owned(), "+ c".to_owned()] },
            warnings: vec!["warn: odd".to_owned()],
            cost: None,
        };
        let mut out = Vec::new();
        write("x.wasm", &[case(true), case(false)], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("<testsuite name=\"x.wasm\" tests=\"2\" failures=\"1\">"), "{text}");
        assert!(text.contains("<failure message=\"one &amp; two\">- label:a:b&#10;+ c</failure>"), "{text}");
        assert_eq!(text.matches("<system-err>warn: odd</system-err>").count(), 2, "{text}");
    }
}
