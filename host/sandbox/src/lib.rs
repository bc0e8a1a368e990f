//! Runs policies and extensions as sandboxed WebAssembly components.
//!
//! Every call gets a fresh instance with bounded CPU, memory, stack, time and text. A trap costs its own call only. A policy asks
//! through [`Imports`], which the program implements; an extension is told what it may know when it is called.
//!
//! A call never waits. An import that needs an answer from outside ends the call with [`NeedsFetch`]. The program fetches the answer
//! and calls again, with the imports that now know it. A policy is a pure function of what its imports answer, so the second call
//! comes to the same question and goes on.
//!
//! | module | holds |
//! |---|---|
//! | [`imports`] | the trait that a program implements, and the escape |
//! | `call` | one call: the imports as wasmtime calls them, and their budgets |
//! | [`inspect`] | what a component's file says of itself, read before it is compiled |
//! | [`compiler`] | the compiler, in a process of its own |
//! | [`fault`] | the faults of the contract |
//! | [`needs`] | what a component says that it needs of its configuration |
//! | `redaction` | takes a container's values out of what a component says |

mod bindings;
mod call;
pub mod compiler;
mod error;
pub mod fault;
pub mod imports;
pub mod inspect;
pub mod limits;
pub mod needs;
mod redaction;
mod settings;

use std::sync::Arc;

use bounded::lanes::{Full, Lanes, Turn};
use bounded::text::printable;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store, StoreLimitsBuilder};

use self::bindings::extension::{Extension as ExtensionBindings, ExtensionPre};
use self::bindings::validation::ValidationPre;
use self::bindings::{Policy as PolicyBindings, PolicyPre};
use self::call::Call;
pub use self::compiler::{Compilation, NotCompiled};
pub use self::error::{CallError, LinkError, SetupError};
pub use self::fault::{Fault, FaultKind};
use self::imports::NoWorkload;
pub use self::imports::{ImportResult, Imports, NeedsFetch, Values};
use self::settings::Allocation;

/// The contract's types, as wit/policy.wit documents them.
pub mod wit {
    pub use crate::bindings::docker_attestor::policy::docker::{Engine, ProvenContainer};
    pub use crate::bindings::docker_attestor::policy::process::{Cgroup, CgroupMount};
    pub use crate::bindings::docker_attestor::policy::sigstore::{Signature, Verdict, Verified};
    pub use crate::bindings::docker_attestor::policy::types::{Capabilities, Diagnostic, Settings, Severity};
    pub use crate::bindings::extension::exports::docker_attestor::policy::deriver::{
        Credentials, Image, Workload as Granted,
    };
}

use self::wit::{Diagnostic, Granted, Settings};

/// The name of policies in the log.
const POLICY: &str = "policy";
/// The interface of extensions that check their settings. A component of a later minor version exports it under that version.
const SETTINGS_VALIDATOR: &str = "docker-attestor:policy/settings-validator@1.1.0";

/// Compiles and runs components. `I` is what policies ask.
pub struct Sandbox<I: Imports> {
    engine: Engine,
    policies: Linker<Call<I>>,
    /// Links policies whose settings are validated.
    validated: Linker<Call<NoWorkload>>,
    extensions: Linker<Call<NoWorkload>>,
    slots: Lanes<I::Claimant>,
    compiler: compiler::Compiler,
}

/// A compiled component, not linked yet.
#[derive(Clone)]
pub struct Compiled(Component);

impl Compiled {
    /// The bytes of its machine code and data.
    pub fn bytes(&self) -> usize {
        let image = self.0.image_range();
        image.end.addr() - image.start.addr()
    }
}

/// A policy, linked.
pub struct LinkedPolicy<I: Imports> {
    attests: PolicyPre<Call<I>>,
    validates: PolicyPre<Call<NoWorkload>>,
}

/// An extension, linked.
pub struct LinkedExtension {
    derives: ExtensionPre<Call<NoWorkload>>,
    /// For an extension that checks its settings.
    validates: Option<ValidationPre<Call<NoWorkload>>>,
}

impl LinkedExtension {
    /// Whether the extension checks its settings (`settings-validator`, since contract 1.1).
    pub fn validates(&self) -> bool {
        self.validates.is_some()
    }
}

/// Who an extension's call is for.
pub struct Caller<C> {
    /// The extension's name, for its log lines.
    pub name: String,
    /// The values that the extension is told and that must not reach a log.
    pub told: Arc<dyn Values>,
    /// Whose lane the call waits in for a sandbox. Only called where it must wait.
    pub claimant: C,
}

/// What a call of a component used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The fuel, of [`limits::FUEL`]. The host's work for the call is counted apart.
    pub fuel: u64,
    /// Bytes of linear memory, of [`limits::GUEST_MEMORY`].
    pub memory: usize,
}

/// What came of a call of an extension.
pub struct Derivation {
    /// The selectors, or the extension's own error, or why there is no answer.
    pub outcome: Result<Result<Vec<String>, String>, CallError>,
    /// What the call used.
    pub usage: Usage,
}

/// One run of a policy: the imports, given back, and what came of it.
pub struct Run<I: Imports> {
    /// The imports that the run began with.
    pub imports: I,
    /// What the run used.
    pub usage: Usage,
    /// The policy's answer, or why there is none.
    pub outcome: Result<Result<Vec<String>, Fault>, RunError<I::Question>>,
}

/// Why a run of a policy has no answer.
#[derive(Debug)]
pub enum RunError<Q> {
    /// The policy asked a question whose answer must be fetched first: fetch it, and run the policy again.
    NeedsFetch(Q),
    /// The policy failed.
    Failed(CallError),
}

impl<I: Imports> Sandbox<I> {
    /// Reserves the pool of sandboxes. Where its address space cannot be had, each call maps its own memory.
    ///
    /// # Errors
    /// The engine cannot be made.
    pub fn new(compilation: Compilation) -> Result<Sandbox<I>, SetupError> {
        let setup = |error: wasmtime::Error| SetupError(format!("{error:#}"));
        let engine = match Engine::new(&settings::config(Allocation::Pooling)) {
            Ok(engine) => engine,
            Err(error) => {
                tracing::warn!(error = %error, "the sandbox pool cannot be reserved: attestations will be slower");
                Engine::new(&settings::config(Allocation::OnDemand)).map_err(setup)?
            }
        };
        let mut policies = Linker::new(&engine);
        PolicyBindings::add_to_linker::<_, HasSelf<Call<I>>>(&mut policies, |call| call).map_err(setup)?;
        let mut validated = Linker::new(&engine);
        PolicyBindings::add_to_linker::<_, HasSelf<Call<NoWorkload>>>(&mut validated, |call| call).map_err(setup)?;
        let mut extensions = Linker::new(&engine);
        ExtensionBindings::add_to_linker::<_, HasSelf<Call<NoWorkload>>>(&mut extensions, |call| call)
            .map_err(setup)?;
        Ok(Sandbox {
            compiler: compiler::Compiler::new(engine.clone(), compilation),
            engine,
            policies,
            validated,
            extensions,
            slots: Lanes::new(limits::SANDBOXES as usize, limits::SANDBOX_WAITERS),
        })
    }

    /// The same sandbox, with an observer that is told of each call that was refused because too many wait for a slot.
    pub fn with_queue_observer(self, observer: impl Fn(Full) + Send + Sync + 'static) -> Sandbox<I> {
        Sandbox { slots: self.slots.with_observer(observer), ..self }
    }

    /// Compiles a component while calls go on. [`inspect::Description`] says beforehand whether it is one that may be compiled.
    ///
    /// # Errors
    /// The compiler's own, or that the component needs more time or memory than it may have.
    pub async fn compile(&self, bytes: Arc<[u8]>) -> Result<Compiled, NotCompiled> {
        self.compiler.compile(bytes).await
    }

    /// Loads a component that [`compiler::precompile`] compiled.
    ///
    /// # Errors
    /// It was compiled by another wasmtime, or with other settings.
    ///
    /// # Safety
    /// The image must be an unaltered result of [`compiler::precompile`]: it holds machine code that runs in this process.
    #[expect(unsafe_code, reason = "passes the obligation on")]
    pub unsafe fn load(&self, image: &[u8]) -> Result<Compiled, LinkError> {
        // SAFETY: the caller's obligation.
        unsafe { compiler::load(&self.engine, image) }.map_err(LinkError::of)
    }

    /// Links a compiled component as a policy.
    ///
    /// # Errors
    /// It imports a function that does not exist, or it does not export what a policy must.
    pub fn policy(&self, Compiled(component): &Compiled) -> Result<LinkedPolicy<I>, LinkError> {
        let attests = self.policies.instantiate_pre(component).and_then(PolicyPre::new).map_err(LinkError::of)?;
        let validates = self.validated.instantiate_pre(component).and_then(PolicyPre::new).map_err(LinkError::of)?;
        Ok(LinkedPolicy { attests, validates })
    }

    /// Links a compiled component as an extension.
    ///
    /// # Errors
    /// It imports a function that does not exist, or it does not export what an extension must.
    pub fn extension(&self, Compiled(component): &Compiled) -> Result<LinkedExtension, LinkError> {
        let linked = self.extensions.instantiate_pre(component).map_err(LinkError::of)?;
        let checks = component.get_export_index(None, SETTINGS_VALIDATOR).is_some();
        let validates = checks.then(|| ValidationPre::new(linked.clone())).transpose().map_err(LinkError::of)?;
        Ok(LinkedExtension { derives: ExtensionPre::new(linked).map_err(LinkError::of)?, validates })
    }

    /// Asks a policy to check its settings.
    ///
    /// # Errors
    /// The policy failed, or returned more or longer diagnostics than it may.
    pub async fn validate(
        &self,
        policy: &LinkedPolicy<I>,
        settings: &Settings,
        claimant: I::Claimant,
    ) -> Result<Vec<Diagnostic>, CallError> {
        let _slot = self.slot(|| claimant).await?;
        let (diagnostics, _) = self.measure_validation(policy, settings).await?;
        let long = diagnostics.iter().any(|diagnostic| diagnostic.message.len() > limits::GUEST_TEXT);
        match diagnostics.len() > limits::DIAGNOSTICS || long {
            true => Err(CallError::Diagnostics),
            false => Ok(diagnostics),
        }
    }

    /// Asks an extension to check its settings: `Ok(Ok(warnings))`, or `Ok(Err(errors))`. `None`: the extension cannot check them.
    ///
    /// # Errors
    /// The extension failed, or returned more or longer texts than it may.
    pub async fn validate_extension(
        &self,
        extension: &LinkedExtension,
        name: &str,
        settings: &[(String, String)],
        claimant: I::Claimant,
    ) -> Result<Option<Result<Vec<String>, Vec<String>>>, CallError> {
        let Some(validates) = &extension.validates else { return Ok(None) };
        let _slot = self.slot(|| claimant).await?;
        let (mut store, ready) = self.store(Call::new(extension_name(name), NoWorkload { told: None }));
        ready?;
        let outcome = call::within_wall_time(async {
            let instance = validates.instantiate_async(&mut store).await?;
            instance.docker_attestor_policy_settings_validator().call_validate(&mut store, settings).await
        })
        .await;
        let outcome = outcome.map_err(|error| CallError::of(&error, store.data().panic()))?;
        let (Ok(texts) | Err(texts)) = &outcome;
        match texts.len() > limits::DIAGNOSTICS || texts.iter().any(|text| text.len() > limits::GUEST_TEXT) {
            true => Err(CallError::Diagnostics),
            false => Ok(Some(outcome)),
        }
    }

    /// The same for measurements: also the fuel that it used, in the units of [`limits::FUEL`]. It takes no slot.
    ///
    /// # Errors
    /// The policy failed.
    pub async fn measure_validation(
        &self,
        policy: &LinkedPolicy<I>,
        settings: &Settings,
    ) -> Result<(Vec<Diagnostic>, u64), CallError> {
        let call = Call::new(POLICY.to_owned(), NoWorkload { told: None });
        let (mut store, ready) = self.store(call);
        ready?;
        let outcome = call::within_wall_time(async {
            let bindings = policy.validates.instantiate_async(&mut store).await?;
            bindings.docker_attestor_policy_attestor().call_validate(&mut store, settings).await
        })
        .await;
        match outcome {
            Ok(diagnostics) => Ok((diagnostics, usage(&store).fuel)),
            Err(error) => Err(CallError::of(&error, store.data().panic())),
        }
    }

    /// Runs a policy once. A text of the policy's own fault holds none of the values that the policy was told.
    pub async fn attest(&self, policy: &LinkedPolicy<I>, settings: &Settings, mut imports: I) -> Run<I> {
        let _slot = match self.slot(|| imports.claimant()).await {
            Ok(slot) => slot,
            Err(error) => return Run { imports, usage: Usage::default(), outcome: Err(RunError::Failed(error)) },
        };
        let (mut store, ready) = self.store(Call::new(POLICY.to_owned(), imports));
        if let Err(error) = ready {
            let imports = store.into_data().into_imports();
            return Run { imports, usage: Usage::default(), outcome: Err(RunError::Failed(error)) };
        }
        let outcome = call::within_wall_time(async {
            let bindings = policy.attests.instantiate_async(&mut store).await?;
            bindings.docker_attestor_policy_attestor().call_attest(&mut store, settings).await
        })
        .await;
        let outcome = match outcome {
            Ok(Ok(selectors)) => Ok(Ok(selectors)),
            Ok(Err(fault)) => store.data_mut().checked(fault.into()).map(Err).map_err(RunError::Failed),
            Err(error) => Err(match error.downcast::<NeedsFetch<I::Question>>() {
                Ok(NeedsFetch(question)) => RunError::NeedsFetch(question),
                Err(error) => RunError::Failed(CallError::of(&error, store.data().panic())),
            }),
        };
        let usage = usage(&store);
        Run { imports: store.into_data().into_imports(), usage, outcome }
    }

    /// A fresh instance of a policy, for measurements: it takes no slot, and a second call goes on with what the first one left.
    ///
    /// # Errors
    /// The instance cannot be made.
    pub async fn instance(&self, policy: &LinkedPolicy<I>, imports: I) -> Result<Instance<I>, CallError> {
        let (mut store, ready) = self.store(Call::new(POLICY.to_owned(), imports));
        ready?;
        match call::within_wall_time(policy.attests.instantiate_async(&mut store)).await {
            Ok(bindings) => Ok(Instance { store, bindings }),
            Err(error) => Err(CallError::of(&error, store.data().panic())),
        }
    }

    /// Runs an extension, which knows `granted`. A text of the extension's own error holds none of the values that it was told.
    pub async fn derive(
        &self,
        extension: &LinkedExtension,
        settings: &[(String, String)],
        granted: &Granted,
        Caller { name, told, claimant }: Caller<impl FnOnce() -> I::Claimant>,
    ) -> Derivation {
        let failed = |error| Derivation { outcome: Err(error), usage: Usage::default() };
        let _slot = match self.slot(claimant).await {
            Ok(slot) => slot,
            Err(error) => return failed(error),
        };
        let call = Call::new(extension_name(&name), NoWorkload { told: Some(told) });
        let (mut store, ready) = self.store(call);
        if let Err(error) = ready {
            return failed(error);
        }
        let outcome = call::within_wall_time(async {
            let instance = extension.derives.instantiate_async(&mut store).await?;
            instance.docker_attestor_policy_deriver().call_derive(&mut store, granted, settings).await
        })
        .await;
        let outcome = match outcome {
            Ok(Ok(derived)) => Ok(Ok(derived)),
            Ok(Err(text)) if text.len() > limits::GUEST_TEXT => Err(CallError::LongError),
            Ok(Err(text)) => Ok(Err(store.data_mut().without_values(&text))),
            Err(error) => Err(CallError::of(&error, store.data().panic())),
        };
        Derivation { outcome, usage: usage(&store) }
    }

    /// One sandbox, once it is free. The claimant is only asked for where the call must wait.
    async fn slot(&self, claimant: impl FnOnce() -> I::Claimant) -> Result<Turn<'_>, CallError> {
        match self.slots.try_turn() {
            Some(turn) => Ok(turn),
            None => Ok(self.slots.enter(claimant())?.turn(|| false).await),
        }
    }

    /// A fresh store with its own fuel and memory, and whether it is ready to run a call.
    fn store<T>(&self, mut call: Call<T>) -> (Store<Call<T>>, Result<(), CallError>) {
        call.limits.bounds = StoreLimitsBuilder::new()
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
        (store, fuel.map_err(|error| CallError::Store(printable(&error.to_string()))))
    }
}

/// What a call used.
fn usage<T>(store: &Store<Call<T>>) -> Usage {
    Usage {
        fuel: limits::FUEL.saturating_sub(store.get_fuel().unwrap_or_default()),
        memory: store.data().limits.memory,
    }
}

/// The name of an extension in the log.
fn extension_name(name: &str) -> String {
    format!("extension {name}")
}

/// An instance of a policy, for measurements.
pub struct Instance<I: Imports> {
    store: Store<Call<I>>,
    bindings: PolicyBindings,
}

impl<I: Imports> Instance<I> {
    /// Calls the policy's `attest`.
    ///
    /// # Errors
    /// The policy failed, or asked what must be fetched.
    pub async fn attest(&mut self, settings: &Settings) -> Result<Result<Vec<String>, Fault>, CallError> {
        let attestor = self.bindings.docker_attestor_policy_attestor();
        let outcome = call::within_wall_time(attestor.call_attest(&mut self.store, settings)).await;
        match outcome {
            Ok(answer) => Ok(answer.map_err(Fault::from)),
            Err(error) => Err(CallError::of(&error, self.store.data().panic())),
        }
    }
}
