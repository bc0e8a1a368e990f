//! The sandbox: a fresh instance of the policy for each call, with bounded CPU, memory, stack and text. A trap costs its
//! own call only.

pub mod bindings;
pub(crate) mod call;
pub mod compiler;

pub mod inspect;

mod redaction;

mod settings;

use std::sync::Arc;

use bounded::lanes::{Lanes, Turn};
use containers::Claimant;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store, StoreLimitsBuilder, Trap};

use self::call::Call;
use self::compiler::{Compiler, NotCompiled};
use self::inspect::{Description, World};
use self::redaction::Values;
use self::settings::Allocation;
use crate::error::{Error, fault_text, fault_text_mut};
use crate::limits;
use crate::sandbox::bindings::docker_attestor::policy::types::{Diagnostic, Fault, Settings};
use crate::sandbox::bindings::extension::Extension as ExtensionBindings;
use crate::sandbox::bindings::{Policy as Bindings, PolicyPre};
use crate::workload::{Import, Workload};

// `settings` is a part of the build script too, which has no `limits`.
const _: () = assert!(
    settings::MEMORY == limits::GUEST_MEMORY
        && settings::TABLE == limits::GUEST_TABLE
        && settings::STACK == limits::GUEST_STACK
        && settings::SANDBOXES == limits::SANDBOXES
);

/// The policy inside this program, compiled ahead of time when it was built.
static BUILTIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/policy.cwasm"));
/// The digest of the built-in policy's component, `sha256:…`.
pub const BUILTIN_DIGEST: &str = env!("BUILTIN_POLICY_DIGEST");

/// Runs policies.
pub struct Sandbox {
    engine: Engine,
    policies: Linker<Call>,
    pub(crate) extensions: Linker<Call>,
    slots: Lanes<Claimant>,
    compiler: Compiler,
}

/// A policy that is compiled and linked.
pub struct Policy {
    pre: PolicyPre<Call>,
    /// The digest of its component, `sha256:…`.
    pub digest: String,
    /// What its author calls its version.
    pub version: Option<semver::Version>,
}

impl Sandbox {
    /// Reserves the pool, or does without where its address space cannot be had.
    pub fn new() -> wasmtime::Result<Sandbox> {
        let pooling = Engine::new(&settings::config(Allocation::Pooling));
        let engine = match pooling {
            Ok(engine) => engine,
            Err(error) => {
                tracing::warn!(error = %error, "the sandbox pool cannot be reserved: attestations will be slower");
                Engine::new(&settings::config(Allocation::OnDemand))?
            }
        };
        let mut policies = Linker::new(&engine);
        Bindings::add_to_linker::<_, HasSelf<Call>>(&mut policies, |call| call)?;
        let mut extensions = Linker::new(&engine);
        ExtensionBindings::add_to_linker::<_, HasSelf<Call>>(&mut extensions, |call| call)?;
        Ok(Sandbox {
            compiler: Compiler::new(engine.clone()),
            engine,
            policies,
            extensions,
            slots: Lanes::new(limits::SANDBOXES as usize, limits::SANDBOX_WAITERS),
        })
    }

    /// The policy inside this program.
    pub fn builtin(&self) -> wasmtime::Result<Policy> {
        let component = load(&self.engine, BUILTIN)?;
        let version = semver::Version::parse(env!("CARGO_PKG_VERSION")).ok();
        self.link(&component, BUILTIN_DIGEST.to_owned(), version)
    }

    /// Compiles a component off the hot path: calls go on meanwhile.
    ///
    /// # Errors
    /// The compiler's own, or that it needs more time or memory than it may have.
    pub async fn compile(&self, bytes: Arc<[u8]>) -> Result<Component, NotCompiled> {
        self.compiler.compile(bytes).await
    }

    /// Links a compiled component as a policy.
    ///
    /// # Errors
    /// A function that it imports is not there, or it does not export what its world says.
    pub fn policy(&self, component: &Component, description: &Description) -> wasmtime::Result<Policy> {
        self.link(component, description.digest.clone(), description.version.clone())
    }

    /// Describes, compiles and links a policy.
    pub async fn policy_of(&self, bytes: &[u8]) -> wasmtime::Result<Policy> {
        let description = Description::of(bytes)?;
        description.check(World::Policy)?;
        let component = self.compile(Arc::from(bytes)).await?;
        self.policy(&component, &description)
    }

    fn link(
        &self,
        component: &Component,
        digest: String,
        version: Option<semver::Version>,
    ) -> wasmtime::Result<Policy> {
        Ok(Policy { pre: PolicyPre::new(self.policies.instantiate_pre(component)?)?, digest, version })
    }

    /// Asks the policy what it thinks of the settings.
    pub async fn validate(&self, policy: &Policy, settings: &Settings) -> Result<Vec<Diagnostic>, Error> {
        let _slot = self.slot(|| Claimant::Attestor).await?;
        let Instance { mut store, bindings } = self.instance(policy, None).await?;
        let outcome = run(bindings.docker_attestor_policy_attestor().call_validate(&mut store, settings)).await;
        let diagnostics = outcome.map_err(|error| policy.broken(&error, &store))?;
        let long = diagnostics.iter().any(|diagnostic| diagnostic.message.len() > limits::GUEST_TEXT);
        match diagnostics.len() > limits::DIAGNOSTICS || long {
            true => Err(policy.error("its validate returned more diagnostics, or longer ones, than it may")),
            false => Ok(diagnostics),
        }
    }

    /// Runs the policy for a workload: as often as it takes to answer every question it asks. The selectors are checked.
    pub async fn attest(
        &self,
        policy: &Policy,
        settings: &Settings,
        workload: &mut Option<Workload>,
    ) -> Result<Vec<String>, Error> {
        loop {
            match self.attest_once(policy, settings, workload).await? {
                Outcome::Answer(answer) => return checked(policy, answer, workload.as_ref()),
                Outcome::Open(import) => match workload {
                    Some(workload) => workload.fetch(import).await,
                    None => return Err(policy.error("it asked about a workload where there is none")),
                },
            }
        }
    }

    pub(crate) async fn attest_once(
        &self,
        policy: &Policy,
        settings: &Settings,
        workload: &mut Option<Workload>,
    ) -> Result<Outcome, Error> {
        let _slot = self.slot(|| workload.as_mut().map_or(Claimant::Attestor, Workload::claimant)).await?;
        let mut instance = self.instance(policy, workload.take()).await?;
        let outcome = instance.attest(settings).await;
        let open = instance.store.data_mut().open.take();
        let broken = outcome.as_ref().err().map(|error| policy.broken(error, &instance.store));
        *workload = instance.store.data_mut().workload.take();
        match (outcome, open, broken) {
            // The trap that `Call::ask` raised to get out of the sandbox.
            (Err(_), Some(import), _) => Ok(Outcome::Open(import)),
            (Ok(answer), ..) => Ok(Outcome::Answer(answer)),
            (Err(_), None, Some(error)) => Err(error),
            (Err(error), None, None) => Err(policy.error(error)),
        }
    }

    /// A fresh instance of a policy, for one call.
    pub async fn instance(&self, policy: &Policy, workload: Option<Workload>) -> Result<Instance, Error> {
        let mut store = self.store(Call::of_policy(workload))?;
        let bindings = run(policy.pre.instantiate_async(&mut store)).await;
        let bindings = bindings.map_err(|error| policy.broken(&error, &store))?;
        Ok(Instance { store, bindings })
    }

    /// One sandbox, once it is free. The claimant is only asked for where the call must wait.
    pub(crate) async fn slot(&self, claimant: impl FnOnce() -> Claimant) -> Result<Turn<'_>, Error> {
        match self.slots.try_turn() {
            Some(turn) => Ok(turn),
            None => Ok(self.slots.enter(claimant())?.turn(|| false).await),
        }
    }

    /// A fresh store with its own fuel and memory.
    pub(crate) fn store(&self, mut call: Call) -> Result<Store<Call>, Error> {
        call.limits = StoreLimitsBuilder::new()
            .memory_size(limits::GUEST_MEMORY)
            .memories(1)
            .tables(2)
            .table_elements(limits::GUEST_TABLE)
            .instances(8)
            .trap_on_grow_failure(true)
            .build();
        let mut store = Store::new(&self.engine, call);
        store.limiter(|call| &mut call.limits);
        store.set_hostcall_fuel(limits::GUEST_TO_HOST);
        let fuel =
            store.set_fuel(limits::FUEL).and_then(|()| store.fuel_async_yield_interval(Some(limits::FUEL_YIELD)));
        fuel.map_err(|error| Error::Fault(Fault::Malformed(format!("the sandbox's fuel cannot be set: {error}"))))?;
        Ok(store)
    }
}

#[expect(unsafe_code, reason = "the one call that loads compiled code")]
fn load(engine: &Engine, image: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes were made with this wasmtime and these settings (it checks both; how far code is optimized is free): by
    // `build.rs`, and are part of the program; or by this very program a moment ago, which `compiler` started and whose output nobody
    // else could write.
    unsafe { Component::deserialize(engine, image) }
}

/// A policy in its sandbox.
pub struct Instance {
    store: Store<Call>,
    bindings: Bindings,
}

impl Instance {
    /// Calls the policy. A second call goes on with what the first left: only a measurement wants that.
    pub async fn attest(&mut self, settings: &Settings) -> wasmtime::Result<Result<Vec<String>, Fault>> {
        run(self.bindings.docker_attestor_policy_attestor().call_attest(&mut self.store, settings)).await
    }
}

pub(crate) enum Outcome {
    Answer(Result<Vec<String>, Fault>),
    /// The policy asked what takes a fetch first.
    Open(Import),
}

impl Policy {
    /// An error that names this policy.
    pub fn error(&self, reason: impl std::fmt::Display) -> Error {
        Error::Policy { digest: self.digest.clone(), reason: reason.to_string() }
    }

    fn broken(&self, error: &wasmtime::Error, store: &Store<Call>) -> Error {
        self.error(broken(error, store))
    }
}

/// Why a call broke, in the operator's words.
pub(crate) fn broken(error: &wasmtime::Error, store: &Store<Call>) -> String {
    let reason = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => "it used more CPU than a call may (100 ms)".to_owned(),
        Some(Trap::StackOverflow) => {
            format!("it used more stack than a call may ({} KiB)", limits::GUEST_STACK >> 10)
        }
        Some(trap) => format!("it trapped: {trap}"),
        None if error.is::<Elapsed>() => format!("it did not end within {} s", limits::SANDBOX_WALL.as_secs()),
        None => format!("it broke a limit or the contract: {}", error.root_cause()),
    };
    match store.data().panic.as_deref() {
        Some(panic) => format!("{reason} ({panic})"),
        None => reason,
    }
}

/// A policy's answer: selectors that are as they may be, or a fault of its choice, with a bounded text that holds no value of the
/// container.
pub(crate) fn checked(
    policy: &Policy,
    answer: Result<Vec<String>, Fault>,
    workload: Option<&Workload>,
) -> Result<Vec<String>, Error> {
    match answer {
        Ok(selectors) => {
            let refused =
                workload.and_then(|it| crate::attestation::truth::check(&selectors, it, it.extensions()).err());
            refused.map_or(Ok(selectors), |refused| Err(policy.error(refused)))
        }
        Err(fault) if fault_text(&fault).len() > limits::GUEST_TEXT => {
            Err(policy.error(format_args!("its error text is longer than {} bytes", limits::GUEST_TEXT)))
        }
        Err(mut fault) => {
            // What the host itself said stays as it is.
            let told =
                workload.is_some_and(|workload| workload.asked().iter().any(|asked| asked.told.err() == Some(&fault)));
            if let Some(container) = workload.and_then(Workload::container).filter(|_| !told) {
                let text = fault_text_mut(&mut fault);
                (*text, _) = Values::of(container.container(), true, true).redact(text, false);
            }
            Err(Error::Fault(fault))
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("wall time is over")]
struct Elapsed;

pub(crate) async fn run<T>(call: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    match tokio::time::timeout(limits::SANDBOX_WALL, call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(wasmtime::Error::new(Elapsed)),
    }
}

/// A sandbox and its built-in policy, which is what most callers want.
pub fn with_builtin() -> wasmtime::Result<(Sandbox, Arc<Policy>)> {
    let sandbox = Sandbox::new()?;
    let policy = Arc::new(sandbox.builtin()?);
    Ok((sandbox, policy))
}

#[cfg(test)]
mod tests;
