//! What a policy asked about one workload, and what it was answered.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use containers::process::{CgroupMount, ProcessCredentials};
use containers::{Clause, Proven, Source};
use sandbox::Fault;

use super::decision::Decision;
use super::question::Question;

/// The answer to a question, when there is one.
#[derive(Clone, PartialEq)]
pub enum Answer {
    /// The text of /proc/PID/cgroup, every line of which can be parsed. Empty when the process is gone.
    Cgroups(Arc<[u8]>),
    /// The cgroup mounts that the process sees.
    CgroupMounts(Vec<CgroupMount>),
    /// The names of the job objects that the process is in.
    JobObjectNames(Vec<String>),
    /// The proven container, or `None`.
    Container(Option<Proven>),
    /// The decision on the container's image.
    Verify(Decision),
    /// The process's user, or `None` when the process is gone.
    Credentials(Option<ProcessCredentials>),
}

impl Hash for Answer {
    /// Hashes the answers that can come first in a transcript. Equal answers hash equally.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Answer::Cgroups(text) => text.hash(state),
            Answer::JobObjectNames(names) => names.hash(state),
            _ => {}
        }
    }
}

impl Answer {
    /// How many bytes of memory the answer takes, approximately.
    pub fn bytes(&self) -> usize {
        match self {
            Answer::Cgroups(text) => text.len(),
            Answer::CgroupMounts(mounts) => {
                mounts.iter().map(|mount| size_of::<CgroupMount>() + mount.root.len() + mount.fs_type.len()).sum()
            }
            Answer::JobObjectNames(names) => names.iter().map(|name| size_of::<String>() + name.len()).sum(),
            Answer::Container(Some(proven)) => proven.container().bytes(),
            // Verdicts are shared with the cached ones, and have 500 signatures at most.
            Answer::Container(None) | Answer::Verify(_) | Answer::Credentials(_) => 0,
        }
    }
}

/// What led to an answer, for `explain`. A note becomes a text only when it is shown.
#[derive(Debug, Clone)]
pub enum Note {
    /// The process with this pid is gone.
    ProcessGone(i32),
    /// The cgroups of a process were read.
    CgroupsRead {
        /// The process.
        pid: i32,
        /// The number of lines in its /proc/PID/cgroup.
        lines: usize,
    },
    /// A container was proven.
    Proven {
        /// Where the engine's answer came from.
        source: Source,
        /// The container's init process.
        init_pid: i32,
    },
    /// Any other text.
    Text(String),
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::ProcessGone(pid) => write!(formatter, "process {pid} is gone"),
            Note::CgroupsRead { pid, lines } => write!(formatter, "read /proc/{pid}/cgroup: {lines} lines"),
            Note::Proven { source, init_pid } => write!(formatter, "{source}; proven against init process {init_pid}"),
            Note::Text(text) => formatter.write_str(text),
        }
    }
}

impl From<String> for Note {
    fn from(text: String) -> Note {
        Note::Text(text)
    }
}

impl From<&str> for Note {
    fn from(text: &str) -> Note {
        Note::Text(text.to_owned())
    }
}

/// One question and its answer.
#[derive(Clone)]
pub struct Exchange {
    /// The question.
    pub question: Question,
    /// The answer, or the fault instead.
    pub answer: Result<Answer, Fault>,
    /// What the host read, asked and proved for the answer, for `explain`.
    pub note: Note,
    /// The clause of the proof that does not hold, where the answer is no container because of it.
    pub not_proven: Option<Clause>,
    /// How long the answer took.
    pub elapsed: Duration,
}

/// The exchanges of one attestation, in order. An answer of a policy depends on nothing else.
#[derive(Clone, Default)]
pub struct Transcript(Vec<Exchange>);

impl Transcript {
    /// A transcript of recorded exchanges.
    pub fn recorded<'a>(exchanges: impl IntoIterator<Item = (&'a Question, &'a Answer)>) -> Transcript {
        let exchanges = exchanges.into_iter().map(|(question, answer)| Exchange {
            question: question.clone(),
            answer: Ok(answer.clone()),
            note: "recorded".into(),
            not_proven: None,
            elapsed: Duration::ZERO,
        });
        Transcript(exchanges.collect())
    }

    /// The exchanges.
    pub fn exchanges(&self) -> &[Exchange] {
        &self.0
    }

    /// The number of exchanges.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The answer to a question that was asked already.
    pub fn answer(&self, question: &Question) -> Option<&Result<Answer, Fault>> {
        self.0.iter().find(|exchange| exchange.question == *question).map(|exchange| &exchange.answer)
    }

    /// Adds an exchange, and returns its answer.
    pub(super) fn add(&mut self, exchange: Exchange) -> &Result<Answer, Fault> {
        &self.0.push_mut(exchange).answer
    }

    /// The container ids that the policy claimed so far.
    pub fn claims(&self) -> usize {
        self.0.iter().filter(|exchange| matches!(exchange.question, Question::Container(..))).count()
    }

    /// The containers that the policy obtained.
    pub fn containers(&self) -> impl Iterator<Item = &Proven> {
        self.0.iter().filter_map(|exchange| match &exchange.answer {
            Ok(Answer::Container(Some(container))) => Some(container),
            _ => None,
        })
    }

    /// The container that the policy obtained; the first, should it have obtained several.
    pub fn container(&self) -> Option<&Proven> {
        self.containers().next()
    }

    /// The container that extensions may know of. `None` unless the policy obtained exactly one.
    pub fn only_container(&self) -> Option<&Proven> {
        let mut containers = self.containers();
        let first = containers.next()?;
        containers.all(|other| other == first).then_some(first)
    }

    /// The decision on the container's image, if the policy asked for it and obtained one.
    pub fn decision(&self) -> Option<&Decision> {
        self.0.iter().find_map(|exchange| match &exchange.answer {
            Ok(Answer::Verify(decision)) => Some(decision),
            _ => None,
        })
    }
}
