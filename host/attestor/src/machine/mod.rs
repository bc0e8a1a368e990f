//! The machine that an attestor works on: its processes, and the engine that a configuration names.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

use std::io;
use std::sync::Arc;

use containers::engine::docker::DockerEngine;
use containers::engine::{Engine, Observer};
use containers::process::{ManagerAccount, Processes};
use sandbox::Fault;

#[cfg(target_os = "linux")]
use self::linux as system;
#[cfg(windows)]
use self::windows as system;
use crate::config::Configuration;
use crate::workload::decision::Decision;

/// A machine.
pub trait Machine: Send + Sync {
    /// The machine's processes.
    fn processes(&self) -> Arc<dyn Processes>;

    /// The engine that the configuration names. It is not connected to yet.
    fn engine(&self, configuration: &Configuration, observer: Observer) -> Arc<dyn Engine>;

    /// Whether the namespaces of other users' processes can be read (CAP_SYS_PTRACE). Always on Windows, which has none.
    fn reads_namespaces(&self) -> bool;

    /// The verdict on every image, where it is recorded. Otherwise a verifier decides, if the configuration asks for one.
    fn recorded_decision(&self) -> Option<Result<Decision, Fault>> {
        None
    }
}

/// The machine that the program runs on.
pub struct ThisMachine {
    processes: Arc<dyn Processes>,
}

/// How the program opens the machine that it runs on: [`ThisMachine::open`], or another way in a program for tests.
pub type OpenMachine = fn() -> io::Result<ThisMachine>;

impl ThisMachine {
    /// Opens the machine.
    ///
    /// # Errors
    /// Linux: /proc cannot be opened, or is that of another pid namespace.
    pub fn open() -> io::Result<ThisMachine> {
        Ok(ThisMachine { processes: system::processes(ManagerAccount::LocalSystem)? })
    }

    /// Opens the machine for tests under wine, where all processes have one account: the container manager may run as any account.
    /// The program never calls this.
    ///
    /// # Errors
    /// As [`ThisMachine::open`].
    pub fn open_under_wine() -> io::Result<ThisMachine> {
        Ok(ThisMachine { processes: system::processes(ManagerAccount::Any)? })
    }
}

impl Machine for ThisMachine {
    fn processes(&self) -> Arc<dyn Processes> {
        Arc::clone(&self.processes)
    }

    fn engine(&self, configuration: &Configuration, observer: Observer) -> Arc<dyn Engine> {
        Arc::new(DockerEngine::new(
            configuration.docker.clone(),
            configuration.docker_version,
            configuration.engine_shares_pid_namespace,
            observer,
        ))
    }

    fn reads_namespaces(&self) -> bool {
        system::reads_namespaces()
    }
}

/// A machine with one engine, whatever the configuration names: a recorded machine, one that is being recorded, or a test's.
pub struct FixedMachine {
    /// The machine's processes.
    pub processes: Arc<dyn Processes>,
    /// The machine's engine.
    pub engine: Arc<dyn Engine>,
    /// Whether the namespaces of other users' processes can be read.
    pub reads_namespaces: bool,
    /// The verdict on every image, where it is recorded.
    pub decision: Option<Result<Decision, Fault>>,
}

impl Machine for FixedMachine {
    fn processes(&self) -> Arc<dyn Processes> {
        Arc::clone(&self.processes)
    }

    fn engine(&self, _: &Configuration, _: Observer) -> Arc<dyn Engine> {
        Arc::clone(&self.engine)
    }

    fn reads_namespaces(&self) -> bool {
        self.reads_namespaces
    }

    fn recorded_decision(&self) -> Option<Result<Decision, Fault>> {
        self.decision.clone()
    }
}
