//! Shows the mistakes in a file as a compiler does: the place, the line, and the text to write instead. The parts of a line
//! that may hold a secret are hidden.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use bounded::text::printable;
use hcl1::{Found, Position, Token};

use super::style::Style;
use crate::config::{Invalid, Problem, Visible, is_key, looks_like_key};
use crate::limits::PROBLEMS;

/// Characters of a line that are shown, and those of them before the place that is pointed at.
const LINE: (usize, usize) = (160, 60);
/// Characters of a line before and after the place that are looked at. A line may have a mebibyte.
const NEAR: usize = 400;
/// Stands for what is hidden.
const HIDDEN: &str = "…";

/// A file that was read, and the mistakes in it.
#[derive(Debug)]
pub(super) struct Source {
    /// The file's name for messages.
    pub(super) name: String,
    pub(super) text: String,
    /// Which parts of the text may be shown.
    pub(super) visible: Visible,
    /// What refuses the configuration.
    pub(super) errors: Vec<Problem>,
    /// Possible mistakes.
    pub(super) warnings: Vec<Problem>,
}

impl Source {
    /// A file with nothing wrong. Only its keys may be shown.
    pub(super) fn new(name: String, text: String) -> Source {
        Source { name, text, visible: Visible::default(), errors: Vec::new(), warnings: Vec::new() }
    }

    /// Errors, and then warnings, for programs.
    pub(super) fn to_json(&self) -> impl Iterator<Item = serde_json::Value> {
        let errors = self.errors.iter().map(|problem| (problem, "error"));
        let warnings = self.warnings.iter().map(|problem| (problem, "warning"));
        errors.chain(warnings).map(|(problem, severity)| {
            serde_json::json!({
                "severity": severity,
                "file": self.name,
                "line": problem.position.map(|position| position.line),
                "column": problem.position.map(|position| position.column),
                "message": problem.headline(),
                "help": problem.help,
            })
        })
    }

    /// Prints errors and warnings in the order of the text, and then those without a place in it.
    pub(super) fn print(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let errors = self.errors.iter().map(|problem| (problem, style.bad("error")));
        let warnings = self.warnings.iter().map(|problem| (problem, style.bold("warning")));
        let mut problems: Vec<(&Problem, String)> = errors.chain(warnings).collect();
        problems.sort_by_key(|(problem, _)| (problem.position.is_none(), problem.position));
        let tokens = if problems.is_empty() { Vec::new() } else { hcl1::tokens(&self.text) };
        for (problem, severity) in problems.iter().take(PROBLEMS) {
            let place = problem.position.map(|Position { line, column }| format!(":{line}:{column}"));
            let place = printable(&self.name) + &place.unwrap_or_default();
            writeln!(out, "{}: {severity}: {}", style.bold(&place), printable(&problem.headline()))?;
            let excerpt = problem.position.and_then(|position| Excerpt::of(self, &tokens, position));
            if let (Some(position), Some(Excerpt { line, caret, width })) = (problem.position, excerpt) {
                writeln!(out, "{} {line}", style.dim(&format!("{:5} |", position.line)))?;
                let marks = " ".repeat(caret) + &style.bad(&"^".repeat(width));
                writeln!(out, "{} {marks}", style.dim("      |"))?;
            }
            if let Some(help) = &problem.help {
                writeln!(out, "      {} help: {}", style.dim("="), printable(help))?;
            }
        }
        match problems.len().saturating_sub(PROBLEMS) {
            0 => Ok(()),
            more => writeln!(out, "{}: and {more} more", printable(&self.name)),
        }
    }
}

/// The errors in one line.
impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.name, Invalid { errors: self.errors.clone() })
    }
}

/// A line without its secrets, and what to point at in it.
struct Excerpt {
    line: String,
    /// Characters before the place.
    caret: usize,
    /// Characters of the place.
    width: usize,
}

impl Excerpt {
    fn of(source: &Source, tokens: &[Token], position: Position) -> Option<Excerpt> {
        let line: Vec<char> = source.text.lines().nth(position.line - 1)?.chars().collect();
        let slice = |from: usize, to: usize| -> String {
            let to = to.min(line.len() + 1);
            line.get(from.min(to).saturating_sub(1)..to.saturating_sub(1)).unwrap_or_default().iter().collect()
        };
        let mut shown = Shown::default();
        let mut column = position.column.saturating_sub(NEAR).max(1);
        let mut last = line.len() + 1;
        if column > 1 {
            shown.add(HIDDEN);
        }
        let near = Position { line: position.line, column };
        let first = tokens.partition_point(|token| token.end <= near);
        for (index, token) in tokens.iter().enumerate().skip(first) {
            if token.start.line > position.line {
                break;
            }
            let from = if token.start.line < position.line { 1 } else { token.start.column };
            let to = if token.end.line > position.line { line.len() + 1 } else { token.end.column };
            if from > position.column + NEAR {
                last = column;
                break;
            }
            shown.between(&slice(column, from));
            let before = index.checked_sub(1).and_then(|before| tokens.get(before));
            let start = shown.length;
            match is_visible(source, token, before, &slice(from, to)) {
                true => shown.add(&slice(from, to)),
                false => shown.add(HIDDEN),
            }
            if (from..to).contains(&position.column) {
                shown.place = Some((start, shown.length - start));
            }
            column = to;
        }
        // The place may be the end of the line, or a character that belongs to no token.
        let place = shown.place.unwrap_or_else(|| {
            shown.between(&slice(column, position.column.max(column)));
            column = column.max(position.column);
            (shown.length, 1)
        });
        match last < line.len() {
            true => shown.hide(),
            false => shown.between(&slice(column, last)),
        }
        Some(shown.window(place))
    }
}

/// Whether a token may be shown. In a text that cannot be parsed nothing but signs and keys may.
fn is_visible(source: &Source, token: &Token, before: Option<&Token>, text: &str) -> bool {
    if source.visible.shows(token.start) {
        return true;
    }
    match token.kind {
        Found::Sign(_) | Found::Bool | Found::Null => true,
        Found::String => is_key(text.trim_matches('"')),
        // A misspelt key, but not a value without its quotes, nor the inside of a string that a missing quote turned out.
        Found::Identifier => {
            let value = before.is_some_and(|before| match before.kind {
                Found::Sign('=' | ':') => true,
                Found::Identifier | Found::String => before.end.line == token.start.line,
                _ => false,
            });
            is_key(text) || !value && looks_like_key(text)
        }
        _ => false,
    }
}

/// The part of a line that was made safe to show so far.
#[derive(Default)]
struct Shown {
    line: String,
    /// Characters of the line.
    length: usize,
    place: Option<(usize, usize)>,
}

impl Shown {
    fn add(&mut self, text: &str) {
        let text = printable(&text.replace('\t', "    "));
        self.length += text.chars().count();
        self.line.push_str(&text);
    }

    /// Adds what stands between tokens. White space is shown. Comments are hidden, and so is what belongs to no token.
    fn between(&mut self, text: &str) {
        let content = text.trim_start();
        self.add(text.strip_suffix(content).unwrap_or_default());
        if !content.is_empty() {
            self.hide();
        }
    }

    /// Stands for any number of parts that are hidden one after another.
    fn hide(&mut self) {
        if !self.line.ends_with(HIDDEN) {
            self.add(HIDDEN);
        }
    }

    /// The part of the line around the place.
    fn window(self, (caret, width): (usize, usize)) -> Excerpt {
        let (most, before) = LINE;
        let from = if self.length > most { caret.saturating_sub(before) } else { 0 };
        let mut line = String::new();
        if from > 0 {
            let _ = write!(line, "{HIDDEN}");
        }
        let shift = line.chars().count();
        line.extend(self.line.chars().skip(from).take(most));
        if self.length > from + most {
            line.push_str(HIDDEN);
        }
        let caret = caret - from + shift;
        let end = line.chars().count();
        Excerpt { line: line.trim_end().to_owned(), caret, width: width.min(end.saturating_sub(caret)).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, line: usize, column: usize) -> String {
        let mut source = Source::new("f".to_owned(), text.to_owned());
        source.errors.push(Problem::new("wrong", Some(Position { line, column })));
        if let Ok(document) = hcl1::parse(text) {
            source.visible = Visible::of(&document);
        }
        let mut out = Vec::new();
        source.print(&mut out, Style::plain()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_mark_stands_below_the_place() {
        for (text, line, column, lines) in [
            ("docker_version = \"v1\"", 1, 18, "    1 | docker_version = \"v1\"\n      |                  ^^^^\n"),
            ("\tdocker_version = 1\r\n\tx = 2\r\n", 2, 2, "    2 |     x = …\n      |     ^\n"),
            ("sigstore {\n  cache {} # a comment", 2, 23, "    2 |   cache {} …\n      |             ^\n"),
            ("docker_version = \"v1", 1, 21, "    1 | docker_version = …\n      |                   ^\n"),
            (
                "policy { path = \"\u{1b}[31m\" }",
                1,
                17,
                "    1 | policy { path = \"\\u{1b}[31m\" }\n      |                 ^^^^^^^^^^^^\n",
            ),
        ] {
            assert_eq!(shown(text, line, column), format!("f:{line}:{column}: error: wrong\n{lines}"), "{text}");
        }
    }

    #[test]
    fn a_place_beyond_the_text_has_no_line() {
        assert_eq!(shown("a", 7, 1), "f:7:1: error: wrong\n");
        assert_eq!(shown("", 1, 1), "f:1:1: error: wrong\n");
    }

    #[test]
    fn of_a_long_line_the_part_around_the_place_is_shown() {
        let text = format!("{}docker_version = \"v1\"{}", "sigstore {} ".repeat(1_000), " sigstore {}".repeat(1_000));
        let shown = shown(&text, 1, 12_018);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines[1].starts_with("    1 | …") && lines[1].ends_with('…') && lines[1].chars().count() < 180,
            "{shown}"
        );
        let caret = lines[2].find('^').unwrap();
        assert_eq!(lines[1].chars().skip(caret).take(4).collect::<String>(), "\"v1\"", "{shown}");
    }
}
