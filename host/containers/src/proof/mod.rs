//! The proof that a process is in a container.
//!
//! A container id that comes from a cgroup path or from a job's name is a claim, because the process may have chosen it. Only
//! [`prove`] makes a [`Proven`]. It compares the claim with what the engine says, and with what the kernel says of the container's
//! init process and of the claimant. Each clause is one function, and the clauses are checked in the order of the table. A clause
//! that does not hold becomes a [`NotProven`], which names the clause and what to do.
//!
//! On Linux (`cgroups.rs`):
//!
//! | clause | what holds | where |
//! |---|---|---|
//! | a | the claim is 64 lowercase hex digits, and the engine answers with exactly that id and an init pid | [`ContainerId`], [`Init::find`] |
//! | b | the engine's pids are ours: its socket's peer is in our pid namespace | `engine::connection::linux` |
//! | c | init is genuine: it started before the engine was asked, and is pid 1 of a trusted pid namespace directly below ours | `Cgroups::of_init` |
//! | d | the container's cgroup lies in no other container's cgroup, except one that the engine or we are in, or one that `CgroupParent` names | `Above::explains` |
//! | d | the claimant's cgroup is the container's or below it, in every hierarchy that names the container | `below_container` |
//! | e | no other container's cgroup lies between the container's and the claimant's, unless the claimant is in a nested pid namespace | `no_container_between` |
//! | f | the claimant's pid namespace is init's or a descendant of it | `within_namespace` |
//!
//! On Windows (`jobs.rs`):
//!
//! | clause | what holds | where |
//! |---|---|---|
//! | a | the same | [`ContainerId`], [`Init::find`] |
//! | b | the engine is the machine's: the pipe and its server belong to LocalSystem or to an administrator | `engine::connection::windows` |
//! | c | init is genuine: the container runs with process isolation, and the process that the engine names is in the container's job | `jobs::check_init` |
//! | d | the claimant is in the container's job, which the container manager holds and which the host found itself | `jobs::check_claimant` |
//!
//! A claimant and an init process are held open from the first read to the last, so that all reads are of one process. On Windows a
//! handle keeps the pid. On Linux a pid belongs to its process for as long as the pidfd shows that it lives. So the pidfd is asked
//! after each file is opened by the pid, and an open file stays one of its process. Init's pidfd is asked last, after all reads.

mod cgroups;
mod jobs;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::cgroups::Cgroups;
use crate::container::{Container, ContainerId, TooLarge};
use crate::engine::Inspected;
use crate::process::{Evidence, Process, Processes, System};

impl ContainerId {
    /// Parses the container id of a claim.
    ///
    /// # Errors
    /// [`NotProven`] if clause a does not hold.
    pub fn parse(claim: &str) -> Result<ContainerId, NotProven> {
        ContainerId::new(claim).ok_or_else(|| {
            let start: String = claim.chars().take(80).collect();
            NotProven {
                clause: Clause::Id,
                seen: format!("\"{}\" is not a container id of 64 lowercase hex digits", start.escape_debug()),
                remedy: "it must be the whole id: where a matcher found it, its <id> must stand for the whole",
            }
        })
    }
}

/// A container that the workload has been proven to be in.
#[derive(Clone)]
pub struct Proven(Arc<Container>);

impl Proven {
    /// The facts that the policy may see.
    pub fn container(&self) -> &Container {
        &self.0
    }
}

impl PartialEq for Proven {
    /// Compares the facts. Two proofs from the same answer of the engine share their facts and compare equal without a
    /// look at them.
    fn eq(&self, other: &Proven) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

/// A clause of the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Clause {
    /// The claim is a whole container id, and the engine answers with that id.
    #[serde(rename = "a")]
    Id,
    /// The engine is the one of this machine, whose pids are ours.
    #[serde(rename = "b")]
    Engine,
    /// The init process is genuine.
    #[serde(rename = "c")]
    Init,
    /// Init and the claimant are in the container's cgroup, or on Windows the claimant is in its job.
    #[serde(rename = "d")]
    Membership,
    /// No other container's cgroup lies between the container's and the claimant's.
    #[serde(rename = "e")]
    NothingBetween,
    /// The claimant is in init's pid namespace or below it.
    #[serde(rename = "f")]
    PidNamespace,
}

impl Clause {
    /// Every clause, in the table's order.
    pub const ALL: [Clause; 6] =
        [Clause::Id, Clause::Engine, Clause::Init, Clause::Membership, Clause::NothingBetween, Clause::PidNamespace];

    /// The clause's letter in the table.
    pub fn letter(self) -> &'static str {
        match self {
            Clause::Id => "a",
            Clause::Engine => "b",
            Clause::Init => "c",
            Clause::Membership => "d",
            Clause::NothingBetween => "e",
            Clause::PidNamespace => "f",
        }
    }
}

impl fmt::Display for Clause {
    /// Writes the clause's letter.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.letter())
    }
}

/// Why a claim is not proven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not proven (clause {clause}): {seen}; {remedy}")]
pub struct NotProven {
    /// The clause that does not hold.
    pub clause: Clause,
    /// What was seen.
    pub seen: String,
    /// What an operator can do about it.
    pub remedy: &'static str,
}

/// The init process of a container, as the kernel shows it. It is cached together with the engine's answer, because the
/// answer belongs to this process and not to the id.
pub struct Init {
    process: Arc<dyn Process>,
    pid: i32,
    place: Place,
}

/// Where a process must be to be in the container.
enum Place {
    /// Linux: in the container's cgroup.
    Cgroups(Cgroups),
    /// Windows: in the container's job.
    Job,
}

/// What the host can check about pid namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofContext {
    /// We may read other users' namespace links (CAP_SYS_PTRACE). If `true`, an unreadable link means that the claim is
    /// not proven. If `false`, clause f and the namespace's owner in clause c are skipped, and Configure has warned of
    /// that.
    pub reads_namespaces: bool,
    /// The operator declares that the engine's pids are ours (`engine_shares_pid_namespace`). The engine may then run
    /// in a pid namespace below ours, so that its containers' namespaces lie deeper than one level below ours.
    pub declared: bool,
}

impl ProofContext {
    /// Every clause is checked.
    pub const ALL: ProofContext = ProofContext { reads_namespaces: true, declared: false };

    /// What of the table is not checked, each with its clause. Empty if every clause is checked.
    pub fn left_out(self) -> Vec<&'static str> {
        let declared = self.declared.then_some("clause b, which engine_shares_pid_namespace declares");
        let namespaces = (!self.reads_namespaces)
            .then_some("clause f, and the owner of the pid namespace in clause c, which need CAP_SYS_PTRACE");
        declared.into_iter().chain(namespaces).collect()
    }
}

/// Why no init process is accepted.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The process that the engine names is not the container's init.
    #[error(transparent)]
    NotProven(#[from] NotProven),
    /// The processes could not be read, for example because no file descriptor was free. The failure is transient and
    /// proves nothing.
    #[error("{0}")]
    Unreadable(String),
}

impl Init {
    /// Finds the init process that the engine names, and checks clause c and init's side of clause d. `asked_at` is
    /// [`Processes::now`] before the engine was asked. Returns `Ok(None)` if there is no such process, or if the
    /// process started after the engine was asked and so is another one.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn find(
        processes: &dyn Processes,
        id: &ContainerId,
        inspected: &Inspected,
        asked_at: u64,
        context: ProofContext,
    ) -> Result<Option<Init>, InitError> {
        let pid = inspected.pid;
        let found = || -> Result<Option<Init>, InitFailure> {
            if processes.system() == System::Windows {
                jobs::check_isolation(id, &inspected.isolation)?;
            }
            let Some(process) = processes.open_to_keep(pid)? else { return Ok(None) };
            let place = match processes.system() {
                System::Linux => match Cgroups::of_init(processes, &*process, id, inspected, asked_at, context)? {
                    Some(cgroups) => Place::Cgroups(cgroups),
                    None => return Ok(None),
                },
                System::Windows => {
                    jobs::check_init(id, pid, &process.job_objects()?)?;
                    Place::Job
                }
            };
            let init = Init { process, pid, place };
            Ok(init.alive().then_some(init))
        };
        found().or_else(|failure| match failure {
            InitFailure::NotProven(not_proven) => Err(InitError::NotProven(not_proven)),
            InitFailure::Io(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            InitFailure::Io(error) => Err(unreadable(processes.system(), id, pid, &error)),
        })
    }

    /// Whether this process, and not another one with its pid, still lives.
    pub fn alive(&self) -> bool {
        self.process.alive()
    }

    /// The pid of init in our pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }
}

/// Why an init process is not accepted, before it is known whether the process is only gone.
#[derive(Debug)]
enum InitFailure {
    NotProven(NotProven),
    Io(io::Error),
}

impl From<NotProven> for InitFailure {
    fn from(not_proven: NotProven) -> InitFailure {
        InitFailure::NotProven(not_proven)
    }
}

impl From<io::Error> for InitFailure {
    fn from(error: io::Error) -> InitFailure {
        InitFailure::Io(error)
    }
}

fn unreadable(system: System, id: &ContainerId, pid: i32, error: &io::Error) -> InitError {
    let seen = format!("the init process {pid} of container {id} cannot be read: {error}");
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData => InitError::NotProven(NotProven {
            clause: Clause::Init,
            seen,
            remedy: match system {
                System::Linux => {
                    "run the agent as root, in the host's pid namespace, with /proc mounted without hidepid"
                }
                System::Windows => "run the agent as LocalSystem, or as an administrator with SeDebugPrivilege",
            },
        }),
        _ => InitError::Unreadable(seen),
    }
}

/// A container that runs, as the engine described it, and the init process that the description belongs to.
pub struct RunningContainer {
    pub(crate) id: ContainerId,
    pub(crate) container: Result<Arc<Container>, TooLarge>,
    pub(crate) init: Init,
    pub(crate) context: ProofContext,
    pub(crate) fetched: Instant,
}

impl RunningContainer {
    /// Proves that the process, of which the operating system shows `evidence`, is in this container.
    ///
    /// # Errors
    /// The clause that does not hold. `Ok(Err(…))`: the process is in the container, but the container is too large for an answer.
    pub fn prove(&self, process: &dyn Process, evidence: &Evidence) -> Result<Result<Proven, TooLarge>, NotProven> {
        prove(self, process, evidence)
    }

    /// The bytes that its facts take.
    pub(crate) fn bytes(&self) -> usize {
        self.container.as_ref().map_or(0, |container| container.bytes())
    }
}

/// Proves that `process`, of which the operating system shows `evidence`, is in the container. Returns `Ok(Err(…))` if the
/// process is in the container, but the container is too large for any answer.
///
/// # Errors
/// The clause that does not hold.
pub fn prove(
    running: &RunningContainer,
    process: &dyn Process,
    evidence: &Evidence,
) -> Result<Result<Proven, TooLarge>, NotProven> {
    let RunningContainer { id, init, context, container, .. } = running;
    match (&init.place, evidence) {
        (Place::Cgroups(cgroups), Evidence::Cgroup(text)) => cgroups.check_claimant(id, process, text, *context)?,
        (Place::Job, Evidence::JobObjects(names)) => jobs::check_claimant(id, names)?,
        _ => {
            return Err(NotProven {
                clause: Clause::Membership,
                seen: "the claim comes from another operating system than the container".to_owned(),
                remedy: "report it: the attestor mixed two machines",
            });
        }
    }
    Ok(container.clone().map(Proven))
}
