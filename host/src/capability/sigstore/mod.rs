//! Signatures and attestations of images: the WIT interface `sigstore`.
//!
//! [`find`] brings what a registry holds, [`material`] parses it, [`rules`] judges it, and this module keeps the verdicts.

mod certificate;
mod credentials;
mod find;
mod identities;
mod log;
mod material;
mod registry;
mod rekor;
mod rules;
mod trust;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use sigstore_trust_root::TrustedRoot;
use sigstore_verify::types::DerPublicKey;
use tokio::sync::{Semaphore, watch};

use self::find::Found;
pub use self::identities::Identities;
use self::material::Candidate;
pub use self::material::Purpose;
use self::registry::{Digest, Registries, RegistryError, Repository};
use self::rules::{Demands, Good, Subject, Trust};
pub use self::rules::{Finding, RULES, Report};
use super::Waiting;
use crate::bindings::docker_attestor::policy::sigstore::{Signature, Verdict, Verified as VerifiedRecord};
use crate::bindings::docker_attestor::policy::types::Fault;
use crate::config::{self, OnFailure};
use crate::limits;

/// What became of verifying an image.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged {
    /// `skipped_images` has it.
    Skipped,
    /// It did not verify, and `on_failure` is "omit".
    Omitted,
    /// It verified.
    Verified(Arc<Verified>),
}

impl Judged {
    /// As the contract has it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Judged::Skipped => Verdict::Skipped,
            Judged::Omitted => Verdict::Omitted,
            Judged::Verified(verified) => Verdict::Verified(verified.0.clone()),
        }
    }
}

/// The good signatures of an image. Made only of what the rules call good.
#[derive(Debug, PartialEq)]
pub struct Verified(VerifiedRecord);

impl Verified {
    /// At least one of `signatures` must be there.
    fn new(signatures: &[Good], attestations: bool) -> Verified {
        let mut unique: Vec<Signature> = Vec::new();
        for signature in signatures.iter().map(Good::signature) {
            if !unique.contains(signature) {
                unique.push(signature.clone());
            }
        }
        Verified(VerifiedRecord { attestations, signatures: unique })
    }

    /// As the contract has it.
    pub fn record(&self) -> &VerifiedRecord {
        &self.0
    }
}

/// The image that a container runs, as its engine describes it.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// `repository@sha256:…`, in the engine's order.
    pub repo_digests: &'a [String],
    /// The platform's manifest (`sha256:…`), where the engine names it.
    pub manifest: Option<&'a str>,
}

/// One manifest in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Target {
    repository: Repository,
    digest: Digest,
    /// The manifest that the container runs: an index must list it.
    platform: Option<Digest>,
}

/// What came of verifying one target.
#[derive(Debug, Clone)]
enum Outcome {
    Verified(Arc<Verified>),
    /// Every reason.
    Failed(Arc<str>),
    /// A registry or the log is away: no verdict.
    Away(Arc<str>),
}

/// Everything that was found of one manifest.
#[derive(Debug)]
pub struct Examination {
    /// Each signature and attestation.
    pub reports: Vec<Report>,
    /// What could not be looked at.
    pub away: Vec<String>,
    /// What it comes to: the selectors' facts, or why there are none.
    pub outcome: Result<Arc<Verified>, String>,
}

struct Kept {
    outcome: Outcome,
    since: Instant,
    fresh: Duration,
}

/// A verification in flight: its outcome for all who wait for it.
type Flight = watch::Receiver<Option<Outcome>>;

/// Which verdict: the target, and the trust root it was judged with.
type Key = (Target, [u8; 32]);

/// Verifies images under one configuration.
pub struct Sigstore {
    options: config::Sigstore,
    demands: Arc<Demands>,
    registries: Registries,
    trust: ArcSwap<Trusted>,
    refresh: Option<trust::Refresh>,
    /// Of the options and every file they name.
    fingerprint: [u8; 32],
    verdicts: moka::sync::Cache<Key, Arc<Kept>>,
    flights: Mutex<HashMap<Key, Flight>>,
    /// Verifications at the same time, for each registry.
    running: Mutex<HashMap<String, Arc<Semaphore>>>,
    waiting: AtomicUsize,
    doing: watch::Sender<String>,
}

struct Trusted {
    trust: Arc<Trust>,
    fingerprint: [u8; 32],
}

impl Trusted {
    fn new(root: &TrustedRoot) -> Result<Trusted, String> {
        let json = serde_json::to_vec(root).map_err(|error| error.to_string())?;
        Ok(Trusted { trust: Arc::new(Trust::new(root)?), fingerprint: Sha256::digest(&json).into() })
    }
}

impl Sigstore {
    /// Reads the files that the options name, and the trust material; also what is worth knowing. Does not need the network.
    pub fn new(options: &config::Sigstore) -> Result<(Sigstore, Vec<String>), String> {
        let loaded = trust::load(options.trusted_root.as_deref(), &|name| std::env::var_os(name))
            .map_err(|why| format!("sigstore: {why}"))?;
        let mut notes: Vec<String> = loaded.warnings.iter().map(|warning| format!("sigstore: {warning}")).collect();
        let sources: Vec<String> = loaded.sources.iter().map(|(part, source)| format!("{part}: {source}")).collect();
        notes.push(format!("sigstore: trust root: {}", sources.join("; ")));
        let trusted =
            Trusted::new(&loaded.root).map_err(|why| format!("sigstore: the trust root cannot be used: {why}"))?;
        let mut public_keys = Vec::new();
        for path in &options.public_keys {
            let key = DerPublicKey::from_pem(&read("sigstore.public_keys", path)?)
                .map_err(|error| error.to_string())
                .and_then(|key| rules::check_key(&key).map(|()| key));
            public_keys.push(key.map_err(|why| format!("sigstore.public_keys: {}: {why}", path.display()))?);
        }
        let mut authorities = Vec::new();
        for path in &options.registry_ca {
            authorities.push((path.clone(), read("sigstore.registry_ca", path)?));
        }
        let mut fingerprint = Sha256::new();
        fingerprint.update(format!("{options:?}"));
        for (host, pair) in &options.registry_credentials {
            fingerprint.update(format!("{host}\0{}\0{}\0", pair.username, pair.password));
        }
        fingerprint.update(trusted.fingerprint);
        for key in &public_keys {
            fingerprint.update(key.as_bytes());
        }
        for (_, pem) in &authorities {
            fingerprint.update(pem);
        }
        let registries = Registries::new(registry::Settings {
            credentials: options.registry_credentials.clone(),
            insecure: options.insecure_registries.clone(),
            authorities,
        })?;
        let demands = Demands {
            identities: options.identities.clone(),
            public_keys,
            ignore_tlog: options.ignore_tlog,
            ignore_sct: options.ignore_sct,
        };
        let sigstore = Sigstore {
            options: options.clone(),
            demands: Arc::new(demands),
            registries,
            trust: ArcSwap::from_pointee(trusted),
            refresh: loaded.refresh,
            fingerprint: fingerprint.finalize().into(),
            verdicts: moka::sync::Cache::builder()
                .max_capacity(options.max_entries as u64)
                .time_to_live(options.ttl + limits::STALE_VERDICT)
                .build(),
            flights: Mutex::default(),
            running: Mutex::default(),
            waiting: AtomicUsize::new(0),
            doing: watch::Sender::new(String::new()),
        };
        Ok((sigstore, notes))
    }

    /// Whether the other would judge the same: its verdicts are as good.
    pub fn same(&self, other: &Sigstore) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// What is being waited for, to show while the network is slow.
    pub fn doing(&self) -> String {
        self.doing.borrow().clone()
    }

    /// Keeps the trust root fresh for as long as somebody has the verifier. A refresh that fails changes nothing.
    pub async fn refresh(sigstore: Weak<Sigstore>) {
        loop {
            let mut pause = limits::TRUST_REFRESH;
            {
                let Some(sigstore) = sigstore.upgrade() else { return };
                let Some(refresh) = &sigstore.refresh else { return };
                match refresh.run(sigstore.registries.client()).await.and_then(|root| Trusted::new(&root)) {
                    Ok(trusted) if trusted.fingerprint != sigstore.trust.load().fingerprint => {
                        sigstore.trust.store(Arc::new(trusted));
                        tracing::info!("sigstore's trust root was refreshed");
                    }
                    Ok(_) => {}
                    Err(why) => {
                        tracing::warn!(reason = %why, "sigstore's trust root could not be refreshed: the one in use stays");
                        pause = limits::TRUST_REFRESH_AGAIN;
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// The verdict on an image, if it takes no network.
    pub fn known(&self, image: Image<'_>) -> Option<(Result<Judged, Fault>, String)> {
        if let Some(skipped) = self.skipped(image) {
            return Some(skipped);
        }
        let trusted = self.trust.load();
        let mut reasons = Vec::new();
        let targets = self.targets(image, &mut reasons);
        for target in targets {
            let kept = self.verdicts.get(&(target.clone(), trusted.fingerprint))?;
            if kept.since.elapsed() >= kept.fresh {
                return None;
            }
            match &kept.outcome {
                Outcome::Verified(verified) => {
                    return Some((Ok(Judged::Verified(Arc::clone(verified))), format!("{target}: a kept verdict")));
                }
                Outcome::Failed(why) => reasons.push(format!("{target}: {why}")),
                Outcome::Away(_) => return None,
            }
        }
        Some(self.failed(&reasons))
    }

    /// Verifies an image: of its digests in order the first that verifies ends the search.
    pub async fn verify(self: &Arc<Self>, image: Image<'_>) -> (Result<Judged, Fault>, String) {
        if let Some(known) = self.known(image) {
            return known;
        }
        let waiting = Waiting::new(&self.waiting);
        if waiting.before >= limits::VERIFY_WAITERS {
            let text = format!("{} attestations are waiting for image verifications already", limits::VERIFY_WAITERS);
            return (Err(Fault::Exhausted(text.clone())), text);
        }
        let mut reasons = Vec::new();
        let mut away = Vec::new();
        let deadline = tokio::time::Instant::now() + limits::VERIFY_WAIT;
        for target in self.targets(image, &mut reasons) {
            let text = target.to_string();
            match tokio::time::timeout_at(deadline, self.outcome(target)).await {
                Ok(Outcome::Verified(verified)) => {
                    return (Ok(Judged::Verified(verified)), format!("{text}: verified"));
                }
                Ok(Outcome::Failed(why)) => reasons.push(format!("{text}: {why}")),
                Ok(Outcome::Away(why)) => away.push(format!("{text}: {why}")),
                Err(_) => {
                    away.push(format!(
                        "{text}: not verified within {} s, which goes on ({}): ask again",
                        limits::VERIFY_WAIT.as_secs(),
                        self.doing()
                    ));
                    break;
                }
            }
        }
        if away.is_empty() {
            return self.failed(&reasons);
        }
        away.extend(reasons);
        let text = format!("the image's signatures could not be verified: {}", away.join("; "));
        self.omitted(text, Fault::Unavailable)
    }

    /// Everything about one manifest, for an operator.
    pub async fn examine(self: &Arc<Self>, reference: &str) -> Result<Examination, String> {
        let (repository, digest) = registry::parse_reference(reference)?;
        let target = Target { repository, digest, platform: None };
        let trust = Arc::clone(&self.trust.load().trust);
        Ok(self.look_at(&target, trust).await)
    }

    /// Whether one of `signers` signed a file: a bundle as `cosign sign-blob --bundle` makes it, judged by every rule, whatever
    /// the options leave out for images. Milliseconds of work.
    ///
    /// # Errors
    /// Every reason.
    pub fn verify_file(&self, bundle: &[u8], file: &[u8], signers: &Identities) -> Result<(), String> {
        let demands = Demands { identities: signers.clone(), ..Demands::default() };
        let report = judge_blob(bundle, file, &self.trust.load().trust, &demands);
        match (report.good(), report.purpose) {
            (true, Purpose::Signature) => Ok(()),
            (true, Purpose::Attestation) => Err("the bundle holds an attestation, not a signature".to_owned()),
            (false, _) => Err(report.to_string()),
        }
    }

    fn skipped(&self, image: Image<'_>) -> Option<(Result<Judged, Fault>, String)> {
        let is = |digest: &str| self.options.skipped_images.iter().any(|skipped| skipped == digest);
        let bare = image.repo_digests.iter().filter_map(|digest| digest.split_once('@').map(|(_, bare)| bare));
        let hit = image
            .repo_digests
            .iter()
            .map(String::as_str)
            .chain(bare)
            .chain(image.manifest)
            .find(|digest| is(digest))?;
        Some((Ok(Judged::Skipped), format!("skipped_images has {hit}: not verified")))
    }

    fn failed(&self, reasons: &[String]) -> (Result<Judged, Fault>, String) {
        let text = match reasons {
            [] => "the image has no repo digest: it was built or loaded on this host, and no registry holds signatures of it; push \
                   it and pull it, or name it in skipped_images"
                .to_owned(),
            reasons => format!("no signature of the image verifies: {}", reasons.join("; ")),
        };
        self.omitted(text, Fault::Unverified)
    }

    fn omitted(&self, text: String, fault: fn(String) -> Fault) -> (Result<Judged, Fault>, String) {
        match self.options.on_failure {
            OnFailure::Deny => (Err(fault(text.clone())), text),
            OnFailure::Omit => {
                tracing::debug!(reason = %text, "on_failure is omit: the selectors come without any of sigstore");
                (Ok(Judged::Omitted), format!("omitted: {text}"))
            }
        }
    }

    /// What to verify, in order.
    fn targets(&self, image: Image<'_>, reasons: &mut Vec<String>) -> Vec<Target> {
        let platform = image.manifest.and_then(|digest| Digest::new(digest).ok());
        let mut targets: Vec<Target> = Vec::new();
        for digest in image.repo_digests.iter().take(limits::REPO_DIGESTS) {
            match registry::parse_reference(digest) {
                Ok((repository, digest)) => {
                    targets.push(Target { repository, digest, platform: platform.clone() });
                }
                Err(why) => reasons.push(why),
            }
        }
        if let Some(platform) = platform {
            let repositories: Vec<Repository> = targets.iter().map(|target| target.repository.clone()).collect();
            for repository in repositories {
                targets.push(Target { repository, digest: platform.clone(), platform: Some(platform.clone()) });
            }
        }
        let mut seen = std::collections::HashSet::new();
        targets.retain(|target| seen.insert(target.clone()));
        targets
    }

    /// The outcome of one target: kept, or in flight, once for all who ask.
    async fn outcome(self: &Arc<Self>, target: Target) -> Outcome {
        let trusted = self.trust.load_full();
        let key = (target, trusted.fingerprint);
        if let Some(kept) = self.verdicts.get(&key).filter(|kept| kept.since.elapsed() < kept.fresh) {
            return kept.outcome.clone();
        }
        let mut flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(&key) {
                Some(flight) => flight.clone(),
                None if flights.len() >= limits::VERIFICATIONS => {
                    return Outcome::Away(Arc::from("too many images are being verified at the same time"));
                }
                None => {
                    let (sender, flight) = watch::channel(None);
                    flights.insert(key.clone(), flight.clone());
                    let sigstore = Arc::clone(self);
                    // On its own: who waits may give up, and the next finds the verdict.
                    tokio::spawn(async move {
                        let outcome = sigstore.fly(&key, &trusted.trust).await;
                        sigstore.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                        sender.send_replace(Some(outcome));
                    });
                    flight
                }
            }
        };
        match flight.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Outcome::Away(Arc::from("no outcome"))),
            Err(_) => Outcome::Away(Arc::from("the verification was given up")),
        }
    }

    /// Verifies, and keeps the verdict.
    async fn fly(self: &Arc<Self>, key: &Key, trust: &Arc<Trust>) -> Outcome {
        let host = key.0.repository.host().to_owned();
        let running = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            Arc::clone(
                running.entry(host).or_insert_with(|| Arc::new(Semaphore::new(limits::VERIFICATIONS_OF_REGISTRY))),
            )
        };
        let work = async {
            let _running = running.acquire().await;
            let examination = self.look_at(&key.0, Arc::clone(trust)).await;
            (examination.away.is_empty(), examination.into_outcome())
        };
        let (whole, outcome) = match tokio::time::timeout(limits::VERIFICATION, work).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let seconds = limits::VERIFICATION.as_secs();
                (false, Outcome::Away(Arc::from(format!("not verified within {seconds} s"))))
            }
        };
        let fresh = match (&outcome, whole) {
            (Outcome::Verified(_), true) => self.options.ttl,
            // Good, but not all was seen: perhaps there is more.
            (Outcome::Verified(_), false) | (Outcome::Failed(_), _) => self.options.ttl.min(limits::BAD_VERDICT),
            (Outcome::Away(why), _) => return self.stale(key, why, outcome.clone()),
        };
        self.verdicts.insert(key.clone(), Arc::new(Kept { outcome: outcome.clone(), since: Instant::now(), fresh }));
        outcome
    }

    /// A good verdict past its time serves while the registry or the log is away.
    fn stale(&self, key: &Key, why: &str, outcome: Outcome) -> Outcome {
        let Some(kept) = self.verdicts.get(key) else { return outcome };
        let age = kept.since.elapsed();
        if !matches!(kept.outcome, Outcome::Verified(_)) || age >= self.options.ttl + limits::STALE_VERDICT {
            return outcome;
        }
        tracing::warn!(
            image = %key.0, age_seconds = %age.as_secs(), reason = %why,
            "an earlier good verdict is used: the registry or the log is away"
        );
        let fresh = age + limits::BAD_VERDICT;
        let again = Kept { outcome: kept.outcome.clone(), since: kept.since, fresh };
        // Its whole life counts from the verification, not from now: put back, never prolonged.
        self.verdicts.insert(key.clone(), Arc::new(again));
        kept.outcome.clone()
    }

    /// Fetches and judges everything.
    async fn look_at(self: &Arc<Self>, target: &Target, trust: Arc<Trust>) -> Examination {
        let Target { repository, digest, platform } = target;
        self.doing.send_replace(format!("asking the registry {} for {digest}", repository.host()));
        let nothing = |outcome: Result<Arc<Verified>, String>, away: Vec<String>| Examination {
            reports: Vec::new(),
            away,
            outcome,
        };
        let manifest = match self.registries.manifest(repository, &digest.to_string()).await {
            Ok(manifest) => manifest,
            Err(RegistryError::Content(why)) => return nothing(Err(why), Vec::new()),
            Err(RegistryError::Unavailable(why)) => return nothing(Err(why.clone()), vec![why]),
        };
        if let Some(platform) = platform.as_ref().filter(|platform| *platform != digest) {
            let listed = match &manifest {
                Some(manifest) => find::lists(manifest, platform),
                None => Err("the registry does not have this manifest".to_owned()),
            };
            let other = match listed {
                Ok(Some(true)) => None,
                Ok(Some(false)) => Some(format!("the index does not list {platform}, which the container runs")),
                Ok(None) => Some(format!("it is neither {platform}, which the container runs, nor an index of it")),
                Err(why) => Some(why),
            };
            if let Some(other) = other {
                return nothing(Err(other), Vec::new());
            }
        }
        // Only a signature over the manifest itself takes the manifest; another may outlive it in the registry.
        let manifest = manifest.map(|manifest| manifest.bytes);
        let attestations = !self.options.ignore_attestations;
        self.doing.send_replace(format!("fetching signatures of {target}"));
        let Found { candidates, mut away } = find::find(&self.registries, repository, digest, attestations).await;
        let mut reports = Vec::new();
        let mut signatures = Vec::new();
        let mut attested = false;
        for (source, purpose, candidate) in candidates {
            if purpose == Purpose::Attestation && !attestations {
                continue;
            }
            let (report, good) = match candidate {
                Ok(candidate) => match self.judge(candidate, source.clone(), digest, manifest.as_ref(), &trust).await {
                    Ok(judged) => judged,
                    Err(why) => {
                        away.push(format!("{source}: {why}"));
                        continue;
                    }
                },
                Err(why) => (Report::malformed(source, purpose, why), None),
            };
            match (good, purpose) {
                (Some(good), Purpose::Signature) => signatures.push(good),
                (Some(_), Purpose::Attestation) => attested = true,
                (None, _) => {}
            }
            reports.push(report);
        }
        self.doing.send_replace(String::new());
        let required = attestations && self.options.require_attestations;
        let outcome = match (signatures.is_empty(), required && !attested) {
            (true, _) => Err(summary("signature", Purpose::Signature, &reports)),
            (false, true) => Err(format!(
                "{} (require_attestations = false would let it pass)",
                summary("attestation", Purpose::Attestation, &reports)
            )),
            (false, false) => Ok(Arc::new(Verified::new(&signatures, attested))),
        };
        Examination { reports, away, outcome }
    }

    /// Judges one candidate, with the log's help where it carries no entry. An error: the log is away.
    async fn judge(
        &self,
        candidate: Candidate,
        source: String,
        digest: &Digest,
        manifest: Option<&bytes::Bytes>,
        trust: &Arc<Trust>,
    ) -> Result<(Report, Option<Good>), String> {
        let work = Work {
            source,
            digest: digest.hex().to_owned(),
            manifest: manifest.cloned(),
            demands: Arc::clone(&self.demands),
            trust: Arc::clone(trust),
        };
        if !candidate.entries().is_empty() || candidate.layer.is_none() || self.options.ignore_tlog {
            return work.judge(vec![candidate]).await;
        }
        let subject = Subject { digest: &work.digest, manifest: work.manifest.as_deref() };
        let Some(signer) = rules::signer_pem(&candidate, &subject, &self.demands) else {
            return work.judge(vec![candidate]).await;
        };
        self.doing.send_replace(format!("asking {} for a log entry", self.options.rekor_url));
        let entries = match rekor::look_up(&self.registries, &self.options.rekor_url, &candidate, &signer).await {
            Ok(entries) => entries,
            Err(RegistryError::Unavailable(why)) => return Err(why),
            Err(RegistryError::Content(why)) => {
                return Ok((Report::malformed(work.source, candidate.purpose, why), None));
            }
        };
        let mut candidates: Vec<Candidate> = entries
            .into_iter()
            .map(|(entry, intoto_v001)| {
                let mut with = candidate.clone();
                with.bundle.verification_material.tlog_entries = vec![entry];
                with.intoto_v001 = intoto_v001;
                with
            })
            .collect();
        if candidates.is_empty() {
            candidates.push(candidate);
        }
        work.judge(candidates).await
    }
}

/// What judging takes, to go to a thread of its own.
struct Work {
    source: String,
    digest: String,
    manifest: Option<bytes::Bytes>,
    demands: Arc<Demands>,
    trust: Arc<Trust>,
}

impl Work {
    /// The first good candidate, or the last that was judged.
    async fn judge(self, candidates: Vec<Candidate>) -> Result<(Report, Option<Good>), String> {
        // Milliseconds of cryptography: not on the threads that answer calls.
        let judging = tokio::task::spawn_blocking(move || {
            let subject = Subject { digest: &self.digest, manifest: self.manifest.as_deref() };
            let mut last = None;
            for candidate in &candidates {
                let judged = rules::judge(candidate, &self.source, &subject, &self.demands, &self.trust);
                let good = judged.1.is_some();
                last = Some(judged);
                if good {
                    break;
                }
            }
            last
        });
        judging.await.ok().flatten().ok_or_else(|| "the verification was given up".to_owned())
    }
}

impl Examination {
    fn into_outcome(self) -> Outcome {
        match self.outcome {
            Ok(verified) => Outcome::Verified(verified),
            Err(why) if self.away.is_empty() => Outcome::Failed(Arc::from(why)),
            Err(_) => Outcome::Away(Arc::from(self.away.join("; "))),
        }
    }
}

/// Why nothing of this purpose is good: every reason, as many as an error may hold.
fn summary(what: &str, purpose: Purpose, reports: &[Report]) -> String {
    const SHOWN: usize = 8;
    let bad: Vec<&Report> = reports.iter().filter(|report| report.purpose == purpose).collect();
    if bad.is_empty() {
        return format!("there is no {what}");
    }
    let mut reasons: Vec<String> = bad.iter().take(SHOWN).map(ToString::to_string).collect();
    if bad.len() > SHOWN {
        reasons.push(format!("and {} more", bad.len() - SHOWN));
    }
    format!("no {what} is good: {}", reasons.join("; "))
}

/// A text file that the configuration names.
fn read(key: &str, path: &Path) -> Result<String, String> {
    trust::read(path, limits::TRUST_FILE).map_err(|why| format!("{key}: {}: {why}", path.display()))
}

impl std::fmt::Display for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}@{}", self.repository, self.digest)
    }
}

/// Judges a sigstore bundle over `blob` by every rule: its signature is over the blob itself, or over a statement about it.
/// `identities` or one of `public_keys` must have signed.
pub fn verify_blob(
    bundle: &[u8],
    blob: &[u8],
    root: &TrustedRoot,
    identities: Identities,
    public_keys: Vec<DerPublicKey>,
) -> Result<Report, String> {
    let demands = Demands { identities, public_keys, ..Demands::default() };
    Ok(judge_blob(bundle, blob, &Trust::new(root)?, &demands))
}

fn judge_blob(bundle: &[u8], blob: &[u8], trust: &Trust, demands: &Demands) -> Report {
    let source = "bundle";
    let candidate = match material::bundle(bundle) {
        Ok(candidate) => candidate,
        Err(why) => return Report::malformed(source.to_owned(), Purpose::Signature, why),
    };
    let digest = sigstore_verify::crypto::sha256(blob).to_hex();
    let subject = Subject { digest: &digest, manifest: Some(blob) };
    rules::judge(&candidate, source, &subject, demands, trust).0
}
