//! The table of rules: a selector for each rule, as the settings have them.

use crate::component::exports::docker_attestor::policy::deriver::Workload;
use crate::facts::Facts;
use crate::rule::Rule;

/// Bytes of a selector, and selectors of a workload: the host takes no more from an extension.
const SELECTOR: usize = 1_024;
const SELECTORS: usize = 64;
/// Bytes of all selectors and rules. The rules are read for each workload, and at worst 64 KiB of them take a quarter of the CPU that a
/// call may use.
const TABLE: usize = 64 << 10;
/// Texts that `validate` may return.
const DIAGNOSTICS: usize = 64;
/// Characters of a selector that a message repeats.
const QUOTED: usize = 64;

/// Checks each rule of the table. `Ok` holds the warnings, `Err` holds the mistakes.
pub(crate) fn validate(settings: &[(String, String)]) -> Result<Vec<String>, Vec<String>> {
    check_size(settings).map_err(|wrong| vec![wrong])?;
    let mut wrong: Vec<String> = rules(settings).filter_map(Result::err).collect();
    if wrong.len() > DIAGNOSTICS {
        let more = wrong.len() - (DIAGNOSTICS - 1);
        wrong.truncate(DIAGNOSTICS - 1);
        wrong.push(format!("{more} more rules are wrong"));
    }
    match wrong.is_empty() {
        false => Err(wrong),
        true if settings.is_empty() => {
            Ok(vec!["it has no rules: write settings = { \"SELECTOR\" = \"RULE\" }".to_owned()])
        }
        true if settings.len() > SELECTORS => Ok(vec![format!(
            "it has {} rules, and a workload for which more than {SELECTORS} hold is not attested",
            settings.len()
        )]),
        true => Ok(Vec::new()),
    }
}

/// The selectors whose rules hold for the workload, in the order of the settings.
pub(crate) fn derive(workload: &Workload, settings: &[(String, String)]) -> Result<Vec<String>, String> {
    check_size(settings)?;
    let rules = rules(settings).collect::<Result<Vec<_>, _>>()?;
    let facts = Facts::new(workload, rules.iter().flat_map(|(_, rule)| rule.variables()))?;
    let held = rules.iter().filter(|(_, rule)| rule.holds(&facts));
    let selectors: Vec<String> = held.map(|(selector, _)| (*selector).to_owned()).collect();
    match selectors.len() > SELECTORS {
        true => Err(format!("{} rules hold for this workload, and {SELECTORS} may", selectors.len())),
        false => Ok(selectors),
    }
}

fn check_size(settings: &[(String, String)]) -> Result<(), String> {
    let bytes: usize = settings.iter().map(|(selector, text)| selector.len() + text.len()).sum();
    match bytes > TABLE {
        true => Err(format!(
            "the rules have {bytes} bytes in all, and {TABLE} may be: write shorter ones, or a second extension"
        )),
        false => Ok(()),
    }
}

/// Each selector with its rule, or the mistake in one of the two.
fn rules(settings: &[(String, String)]) -> impl Iterator<Item = Result<(&str, Rule), String>> {
    // The host sorts the settings by key, so equal keys are neighbours.
    let before = std::iter::once(None).chain(settings.iter().map(|(selector, _)| Some(selector)));
    settings.iter().zip(before).map(|((selector, text), before)| {
        if before == Some(selector) {
            return Err(format!("{}: the selector has two rules: write one", quoted(selector)));
        }
        check_selector(selector)?;
        let rule = Rule::parse(text);
        let rule = rule.map_err(|wrong| format!("{}: character {}: {}", quoted(selector), wrong.at, wrong.why))?;
        Ok((selector.as_str(), rule))
    })
}

/// Refuses a selector that the host would refuse, and any with a blank or a letter beyond ASCII, because some of those are invisible or
/// look alike.
fn check_selector(selector: &str) -> Result<(), String> {
    if selector.is_empty() {
        return Err("a rule has an empty selector: write the selector before the =".to_owned());
    }
    if selector.len() > SELECTOR {
        return Err(format!("{}: the selector has {} bytes: {SELECTOR} may be", quoted(selector), selector.len()));
    }
    match selector.chars().position(|char| !char.is_ascii_graphic()) {
        Some(index) => Err(format!(
            "{}: character {} of the selector is none of ASCII's letters, digits and signs",
            quoted(selector),
            index + 1
        )),
        None => Ok(()),
    }
}

/// The beginning of a selector for a message.
fn quoted(selector: &str) -> String {
    let begin: String = selector.chars().take(QUOTED).flat_map(char::escape_default).collect();
    let cut = if selector.chars().nth(QUOTED).is_some() { "…" } else { "" };
    ["\"", &begin, cut, "\""].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::exports::docker_attestor::policy::deriver::Image;

    fn settings(texts: &[(&str, &str)]) -> Vec<(String, String)> {
        texts.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn numbered(count: usize, rule: &str) -> Vec<(String, String)> {
        (0..count).map(|number| (format!("n:{number:03}"), rule.to_owned())).collect()
    }

    fn workload() -> Workload {
        let image = Image { name: String::new(), id: None, manifest_digest: None };
        Workload { labels: Some(settings(&[("app", "web")])), env: Some(Vec::new()), image: Some(image), process: None }
    }

    #[test]
    fn every_wrong_rule_is_reported_with_its_selector() {
        let long = "s".repeat(1_025);
        let wrong = validate(&settings(&[
            ("", "image present"),
            ("a b", "image present"),
            ("good", "image present"),
            ("ok", "image presnt"),
            ("same", "image present"),
            ("same", "image absent"),
            ("tier:\u{202e}gold", "image present"),
            ("tier:größe", "image present"),
            (&long, "image present"),
            ("x\ny", "image present"),
        ]))
        .unwrap_err();
        let expected = [
            "a rule has an empty selector",
            "\"a b\": character 2 of the selector is none",
            "\"ok\": character 7: write = and a value, present or absent",
            "\"same\": the selector has two rules",
            "\"tier:\\u{202e}gold\": character 6 of the selector",
            "\"tier:gr\\u{f6}\\u{df}e\": character 8 of the selector",
            "the selector has 1025 bytes",
            "\"x\\ny\": character 2 of the selector",
        ];
        assert_eq!(wrong.len(), expected.len(), "{wrong:?}");
        for (wrong, expected) in wrong.iter().zip(expected) {
            assert!(wrong.contains(expected), "{wrong}");
        }
    }

    #[test]
    fn what_is_reported_is_bounded() {
        let wrong = validate(&numbered(256, "")).unwrap_err();
        assert_eq!(wrong.len(), 64);
        assert_eq!(wrong.last().unwrap(), "193 more rules are wrong");
        let long = vec![("\u{10ffff}".repeat(1_024), String::new())];
        assert!(validate(&long).unwrap_err().iter().all(|text| text.len() < 4_096));
    }

    #[test]
    fn a_table_of_more_bytes_than_a_call_can_read_is_refused() {
        let table = |bytes: usize| settings(&[("a", &format!("label app = {}", "x".repeat(bytes - 13)))]);
        assert_eq!(validate(&table(TABLE)), Ok(Vec::new()));
        assert!(validate(&table(TABLE + 1)).unwrap_err().concat().contains("65537 bytes in all, and 65536 may be"));
        assert!(derive(&workload(), &table(TABLE + 1)).is_err());
    }

    #[test]
    fn a_table_that_is_odd_but_usable_is_a_warning() {
        assert!(validate(&[]).unwrap().first().unwrap().contains("no rules"));
        assert!(validate(&numbered(65, "image present")).unwrap().first().unwrap().contains("65 rules"));
        assert_eq!(validate(&numbered(64, "image present")), Ok(Vec::new()));
    }

    #[test]
    fn selectors_come_in_the_order_of_the_settings() {
        let table = settings(&[("a", "label app = web"), ("b", "label app = api"), ("c", "image absent")]);
        assert_eq!(derive(&workload(), &table).unwrap(), ["a", "c"]);
        assert_eq!(derive(&workload(), &[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn more_selectors_than_a_workload_may_have_are_an_error() {
        assert_eq!(derive(&workload(), &numbered(64, "image absent")).unwrap().len(), 64);
        assert!(derive(&workload(), &numbered(65, "image absent")).unwrap_err().contains("65 rules hold"));
        assert!(derive(&workload(), &numbered(256, "image present")).unwrap().is_empty());
    }

    #[test]
    fn a_missing_grant_or_a_wrong_rule_is_an_error_before_any_selector() {
        let table = settings(&[("a", "label app = web"), ("b", "lable")]);
        assert!(derive(&workload(), &table).unwrap_err().contains("\"b\": character 1"));
        for workload in [
            Workload { labels: None, ..workload() },
            Workload { env: None, ..workload() },
            Workload { image: None, ..workload() },
        ] {
            assert!(derive(&workload, &[]).unwrap_err().contains("grants"));
        }
    }
}
