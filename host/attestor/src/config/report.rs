//! What there is to say of a configuration.

/// Everything that was found in one configuration. The texts hold keys and positions, never the value of a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Each refuses the configuration.
    pub errors: Vec<String>,
    /// Each may be a mistake; the configuration is used.
    pub warnings: Vec<String>,
    /// For information.
    pub notes: Vec<Note>,
}

/// Something that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The part of the configuration that it is about.
    pub section: Section,
    /// What there is to know.
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

    /// The value, or `None` with its error added.
    pub fn keep<T>(&mut self, outcome: Result<T, String>) -> Option<T> {
        outcome.map_err(|error| self.error(error)).ok()
    }
}
