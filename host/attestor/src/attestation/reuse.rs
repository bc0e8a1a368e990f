//! Answers that are used again.
//!
//! A policy is a pure function of its transcript, so an answer holds for as long as every question that led to it would be answered
//! the same. The transcript is recorded where every import passes, so that no question can be forgotten. For the next call the same
//! questions are asked again, of the machine as it is now.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, OnceLock};

use containers::Proven;
use moka::sync::Cache;

use crate::limits;
use crate::workload::{Answer, Question, Workload};

/// The answers of one policy under one configuration. They end with it.
pub struct Answers {
    /// The policy's first question: always the same one, because the policy knows nothing yet.
    first: OnceLock<Question>,
    /// By a hash of the answer to the first question. Where more workloads come than fit, those that come often stay (TinyLFU).
    kept: Cache<u64, Arc<KeptAnswer>>,
    /// Keyed at random, so that a choice of cgroup names is no choice of collisions.
    hasher: RandomState,
}

impl Default for Answers {
    fn default() -> Answers {
        // One weight for both bounds: no answer counts for less than its share of the bytes, so that there are never too many.
        let share = limits::ANSWERS_TOTAL / limits::ANSWERS;
        let weight =
            move |_: &u64, answer: &Arc<KeptAnswer>| u32::try_from(answer.bytes.max(share)).unwrap_or(u32::MAX);
        Answers {
            first: OnceLock::new(),
            kept: Cache::builder().max_capacity(limits::ANSWERS_TOTAL as u64).weigher(weight).build(),
            hasher: RandomState::new(),
        }
    }
}

struct KeptAnswer {
    exchanges: Vec<(Question, Answer)>,
    selectors: Vec<String>,
    /// The number of selectors that are the policy's. The rest are the extensions'.
    of_policy: usize,
    /// The bytes of all of it.
    bytes: usize,
}

/// A workload to try components on: the exchanges, and the policy's selectors.
#[derive(Clone)]
pub struct RecordedWorkload {
    /// Every question, and its answer.
    pub exchanges: Vec<(Question, Answer)>,
    /// The policy's selectors.
    pub selectors: Vec<String>,
    /// Whether the workload was attested here. Otherwise it is a sample, which comes with this program.
    pub attested: bool,
}

impl RecordedWorkload {
    /// The container that the workload was proven to be in.
    pub fn container(&self) -> Option<&Proven> {
        container(&self.exchanges)
    }
}

fn container(exchanges: &[(Question, Answer)]) -> Option<&Proven> {
    exchanges.iter().find_map(|(_, answer)| match answer {
        Answer::Container(container) => container.as_ref(),
        _ => None,
    })
}

impl Answers {
    /// The selectors of an earlier answer, if everything that led to it still holds for this workload. The workload keeps the
    /// exchanges: if the policy must run, nothing is asked twice.
    pub fn reuse(&self, workload: &mut Workload) -> Option<Vec<String>> {
        let first = workload.answer(self.first.get()?)?.as_ref().ok()?;
        let answer = self.kept.get(&self.hasher.hash_one(first))?;
        let holds = answer.exchanges.iter().all(|(question, expected)| {
            workload.answer(question).is_some_and(|answer| answer.as_ref() == Ok(expected))
        });
        holds.then(|| answer.selectors.clone())
    }

    /// Some of the workloads that were attested, to try another policy on. Those in containers come first.
    pub fn recorded(&self) -> Vec<RecordedWorkload> {
        let mut answers: Vec<Arc<KeptAnswer>> = self.kept.iter().map(|(_, answer)| answer).collect();
        answers.sort_by_key(|answer| container(&answer.exchanges).is_none());
        answers.truncate(limits::TRIALS);
        let recorded = answers.iter().map(|answer| RecordedWorkload {
            exchanges: answer.exchanges.clone(),
            selectors: answer.selectors.iter().take(answer.of_policy).cloned().collect(),
            attested: true,
        });
        recorded.collect()
    }

    /// Keeps an answer, unless the policy was answered with a fault. The first `of_policy` selectors are the policy's.
    pub fn keep(&self, workload: &Workload, selectors: &[String], of_policy: usize) {
        let exchanges = workload.transcript().exchanges().iter();
        let exchanges: Result<Vec<(Question, Answer)>, _> = exchanges
            .map(|exchange| Ok((exchange.question.clone(), exchange.answer.clone()?)))
            .collect::<Result<_, sandbox::Fault>>();
        let in_selectors: usize = selectors.iter().map(String::len).sum();
        let Ok(exchanges) = exchanges else { return };
        let Some((question, answer)) = exchanges.first() else { return };
        if in_selectors > limits::ANSWER_KEPT || self.first.get_or_init(|| question.clone()) != question {
            return;
        }
        let key = self.hasher.hash_one(answer);
        let in_exchanges = exchanges.iter().map(|(question, answer)| question.bytes() + answer.bytes());
        let bytes = in_selectors + in_exchanges.sum::<usize>();
        let kept = KeptAnswer { exchanges, selectors: selectors.to_vec(), of_policy, bytes };
        self.kept.insert(key, Arc::new(kept));
    }
}
