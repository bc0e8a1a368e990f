//! Answers that are used again (decision 10). A policy is a pure function of what it is told: an answer holds for as long as
//! every question that led to it would be answered the same. What was told is recorded where every import passes, so that no
//! capability can be forgotten; for the next call the same questions are asked again, of the machine as it is now.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, OnceLock};

use moka::sync::Cache;

use crate::components::trial::{Recorded, proven};
use crate::limits;
use crate::workload::{Import, Told, Workload};

/// The answers of one policy under one configuration; they end with it.
pub struct Answers {
    /// What the policy asks first: always the same, it knows nothing yet.
    first: OnceLock<Import>,
    /// By a hash of what the policy was told first. Where more workloads come than fit, those that come often stay (TinyLFU).
    kept: Cache<u64, Arc<Answer>>,
    /// Keyed at random: who chooses cgroup names must not choose collisions.
    hasher: RandomState,
}

impl Default for Answers {
    fn default() -> Answers {
        // One weight for both bounds: no answer counts for less than its share of the bytes, so that there are never too many.
        let share = limits::ANSWERS_TOTAL / limits::ANSWERS;
        let weight = move |_: &u64, answer: &Arc<Answer>| u32::try_from(answer.bytes.max(share)).unwrap_or(u32::MAX);
        Answers {
            first: OnceLock::new(),
            kept: Cache::builder().max_capacity(limits::ANSWERS_TOTAL as u64).weigher(weight).build(),
            hasher: RandomState::new(),
        }
    }
}

struct Answer {
    asked: Vec<(Import, Told)>,
    selectors: Vec<String>,
    /// How many of them are the policy's; the rest are the extensions'.
    of_policy: usize,
    /// Bytes of all of it.
    bytes: usize,
}

impl Answers {
    /// The selectors of an earlier answer, if all that led to it still holds for this workload. What was asked for that stays
    /// with the workload: if the policy must run, nothing is asked twice.
    pub fn reuse(&self, workload: &mut Workload) -> Option<Vec<String>> {
        let first = self.hasher.hash_one(workload.ask(self.first.get()?)?);
        let answer = self.kept.get(&first)?;
        let holds = answer.asked.iter().all(|(import, told)| workload.ask(import) == Some(told));
        holds.then(|| answer.selectors.clone())
    }

    /// Some of the workloads that were attested, to try another policy on; those in containers first.
    pub fn recorded(&self) -> Vec<Recorded> {
        let mut answers: Vec<Arc<Answer>> = self.kept.iter().map(|(_, answer)| answer).collect();
        answers.sort_by_key(|answer| proven(&answer.asked).is_none());
        answers.truncate(limits::TRIALS);
        let recorded = answers.iter().map(|answer| Recorded {
            asked: answer.asked.clone(),
            selectors: answer.selectors.iter().take(answer.of_policy).cloned().collect(),
        });
        recorded.collect()
    }

    /// Keeps an answer, unless an error was among what the policy was told. The first `of_policy` selectors are the policy's.
    pub fn keep(&self, workload: &Workload, selectors: &[String], of_policy: usize) {
        let asked = workload.asked();
        let Some(first) = asked.first() else { return };
        let in_selectors: usize = selectors.iter().map(String::len).sum();
        if asked.iter().any(|asked| asked.told.err().is_some()) || in_selectors > limits::ANSWER_KEPT {
            return;
        }
        let bytes = in_selectors + asked.iter().map(|asked| asked.import.bytes() + asked.told.bytes()).sum::<usize>();
        if self.first.get_or_init(|| first.import.clone()) != &first.import {
            return;
        }
        let answer = Answer {
            asked: asked.iter().map(|asked| (asked.import.clone(), asked.told.clone())).collect(),
            selectors: selectors.to_vec(),
            of_policy,
            bytes,
        };
        self.kept.insert(self.hasher.hash_one(&first.told), Arc::new(answer));
    }
}
