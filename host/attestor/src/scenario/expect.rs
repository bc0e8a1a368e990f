//! The expected result of an attestation.

use containers::Clause;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attestation::Explanation;
use crate::error::Error;

/// The expected result of an attestation.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Expect {
    /// These selectors, in this order. Empty when the process is not ours.
    Selectors(Vec<String>),
    /// No selectors, because this clause does not hold.
    NotProven(Clause),
    /// An error.
    Error {
        /// The name of the gRPC status code, such as `FailedPrecondition`.
        code: String,
        /// A part of the error's text.
        contains: String,
    },
}

/// The difference between an expectation and a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Difference(String);

impl Expect {
    /// What a run came to, as an expectation. Of an error that names a component it expects the reason, without file and digest.
    pub fn of(run: &Result<Explanation, Error>) -> Expect {
        let error = match run.as_ref().map(|explanation| &explanation.outcome) {
            Ok(Ok(selectors)) => return Expect::Selectors(selectors.clone()),
            Ok(Err(error)) | Err(error) => error,
        };
        let contains = match error {
            Error::Component { reason, .. }
            | Error::Policy { reason, .. }
            | Error::Extension { reason, .. }
            | Error::Refused { reason, .. } => reason.clone(),
            error => error.to_string(),
        };
        Expect::Error { code: format!("{:?}", error.code()), contains }
    }

    /// Compares the result of a run with the expectation.
    ///
    /// # Errors
    /// The difference.
    pub fn judge(&self, run: &Result<Explanation, Error>) -> Result<(), Difference> {
        let (outcome, exchanges) = match run {
            Ok(explanation) => (explanation.outcome.as_ref(), explanation.transcript.exchanges()),
            Err(error) => (Err(error), &[][..]),
        };
        let difference = |text: String| Err(Difference(text));
        match (self, outcome) {
            (Expect::Selectors(expected), Ok(got)) if expected == got => Ok(()),
            (Expect::NotProven(clause), Ok(got)) if got.is_empty() => {
                match exchanges.iter().any(|exchange| exchange.not_proven == Some(*clause)) {
                    true => Ok(()),
                    false => {
                        let notes: Vec<String> = exchanges.iter().map(|exchange| exchange.note.to_string()).collect();
                        difference(format!("expected that clause {clause} does not hold, got {notes:?}"))
                    }
                }
            }
            (Expect::Error { code, contains }, Err(error))
                if format!("{:?}", error.code()) == *code && error.to_string().contains(contains) =>
            {
                Ok(())
            }
            (expected, Ok(got)) => difference(format!("expected {expected:?}, got {got:?}")),
            (expected, Err(error)) => difference(format!("expected {expected:?}, got {:?}: {error}", error.code())),
        }
    }
}
