//! The language of the rules.
//!
//! ```text
//! rule      = condition *( ";" condition )
//! condition = subject ( "present" / "absent" / "=" value *( "," value ) )
//! subject   = "label" NAME / "env" NAME / "image" / "image_config_digest" / "image_manifest_digest"
//! ```
//!
//! A rule holds if all of its conditions hold. A value is compared with the whole fact. It may have one `*`, which stands for any
//! text, also for none. Names and values are written bare, if they have only letters of ASCII, digits and `._-/:@+`, or in `'…'`.
//! `''` inside of quotes is one quote. Parts of both kinds may follow one another without a blank (`'a b'*`).

use std::collections::BTreeSet;

use crate::facts::{Fact, Facts};

/// When a workload gets a selector.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    conditions: Vec<(Subject, Test)>,
}

/// The fact that a condition is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Label(String),
    Env(String),
    Image,
    ImageConfigDigest,
    ImageManifestDigest,
}

/// What a condition says of its subject.
#[derive(Debug, PartialEq, Eq)]
enum Test {
    Present,
    Absent,
    OneOf(Vec<Pattern>),
}

/// A whole value, or what stands before and after any text. There is one `*` at most, so that no value takes longer to compare than
/// the pattern is long.
#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    before: String,
    after: Option<String>,
}

/// Where and why a rule is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The character, counted from 1.
    pub(crate) at: usize,
    /// The mistake, and the text to write instead.
    pub(crate) why: &'static str,
}

impl Rule {
    pub(crate) fn parse(text: &str) -> Result<Rule, Malformed> {
        let mut parser = Parser { text, rest: text };
        let mut conditions = Vec::new();
        let mut subjects = BTreeSet::new();
        loop {
            parser.skip_blanks();
            let start = parser.rest;
            let (subject, test) = parser.condition()?;
            if !subjects.insert(subject.clone()) {
                return Err(parser.malformed(start, "the rule has a condition on this already: write one for each"));
            }
            conditions.push((subject, test));
            if parser.rest.is_empty() {
                return Ok(Rule { conditions });
            }
            if !parser.take(';') {
                return Err(
                    parser.here("a condition ends before this: write ; and the next condition, or quote the text")
                );
            }
        }
    }

    /// The environment variables that the rule is about.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.conditions.iter().filter_map(|(subject, _)| match subject {
            Subject::Env(name) => Some(name.as_str()),
            _ => None,
        })
    }

    pub(crate) fn holds(&self, facts: &Facts<'_>) -> bool {
        self.conditions.iter().all(|(subject, test)| test.holds(facts.of(subject)))
    }
}

impl Test {
    fn holds(&self, fact: Fact<'_>) -> bool {
        match (self, fact) {
            (Test::Absent, fact) => fact == Fact::Absent,
            (Test::Present, fact) => fact != Fact::Absent,
            (Test::OneOf(patterns), Fact::Value(value)) => patterns.iter().any(|pattern| pattern.matches(value)),
            (Test::OneOf(_), Fact::Absent | Fact::Ambiguous) => false,
        }
    }
}

impl Pattern {
    fn matches(&self, value: &str) -> bool {
        match &self.after {
            None => value == self.before,
            Some(after) => value.strip_prefix(self.before.as_str()).is_some_and(|rest| rest.ends_with(after.as_str())),
        }
    }
}

/// Reads a rule from left to right.
struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// A condition, and the blanks after it.
    fn condition(&mut self) -> Result<(Subject, Test), Malformed> {
        let start = self.rest;
        let subject = match self.word() {
            "label" => Subject::Label(self.name()?),
            "env" => Subject::Env(self.name()?),
            "image" => Subject::Image,
            "image_config_digest" => Subject::ImageConfigDigest,
            "image_manifest_digest" => Subject::ImageManifestDigest,
            _ => {
                let why =
                    "a condition begins with label NAME, env NAME, image, image_config_digest or image_manifest_digest";
                return Err(self.malformed(start, why));
            }
        };
        self.skip_blanks();
        let start = self.rest;
        let test = if self.take('=') {
            Test::OneOf(self.values()?)
        } else {
            match self.word() {
                "present" => Test::Present,
                "absent" => Test::Absent,
                _ => return Err(self.malformed(start, "write = and a value, present or absent")),
            }
        };
        self.skip_blanks();
        Ok((subject, test))
    }

    /// The name of a label or of a variable.
    fn name(&mut self) -> Result<String, Malformed> {
        let keyword_ends = self.rest;
        self.skip_blanks();
        let start = self.rest;
        let Pattern { before, after } = self.pattern()?;
        if keyword_ends.len() == start.len() {
            return Err(self.malformed(start, "write a blank before the name"));
        }
        if after.is_some() {
            return Err(self.malformed(start, "a name has no *: write the whole name, or quote the *"));
        }
        if before.is_empty() {
            return Err(self.malformed(start, "the name is empty: write the name of a label or variable"));
        }
        Ok(before)
    }

    /// Values, with `,` between them.
    fn values(&mut self) -> Result<Vec<Pattern>, Malformed> {
        let mut values = Vec::new();
        loop {
            self.skip_blanks();
            let start = self.rest;
            let pattern = self.pattern()?;
            if pattern.before.is_empty() && pattern.after.as_deref() == Some("") {
                return Err(self.malformed(start, "* alone is any value: write present in the place of = *"));
            }
            values.push(pattern);
            self.skip_blanks();
            if !self.take(',') {
                return Ok(values);
            }
        }
    }

    /// Bare and quoted text, as far as it goes.
    fn pattern(&mut self) -> Result<Pattern, Malformed> {
        let start = self.rest;
        let (mut before, mut after) = (String::new(), None);
        loop {
            let here = self.rest;
            if self.take('*') {
                if after.replace(String::new()).is_some() {
                    return Err(self.malformed(here, "a value has one * at most: write two values, or quote the *"));
                }
                continue;
            }
            let part = after.as_mut().unwrap_or(&mut before);
            if self.take('\'') {
                self.quoted(here, part)?;
                continue;
            }
            let bare = self.take_while(
                |char| matches!(char, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' | '/' | ':' | '@' | '+'),
            );
            if bare.is_empty() {
                break;
            }
            part.push_str(bare);
        }
        match start.len() == self.rest.len() {
            true => {
                Err(self
                    .here("a name or a value is missing here: write letters, digits or ._-/:@+, or other text in '…'"))
            }
            false => Ok(Pattern { before, after }),
        }
    }

    /// The rest of a quoted text that begins at `start`.
    fn quoted(&mut self, start: &str, text: &mut String) -> Result<(), Malformed> {
        loop {
            text.push_str(self.take_while(|char| char != '\'' && !char.is_control()));
            if !self.take('\'') {
                return Err(match self.rest.is_empty() {
                    true => {
                        self.malformed(start, "the quote has no end: write ' after the text, and '' for a quote in it")
                    }
                    false => self.here("a quoted text has no control characters: remove it"),
                });
            }
            if !self.take('\'') {
                return Ok(());
            }
            text.push('\'');
        }
    }

    fn word(&mut self) -> &'a str {
        self.take_while(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-'))
    }

    fn skip_blanks(&mut self) {
        self.take_while(|char| char.is_ascii_whitespace());
    }

    fn take(&mut self, char: char) -> bool {
        let rest = self.rest.strip_prefix(char);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|char| !fits(char)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn here(&self, why: &'static str) -> Malformed {
        self.malformed(self.rest, why)
    }

    /// `rest` is the text from the wrong character on.
    fn malformed(&self, rest: &str, why: &'static str) -> Malformed {
        let before = self.text.strip_suffix(rest).unwrap_or(self.text);
        Malformed { at: before.chars().count() + 1, why }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::component::exports::docker_attestor::policy::deriver::{Image, Workload};

    fn pairs(texts: &[(&str, &str)]) -> Vec<(String, String)> {
        texts.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn workload() -> Workload {
        Workload {
            labels: Some(pairs(&[("a b", "x"), ("app", "web"), ("empty", ""), ("note", "it's; a, b = *")])),
            env: Some(["TWICE=1", "TIER=gold", "BARE", "TWICE=2", "EMPTY="].map(str::to_owned).to_vec()),
            image: Some(Image {
                name: "registry.example.com/shop/web:1".to_owned(),
                id: Some("sha256:aa".to_owned()),
                manifest_digest: None,
            }),
            process: None,
        }
    }

    fn holds(text: &str) -> bool {
        holds_for(&Rule::parse(text).unwrap(), &workload())
    }

    fn holds_for(rule: &Rule, workload: &Workload) -> bool {
        rule.holds(&Facts::new(workload, rule.variables()).unwrap())
    }

    #[test]
    fn a_rule_holds_if_all_of_its_conditions_do() {
        for text in [
            "label app = web",
            "label app=web",
            "\n label\tapp =\n  api , web ;image present ",
            "label app present; label other absent; env TIER = gold, silver; env DEBUG absent",
            "label 'a b' = x",
            "label empty = ''; env EMPTY = ''; env BARE = ''",
            "env BARE present",
            "label note = 'it''s; a, b = *'",
            "label note = 'it'''*'*'",
            "env TWICE present",
            "image = registry.example.com/shop/*; image_config_digest = sha256:bb, sha256:aa; image_manifest_digest absent",
            "label app = w*b",
            "image = *:1",
            "label app = *web",
            "label app = web*",
            "env T'IE'R = 'go'ld",
        ] {
            assert!(holds(text), "{text}");
        }
        for text in [
            "label app = web; label other present",
            "label app = we",
            "label app = eb",
            "label app = Web",
            "label app = web*b",
            "label App present",
            "label empty = x*",
            "label other = ''",
            "env TIER absent",
            "env TWICE = 1, 2",
            "env TWICE absent",
            "env TIE present",
            "image = registry.example.com/shop",
            "image = registry.example.com/shop/web",
            "image_manifest_digest present",
            "label app = 'w*'",
        ] {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn a_wrong_rule_says_at_which_character_and_what_to_write() {
        for (text, at, why) in [
            ("", 1, "begins with label"),
            ("  ", 3, "begins with label"),
            (";", 1, "begins with label"),
            ("label app = web;", 17, "begins with label"),
            ("label app = web;; image present", 17, "begins with label"),
            ("lable app = web", 1, "begins with label"),
            ("LABEL app = web", 1, "begins with label"),
            ("image_id = x", 1, "begins with label"),
            ("ümlaut", 1, "begins with label"),
            ("label", 6, "missing here"),
            ("label = web", 7, "missing here"),
            ("label'app' present", 6, "a blank before the name"),
            ("label '' present", 7, "the name is empty"),
            ("label a* present", 7, "a name has no *"),
            ("label app", 10, "write = and a value"),
            ("label app web", 11, "write = and a value"),
            ("label app == web", 12, "missing here"),
            ("label app != web", 11, "write = and a value"),
            ("label app presently", 11, "write = and a value"),
            ("label app present web", 19, "a condition ends before this"),
            ("label app =", 12, "missing here"),
            ("label app = ,", 13, "missing here"),
            ("label app = web,", 17, "missing here"),
            ("label app = web api", 17, "a condition ends before this"),
            ("label app = a=b", 14, "a condition ends before this"),
            ("label app = größe", 15, "a condition ends before this"),
            ("label app = 'ö' ö", 17, "a condition ends before this"),
            ("label app = *", 13, "* alone"),
            ("label app = ''*", 13, "* alone"),
            ("label app = a*b*", 16, "one * at most"),
            ("label app = **", 14, "one * at most"),
            ("label app = 'web", 13, "no end"),
            ("label app = 'web''", 13, "no end"),
            ("label app = 'a\nb'", 15, "control characters"),
            ("label app = \0", 13, "missing here"),
            ("label app = web; label 'app' absent", 18, "already"),
            ("image present; image = x", 16, "already"),
            ("env X present; env X absent", 16, "already"),
        ] {
            let malformed = Rule::parse(text).expect_err(text);
            assert_eq!(malformed.at, at, "{text:?}: {}", malformed.why);
            assert!(malformed.why.contains(why), "{text:?}: {}", malformed.why);
        }
    }

    fn quoted(text: &str) -> String {
        format!("'{}'", text.replace('\'', "''"))
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,64}") {
            let _ = Rule::parse(&text);
        }

        #[test]
        fn no_text_of_the_languages_characters_panics(text in "(label|env|image|present|absent|[ ;,='*a\\n]){0,12}") {
            if let Err(malformed) = Rule::parse(&text) {
                prop_assert!((1..=text.chars().count() + 1).contains(&malformed.at));
            }
        }

        #[test]
        fn a_quoted_value_matches_itself_only(value in "[^\\p{Cc}]{0,12}", other in "[^\\p{Cc}]{0,12}") {
            let rule = Rule::parse(&format!("label app = {}", quoted(&value))).unwrap();
            let about = |value: &str| Workload { labels: Some(pairs(&[("app", value)])), ..workload() };
            prop_assert!(holds_for(&rule, &about(&value)));
            prop_assert_eq!(holds_for(&rule, &about(&other)), value == other);
        }

        #[test]
        fn a_star_stands_for_any_text(before in "[^\\p{Cc}]{0,4}", after in "[^\\p{Cc}]{1,4}", value in "[^\\p{Cc}]{0,12}") {
            let rule = Rule::parse(&format!("label app = {}*{}", quoted(&before), quoted(&after))).unwrap();
            let about = |value: &str| Workload { labels: Some(pairs(&[("app", value)])), ..workload() };
            prop_assert!(holds_for(&rule, &about(&[&before, value.as_str(), &after].concat())));
            let fits = value.len() >= before.len() + after.len() && value.starts_with(&before) && value.ends_with(&after);
            prop_assert_eq!(holds_for(&rule, &about(&value)), fits);
        }
    }
}
