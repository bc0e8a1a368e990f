//! Colours, which are used on a terminal only.

use std::io::{IsTerminal as _, stdout};

/// Whether to print colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style(bool);

impl Style {
    /// Enables colours if stdout is a terminal that supports them, and NO_COLOR is not set (no-color.org).
    pub(super) fn of_stdout() -> Style {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Style(wanted && !dumb && stdout().is_terminal())
    }

    /// No colours.
    pub(super) fn plain() -> Style {
        Style(false)
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }
}
