//! The findings about a configuration: errors, warnings and notes.

/// All findings about one configuration. The texts hold keys and positions, never the value of a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Errors; a single one refuses the configuration.
    pub errors: Vec<String>,
    /// Possible mistakes; the configuration is used all the same.
    pub warnings: Vec<String>,
    /// Notes for information.
    pub notes: Vec<Note>,
}

/// A fact about the configuration that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The part of the configuration that the note is about.
    pub section: Section,
    /// The text of the note.
    pub text: String,
}

/// A part of the configuration that has notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// How container ids are found.
    Locator,
    /// `sigstore { … }`
    Sigstore,
}

impl Report {
    /// Adds an error.
    pub fn error(&mut self, text: impl Into<String>) {
        self.errors.push(text.into());
    }

    /// Adds a warning.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// Adds a note.
    pub fn note(&mut self, section: Section, text: impl Into<String>) {
        self.notes.push(Note { section, text: text.into() });
    }

    /// Returns the value, or adds the error and returns `None`.
    pub(super) fn keep<T>(&mut self, outcome: Result<T, ValueError>) -> Option<T> {
        outcome.map_err(|error| self.error(error.to_string())).ok()
    }
}

/// Why a value is refused. The text names the key and says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct ValueError(String);

impl From<String> for ValueError {
    fn from(text: String) -> ValueError {
        ValueError(text)
    }
}
