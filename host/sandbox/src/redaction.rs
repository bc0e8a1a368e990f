//! Redaction: takes the values of a container's env and labels out of a component's texts, so that no value reaches a log by accident.
//! (A component that wants to leak a value can always write it in another form.)

use crate::limits;

/// Bytes of the shortest value that is redacted. Shorter ones occur in every text.
const SHORTEST: usize = 3;
/// The replacement of a value.
const REDACTED: &str = "…";

/// The values to redact, sorted.
#[derive(Debug)]
pub(crate) struct Redaction(Vec<Value>);

#[derive(Debug)]
struct Value {
    text: String,
    /// The index of the longest other value that this value begins with.
    prefix: Option<usize>,
}

impl Redaction {
    /// No values.
    pub(crate) const NONE: Redaction = Redaction(Vec::new());

    /// A redaction of these values.
    pub(crate) fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Redaction {
        // No text that may leave the sandbox is longer, so the rest of a longer value never matters.
        let cut = |value: &str| bounded::text::cut(value, limits::GUEST_TEXT).to_owned();
        let values = values.into_iter().filter(|value| value.len() >= SHORTEST);
        let mut texts: Vec<String> = values.map(cut).collect();
        texts.sort_unstable();
        texts.dedup();
        let mut values: Vec<Value> = Vec::with_capacity(texts.len());
        for text in texts {
            let mut prefix = values.len().checked_sub(1);
            while let Some(before) = prefix.and_then(|index| values.get(index)) {
                if text.starts_with(&before.text) {
                    break;
                }
                prefix = before.prefix;
            }
            values.push(Value { text, prefix });
        }
        Redaction(values)
    }

    /// The cost of making the list, as fuel: some 500 ns for each value and 2 ns for each byte.
    pub(crate) fn cost(&self) -> u64 {
        self.0.iter().map(|value| 1_000 + 4 * value.text.len() as u64).sum()
    }

    /// Redacts a text, and returns the cost as fuel. One pass, with some comparisons for each character. If the text was `cut`, the
    /// beginning of a value at its end is redacted too.
    pub(crate) fn redact(&self, text: &str, cut: bool) -> (String, u64) {
        if self.0.is_empty() {
            return (text.to_owned(), 0);
        }
        let mut redacted = String::with_capacity(text.len());
        let mut comparisons = 0;
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            // A value that the text begins with stands before the text in the order. All values between the two begin with it too.
            let after = self.0.partition_point(|value| value.text.as_str() <= rest);
            comparisons += u64::from(usize::BITS - self.0.len().leading_zeros());
            let found = after.checked_sub(1).and_then(|index| self.0.get(index));
            let common = found.map_or(0, |value| common(&value.text, rest));
            comparisons += common as u64 / 8;
            let mut longest = found;
            while let Some(value) = longest.filter(|value| value.text.len() > common) {
                comparisons += 1;
                longest = value.prefix.and_then(|index| self.0.get(index));
            }
            if let Some(value) = longest {
                redacted.push_str(REDACTED);
                rest = rest.get(value.text.len()..).unwrap_or_default();
            } else if cut
                && rest.len() >= SHORTEST
                && self.0.get(after).is_some_and(|value| value.text.starts_with(rest))
            {
                redacted.push_str(REDACTED);
                break;
            } else {
                redacted.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
        (redacted, 40 * comparisons)
    }
}

/// The number of bytes that two texts have in common at their beginning.
fn common(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::string_slice, reason = "values begin and end at characters")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_part_of_a_value_stays() {
        let redaction = Redaction::of(["ann", "ab", "anna", "annabelle", "no-value", ""]);
        let told = "annabelle, anna and ann: A=anna, no-value, ab";
        assert_eq!(redaction.redact(told, false).0, "…, … and …: A=…, …, ab");
        assert_eq!(redaction.redact("a no-val", false).0, "a no-val");
        assert_eq!(redaction.redact("a no-val", true).0, "a …");
        assert_eq!(redaction.redact("a no-val.", true).0, "a no-val.");
    }

    /// The plain way, for comparison: at each place the longest value that fits.
    fn plainly(values: &[String], text: &str) -> String {
        let (mut redacted, mut rest) = (String::new(), text);
        while let Some(first) = rest.chars().next() {
            let longest = values.iter().filter(|value| value.len() >= SHORTEST && rest.starts_with(value.as_str()));
            match longest.max_by_key(|value| value.len()) {
                Some(value) => {
                    redacted.push_str(REDACTED);
                    rest = &rest[value.len()..];
                }
                None => {
                    redacted.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        redacted
    }

    proptest! {
        #[test]
        fn one_pass_finds_what_each_value_alone_finds(
            values in prop::collection::vec("[abé]{0,8}", 0..12),
            text in "[abé ]{0,40}",
        ) {
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            let redacted = Redaction::of(texts).redact(&text, false).0;
            prop_assert_eq!(redacted, plainly(&values, &text));
        }
    }

    /// The most expensive values that a container within the limits can have: they begin with one another, and the text begins with
    /// all of them and equals none.
    #[test]
    fn the_cost_of_the_worst_values_is_bounded() {
        let values: Vec<String> = (3..1_400).map(|length| "a".repeat(length)).collect();
        let texts: Vec<&str> = values.iter().map(String::as_str).collect();
        let (_, cost) = Redaction::of(texts).redact(&"aab".repeat(limits::GUEST_LOG_LINE / 3), true);
        assert!(cost > 1_000_000, "what it takes is counted: {cost}");
        assert!(cost < limits::FUEL_YIELD * 64, "{cost}");
    }
}
