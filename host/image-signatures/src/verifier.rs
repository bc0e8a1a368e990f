//! The verifier: verifies images target by target, each target once at a time, and caches the verdicts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bounded::warnings::Warnings;
use registry::{Reference, ReferenceError, Registries};
use sha2::{Digest as _, Sha256};
use sigstore_trust_root::TrustedRoot;
use sigstore_verify::types::DerPublicKey;
use tokio::sync::Semaphore;

use crate::candidate::{self, Purpose};
use crate::examination::{Depth, Examination, Examiner};
use crate::identities::Identities;
use crate::in_flight::{InFlight, Joined};
use crate::limits;
use crate::options::Options;
use crate::progress::Progress;
use crate::rules::{self, MaterialError, Requirements, RuleError, SignatureReport, Subject, TrustMaterial};
use crate::target::{Image, Target};
use crate::trust::{self, ReadError, RefreshError, TrustError};
use crate::verification::{NoVerdict, Observation, Observer, Reason, Verdict, Verification};

/// Verifies images by one set of options.
pub struct Verifier {
    options: Options,
    requirements: Arc<Requirements>,
    registries: Registries,
    trust: ArcSwap<Trust>,
    refresh: Option<trust::Refresh>,
    /// The hash of the options and of every file that they name.
    fingerprint: [u8; 32],
    verdicts: moka::sync::Cache<Key, Arc<CachedVerdict>>,
    in_flight: InFlight<Key, Verdict>,
    /// The permits of the verifications at the same time, for each registry.
    running: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// The permits of the threads that judge. A thread that is stuck keeps its permit.
    judging: Arc<Semaphore>,
    progress: Progress,
    /// Bounds the warnings about expired verdicts.
    warnings: Warnings,
    observer: Observer,
}

/// What a verdict is about: the target, and the fingerprint of the trust root that it was judged with.
type Key = (Target, [u8; 32]);

/// A verdict, with what says how long it may be used.
struct CachedVerdict {
    verdict: Verdict,
    /// Every source was reachable when this verdict was made.
    complete: bool,
    /// When it was made.
    since: Instant,
    /// How long it is fresh, from `since` on.
    fresh: Duration,
}

impl CachedVerdict {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < self.fresh
    }
}

/// A trust root in use.
struct Trust {
    material: Arc<TrustMaterial>,
    fingerprint: [u8; 32],
}

impl Trust {
    fn new(root: &TrustedRoot) -> Result<Trust, MaterialError> {
        let json = serde_json::to_vec(root).map_err(MaterialError::Json)?;
        Ok(Trust { material: Arc::new(TrustMaterial::new(root)?), fingerprint: Sha256::digest(&json).into() })
    }
}

/// Why no verifier can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The trust material cannot be loaded.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The trust root cannot be refreshed.
    #[error(transparent)]
    Refresh(#[from] RefreshError),
    /// The trust root cannot be used.
    #[error("the trust root cannot be used: {0}")]
    Material(#[from] MaterialError),
    /// A file that an option names cannot be read.
    #[error("{option}: {}: {why}", path.display())]
    File {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        why: ReadError,
    },
    /// A public key that cannot be parsed.
    #[error("public_keys: {}: {why}", path.display())]
    MalformedKey {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        why: String,
    },
    /// A public key of a kind that signatures cannot be verified with.
    #[error("public_keys: {}: {why}", path.display())]
    UnsupportedKey {
        /// The file.
        path: PathBuf,
        /// Why.
        why: RuleError,
    },
    /// The client of registries cannot be made.
    #[error(transparent)]
    Registries(#[from] registry::SetupError),
}

/// Why an image is not examined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExamineError {
    /// The text is no reference to an image.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The examination took too long.
    #[error("not all of it could be looked at within {seconds} s ({progress})")]
    Timeout {
        /// The limit.
        seconds: u64,
        /// What it was waiting for.
        progress: String,
    },
}

/// Why a file's signature does not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileSignatureError {
    /// A rule does not hold.
    #[error("{0}")]
    Rejected(SignatureReport),
    /// The bundle is about something else than a signature.
    #[error("the bundle holds an attestation, not a signature")]
    Attestation,
}

impl Verifier {
    /// Makes a verifier and notes about it. Reads the trust material and the files that the options name. Needs no network.
    ///
    /// # Errors
    /// A file, a key, a certificate or a source of trust material that cannot be used.
    pub fn new(options: &Options) -> Result<(Verifier, Vec<String>), SetupError> {
        let loaded = trust::load(options.trusted_root.as_deref(), &|name| std::env::var_os(name))?;
        let mut notes = loaded.warnings;
        let sources: Vec<String> = loaded.sources.iter().map(|(part, source)| format!("{part}: {source}")).collect();
        notes.push(format!("trust root: {}", sources.join("; ")));
        let trust = Trust::new(&loaded.root)?;
        let mut public_keys = Vec::new();
        for path in &options.public_keys {
            let key = DerPublicKey::from_pem(&read("public_keys", path)?)
                .map_err(|error| SetupError::MalformedKey { path: path.clone(), why: error.to_string() })?;
            rules::check_key(&key).map_err(|why| SetupError::UnsupportedKey { path: path.clone(), why })?;
            public_keys.push(key);
        }
        let mut authorities = Vec::new();
        for path in &options.registry_ca {
            authorities.push((path.clone(), read("registry_ca", path)?));
        }
        let mut fingerprint = Sha256::new();
        fingerprint.update(format!("{options:?}"));
        for (host, pair) in &options.registry_credentials {
            fingerprint.update(format!("{host}\0{}\0{}\0", pair.username, pair.password));
        }
        fingerprint.update(trust.fingerprint);
        for key in &public_keys {
            fingerprint.update(key.as_bytes());
        }
        for (_, pem) in &authorities {
            fingerprint.update(pem);
        }
        let registries = Registries::new(registry::ClientOptions {
            credentials: options.registry_credentials.clone(),
            insecure: options.insecure_registries.clone(),
            authorities,
        })?;
        let requirements = Requirements {
            identities: options.identities.clone(),
            public_keys,
            ignore_tlog: options.ignore_tlog,
            ignore_sct: options.ignore_sct,
        };
        let verifier = Verifier {
            options: options.clone(),
            requirements: Arc::new(requirements),
            registries,
            trust: ArcSwap::from_pointee(trust),
            refresh: loaded.refresh,
            fingerprint: fingerprint.finalize().into(),
            verdicts: moka::sync::Cache::builder()
                .max_capacity(options.max_entries as u64)
                .time_to_live(options.ttl + limits::STALE_VERDICT)
                .build(),
            in_flight: InFlight::new(limits::VERIFICATIONS),
            running: Mutex::default(),
            judging: Arc::new(Semaphore::new(limits::JUDGING)),
            progress: Progress::default(),
            warnings: Warnings::default(),
            observer: Arc::new(|_| ()),
        };
        Ok((verifier, notes))
    }

    /// The same verifier, with an observer.
    pub fn with_observer(self, observer: Observer) -> Verifier {
        Verifier { observer, ..self }
    }

    /// Whether another verifier judges every image like this one, so that the verdicts of this one are as good.
    pub fn judges_like(&self, other: &Verifier) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// What a verification is waiting for, in words, to show while the network is slow; empty while none is running.
    pub fn progress(&self) -> String {
        self.progress.text()
    }

    /// Asks a registry whether it can be reached.
    ///
    /// # Errors
    /// The registry cannot be reached, or fails.
    pub async fn ping_registry(&self, registry: &str) -> Result<(), registry::Error> {
        self.registries.ping(registry).await
    }

    /// Asks the log whether it can be reached.
    ///
    /// # Errors
    /// The log cannot be reached, or fails.
    pub async fn ping_log(&self) -> Result<(), registry::Error> {
        self.registries.ping_url(&self.options.rekor_url).await
    }

    /// Refreshes the trust root for as long as the verifier is in use. A refresh that fails changes nothing.
    pub async fn refresh(verifier: Weak<Verifier>) {
        loop {
            let mut pause = limits::TRUST_REFRESH;
            {
                let Some(verifier) = verifier.upgrade() else { return };
                let Some(refresh) = &verifier.refresh else { return };
                if let Err(why) = verifier.refresh_once(refresh).await {
                    tracing::warn!(reason = %why, "sigstore's trust root could not be refreshed: the one in use stays");
                    pause = limits::TRUST_REFRESH_RETRY;
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn refresh_once(&self, refresh: &trust::Refresh) -> Result<(), SetupError> {
        let root = refresh.run(self.registries.client()).await?;
        let trust = Trust::new(&root)?;
        if trust.fingerprint != self.trust.load().fingerprint {
            self.trust.store(Arc::new(trust));
            tracing::info!("sigstore's trust root was refreshed");
        }
        Ok(())
    }

    /// The verification of an image, if cached verdicts are enough for it.
    pub fn cached(&self, image: Image<'_>) -> Option<Verification> {
        if let Some(name) = self.skipped(image) {
            return Some(Verification::Skipped(name));
        }
        let trust = self.trust.load();
        let (targets, wrong) = image.targets();
        let mut reasons: Vec<Reason> = wrong.into_iter().map(Reason::Target).collect();
        let cached: Vec<Option<Arc<CachedVerdict>>> =
            targets.iter().map(|target| self.fresh(&(target.clone(), trust.fingerprint))).collect();
        // One good verdict is enough, whether or not the registries of the others can be reached just now.
        for (target, cached) in targets.iter().zip(&cached) {
            if let Some(Verdict::Verified(verified)) = cached.as_ref().map(|cached| &cached.verdict) {
                let (verified, target) = (Arc::clone(verified), target.to_string());
                return Some(Verification::Verified { verified, target, cached: true });
            }
        }
        for (target, cached) in targets.iter().zip(&cached) {
            reasons.push(cached.as_ref()?.verdict.reason(target)?);
        }
        Some(Verification::Failed(reasons))
    }

    /// Verifies an image. Its targets are verified in order, and the first that verifies ends the search.
    ///
    /// A verification that is not done at `deadline` goes on, and its verdict is cached.
    pub async fn verify(self: &Arc<Self>, image: Image<'_>, deadline: tokio::time::Instant) -> Verification {
        if let Some(cached) = self.cached(image) {
            return cached;
        }
        let (targets, wrong) = image.targets();
        let mut reasons: Vec<Reason> = wrong.into_iter().map(Reason::Target).collect();
        let mut unreachable = Vec::new();
        let count = targets.len();
        for (number, target) in targets.into_iter().enumerate() {
            // Each target has its share of the time: a registry that hangs does not hide the next.
            let now = tokio::time::Instant::now();
            let shares = u32::try_from(count - number).unwrap_or(u32::MAX);
            let until = now + deadline.saturating_duration_since(now) / shares;
            let verdict = match tokio::time::timeout_at(until, self.verdict(target.clone())).await {
                Ok(verdict) => verdict,
                Err(_) => Verdict::Unreachable(Arc::new(NoVerdict::Ongoing(now.elapsed().as_secs_f32()))),
            };
            match &verdict {
                Verdict::Verified(verified) => {
                    let (verified, target) = (Arc::clone(verified), target.to_string());
                    return Verification::Verified { verified, target, cached: false };
                }
                Verdict::Failed(_) => reasons.extend(verdict.reason(&target)),
                Verdict::Unreachable(_) => unreachable.extend(verdict.reason(&target)),
            }
        }
        if unreachable.is_empty() {
            return Verification::Failed(reasons);
        }
        unreachable.extend(reasons);
        Verification::Unreachable(unreachable)
    }

    /// Examines everything about one manifest, for an operator.
    ///
    /// # Errors
    /// The text is no reference, or the examination takes more than a minute.
    pub async fn examine(&self, reference: &str) -> Result<Examination, ExamineError> {
        let Reference { repository, digest } = reference.parse()?;
        let target = Target { repository, digest, platform: None };
        let trust = Arc::clone(&self.trust.load().material);
        let mut examining = std::pin::pin!(self.examine_target(&target, trust, Depth::Everything));
        match tokio::time::timeout(limits::VERIFICATION, &mut examining).await {
            Ok(examination) => Ok(examination),
            // The examination is still there, and so is its progress.
            Err(_) => Err(ExamineError::Timeout { seconds: limits::VERIFICATION.as_secs(), progress: self.progress() }),
        }
    }

    /// Whether the options say not to verify this image.
    pub fn skips(&self, reference: &str) -> bool {
        self.skipped(Image { repo_digests: &[reference.to_owned()], manifest: None }).is_some()
    }

    /// Verifies that one of `signers` signed a file. The bundle is one that `cosign sign-blob --bundle` makes. It is judged by every
    /// rule, whatever the options leave out for images. Milliseconds of work.
    ///
    /// # Errors
    /// A rule does not hold, or the bundle holds an attestation.
    pub fn verify_file(&self, bundle: &[u8], file: &[u8], signers: &Identities) -> Result<(), FileSignatureError> {
        let requirements = Requirements { identities: signers.clone(), ..Requirements::default() };
        let report = judge_blob(bundle, file, &self.trust.load().material, &requirements);
        match (report.good(), report.purpose) {
            (false, _) => Err(FileSignatureError::Rejected(report)),
            (true, Some(Purpose::Signature)) => Ok(()),
            (true, _) => Err(FileSignatureError::Attestation),
        }
    }

    /// The name under which `skipped_images` lists the image.
    fn skipped(&self, image: Image<'_>) -> Option<String> {
        let listed = |name: &&str| self.options.skipped_images.iter().any(|skipped| skipped == name);
        image.names().find(listed).map(str::to_owned)
    }

    /// The cached verdict, if it is fresh.
    fn fresh(&self, key: &Key) -> Option<Arc<CachedVerdict>> {
        self.verdicts.get(key).filter(|cached| cached.is_fresh())
    }

    /// The verdict on one target: the cached one, or that of a verification which all callers share.
    async fn verdict(self: &Arc<Self>, target: Target) -> Verdict {
        let trust = self.trust.load_full();
        let key = (target, trust.fingerprint);
        let cached = || self.fresh(&key).map(|cached| cached.verdict.clone());
        let verify = || {
            let (verifier, key) = (Arc::clone(self), key.clone());
            async move { verifier.verify_target(&key, &trust.material).await }
        };
        let mut pending = match self.in_flight.join(&key, cached, verify) {
            Joined::Done(verdict) => return verdict,
            Joined::Busy => {
                (self.observer)(Observation::Full);
                return self.expired_or(&key, Verdict::Unreachable(Arc::new(NoVerdict::Busy)));
            }
            Joined::Pending(pending) => pending,
        };
        let verdict = pending.wait_for(Option::is_some).await.ok().and_then(|verdict| verdict.clone());
        verdict.unwrap_or_else(|| Verdict::Unreachable(Arc::new(NoVerdict::GivenUp)))
    }

    /// Verifies a target, and caches the verdict.
    async fn verify_target(&self, key: &Key, trust: &Arc<TrustMaterial>) -> Verdict {
        let permits = self.permits(key.0.repository.host());
        let work = async {
            let _permit = permits.acquire().await;
            let examination = self.examine_target(&key.0, Arc::clone(trust), Depth::Verdict).await;
            (examination.unreachable.is_empty(), examination.into_verdict())
        };
        let (complete, verdict) = match tokio::time::timeout(limits::VERIFICATION, work).await {
            Ok(verdict) => verdict,
            Err(_) => {
                let why = NoVerdict::Timeout(limits::VERIFICATION.as_secs());
                (false, Verdict::Unreachable(Arc::new(why)))
            }
        };
        // An earlier complete verdict says more than none, or than a good one that is not complete.
        let (observed, expired) = match &verdict {
            Verdict::Verified(_) if complete => (Observation::Verified, None),
            Verdict::Verified(_) => (Observation::Verified, self.expired(key, None)),
            Verdict::Failed(why) => (Observation::Failed(why.rule()), None),
            Verdict::Unreachable(_) => (Observation::Unreachable, self.expired(key, Some(&verdict))),
        };
        (self.observer)(expired.as_ref().map_or(observed, |_| Observation::Expired));
        if let Some(expired) = expired {
            return expired;
        }
        let fresh = match (&verdict, complete) {
            (Verdict::Verified(_), true) => self.options.ttl,
            (Verdict::Unreachable(_), _) => return verdict,
            _ => self.options.ttl.min(limits::BAD_VERDICT),
        };
        let cached = CachedVerdict { verdict: verdict.clone(), complete, since: Instant::now(), fresh };
        self.verdicts.insert(key.clone(), Arc::new(cached));
        verdict
    }

    /// The permits of one registry.
    fn permits(&self, host: &str) -> Arc<Semaphore> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        let new = || Arc::new(Semaphore::new(limits::VERIFICATIONS_OF_REGISTRY));
        Arc::clone(running.entry(host.to_owned()).or_insert_with(new))
    }

    /// Falls back to an expired good verdict (24 h at most) while the registry or the log is unreachable; otherwise answers `verdict`.
    fn expired_or(&self, key: &Key, verdict: Verdict) -> Verdict {
        self.expired(key, Some(&verdict)).unwrap_or(verdict)
    }

    /// An expired good verdict that was complete, made fresh for a moment. `found` is what there is instead.
    fn expired(&self, key: &Key, found: Option<&Verdict>) -> Option<Verdict> {
        let cached = self.verdicts.get(key).filter(|cached| cached.complete)?;
        let age = cached.since.elapsed();
        if !matches!(cached.verdict, Verdict::Verified(_)) || age >= self.options.ttl + limits::STALE_VERDICT {
            return None;
        }
        if let Some(dropped) = self.warnings.admit() {
            let reason = match found {
                Some(Verdict::Unreachable(why)) => why.to_string(),
                _ => "not all signatures could be looked at".to_owned(),
            };
            tracing::warn!(
                image = %key.0, age_seconds = %age.as_secs(), reason, dropped = %dropped,
                "an earlier good verdict is used: the registry or the log is unreachable"
            );
        }
        let again = CachedVerdict {
            verdict: cached.verdict.clone(),
            complete: true,
            // The 24 hours count from the verification: using an expired verdict never prolongs them.
            since: cached.since,
            fresh: age + limits::BAD_VERDICT,
        };
        self.verdicts.insert(key.clone(), Arc::new(again));
        Some(cached.verdict.clone())
    }

    async fn examine_target(&self, target: &Target, trust: Arc<TrustMaterial>, depth: Depth) -> Examination {
        let Verifier { options, requirements, registries, judging, progress, .. } = self;
        Examiner { registries, options, requirements, trust, judging, progress }.examine(target, depth).await
    }
}

/// Reads a text file that an option names.
fn read(option: &'static str, path: &Path) -> Result<String, SetupError> {
    trust::read(path, limits::TRUST_FILE).map_err(|why| SetupError::File { option, path: path.to_owned(), why })
}

/// Judges a sigstore bundle over `blob` by every rule. Its signature is over the blob itself, or over a statement about it. One of
/// `identities` or of `public_keys` must have signed. Where both are empty, every signer may.
///
/// # Errors
/// The trust root cannot be used.
pub fn verify_blob(
    bundle: &[u8],
    blob: &[u8],
    root: &TrustedRoot,
    identities: Identities,
    public_keys: Vec<DerPublicKey>,
) -> Result<SignatureReport, MaterialError> {
    let requirements = Requirements { identities, public_keys, ..Requirements::default() };
    Ok(judge_blob(bundle, blob, &TrustMaterial::new(root)?, &requirements))
}

fn judge_blob(bundle: &[u8], blob: &[u8], trust: &TrustMaterial, requirements: &Requirements) -> SignatureReport {
    let source = "bundle";
    let candidate = match candidate::bundle(bundle) {
        Ok(candidate) => candidate,
        Err(why) => return SignatureReport::malformed(source.to_owned(), None, &why),
    };
    let digest = sigstore_verify::crypto::sha256(blob).to_hex();
    let subject = Subject { digest: &digest, manifest: Some(blob) };
    rules::judge(&candidate, source, &subject, requirements, trust).0
}
