//! What the rules may ask about a workload.

use std::collections::BTreeMap;

use crate::component::exports::docker_attestor::policy::deriver::{Image, Workload};
use crate::rule::Subject;

/// The facts of one workload.
pub(crate) struct Facts<'a> {
    /// Sorted by key, as the contract says.
    labels: &'a [(String, String)],
    /// The variables that the rules name. No others are compared with one another, because anyone who starts a container could choose
    /// names that take long to compare.
    env: BTreeMap<&'a str, Fact<'a>>,
    image: &'a Image,
}

/// What a workload has of one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fact<'a> {
    Absent,
    /// The value of a variable without `=` is empty.
    Value(&'a str),
    /// An environment variable that is set more than once. Which of its values counts depends on the program that reads it.
    Ambiguous,
}

impl<'a> Facts<'a> {
    /// `variables` are the names of the environment variables that the rules ask for.
    ///
    /// # Errors
    /// The configuration lacks a grant.
    pub(crate) fn new(workload: &'a Workload, variables: impl Iterator<Item = &'a str>) -> Result<Facts<'a>, String> {
        let missing = || "it needs grants = [\"labels\", \"env\", \"image\"]".to_owned();
        let labels = workload.labels.as_deref().ok_or_else(missing)?;
        let texts = workload.env.as_deref().ok_or_else(missing)?;
        let image = workload.image.as_ref().ok_or_else(missing)?;
        let mut env: BTreeMap<_, _> = variables.map(|name| (name, Fact::Absent)).collect();
        for text in texts {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            if let Some(fact) = env.get_mut(name) {
                *fact = if *fact == Fact::Absent { Fact::Value(value) } else { Fact::Ambiguous };
            }
        }
        Ok(Facts { labels, env, image })
    }

    pub(crate) fn of(&self, subject: &Subject) -> Fact<'_> {
        let value = match subject {
            Subject::Label(key) => {
                let at = self.labels.binary_search_by(|(other, _)| other.as_str().cmp(key));
                at.ok().and_then(|index| self.labels.get(index)).map(|(_, value)| value.as_str())
            }
            Subject::Env(name) => return self.env.get(name.as_str()).copied().unwrap_or(Fact::Absent),
            Subject::Image => Some(self.image.name.as_str()).filter(|name| !name.is_empty()),
            Subject::ImageConfigDigest => self.image.id.as_deref(),
            Subject::ImageManifestDigest => self.image.manifest_digest.as_deref(),
        };
        value.map_or(Fact::Absent, Fact::Value)
    }
}
