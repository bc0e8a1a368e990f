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
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bounded::warnings::Warnings;
use sha2::{Digest as _, Sha256};
use sigstore_trust_root::TrustedRoot;
use sigstore_verify::types::DerPublicKey;
use sigstore_verify::types::bundle::TransparencyLogEntry;
use tokio::sync::{Semaphore, watch};

use self::find::{Fetched, Place, Places};
pub use self::identities::Identities;
use self::material::Candidate;
pub use self::material::Purpose;
use self::registry::{Digest, Registries, RegistryError, Repository};
use self::rules::{Demands, Good, Subject, Trust};
pub use self::rules::{Finding, Report, Rule};
use crate::config::{self, OnFailure};
use crate::limits;
use crate::sandbox::bindings::docker_attestor::policy::sigstore::{Signature, Verdict, Verified as VerifiedRecord};
use crate::sandbox::bindings::docker_attestor::policy::types::Fault;

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
            if !unique.contains(signature) && unique.len() < limits::GOOD_SIGNATURES {
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

/// A verdict.
struct Kept {
    outcome: Outcome,
    /// Everything was seen that it depends on.
    whole: bool,
    since: Instant,
    fresh: Duration,
}

impl Kept {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < self.fresh
    }
}

/// Bytes of a failure's text: less than a policy's error may have.
const LONGEST: usize = limits::GUEST_TEXT - 512;

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
    /// Threads that judge. One that is stuck keeps its permit.
    judging: Arc<Semaphore>,
    doing: watch::Sender<String>,
    warnings: Warnings,
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
            judging: Arc::new(Semaphore::new(limits::JUDGING)),
            doing: watch::Sender::new(String::new()),
            warnings: Warnings::default(),
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
        let kept: Vec<Option<Arc<Kept>>> = targets
            .iter()
            .map(|target| self.verdicts.get(&(target.clone(), trusted.fingerprint)).filter(|kept| kept.is_fresh()))
            .collect();
        // One good verdict is enough, whether or not the registries of the others can be reached just now.
        for (target, kept) in targets.iter().zip(&kept) {
            if let Some(Outcome::Verified(verified)) = kept.as_ref().map(|kept| &kept.outcome) {
                return Some((Ok(Judged::Verified(Arc::clone(verified))), format!("{target}: a kept verdict")));
            }
        }
        for (target, kept) in targets.iter().zip(&kept) {
            match kept.as_ref().map(|kept| &kept.outcome) {
                Some(Outcome::Failed(why)) => reasons.push(format!("{target}: {why}")),
                _ => return None,
            }
        }
        Some(self.failed(&reasons))
    }

    /// Verifies an image: of its digests in order the first that verifies ends the search.
    pub async fn verify(
        self: &Arc<Self>,
        image: Image<'_>,
        deadline: tokio::time::Instant,
    ) -> (Result<Judged, Fault>, String) {
        if let Some(known) = self.known(image) {
            return known;
        }
        let mut reasons = Vec::new();
        let mut away = Vec::new();
        let targets = self.targets(image, &mut reasons);
        let count = targets.len();
        for (number, target) in targets.into_iter().enumerate() {
            let text = target.to_string();
            // Each has its share of the time: one registry that hangs does not hide the next.
            let now = tokio::time::Instant::now();
            let shares = u32::try_from(count - number).unwrap_or(u32::MAX);
            let until = now + deadline.saturating_duration_since(now) / shares;
            match tokio::time::timeout_at(until, self.outcome(target)).await {
                Ok(Outcome::Verified(verified)) => {
                    return (Ok(Judged::Verified(verified)), format!("{text}: verified"));
                }
                Ok(Outcome::Failed(why)) => reasons.push(format!("{text}: {why}")),
                Ok(Outcome::Away(why)) => away.push(format!("{text}: {why}")),
                Err(_) => away.push(format!(
                    "{text}: not verified in {:.1} s, which goes on: ask again",
                    now.elapsed().as_secs_f32()
                )),
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
    ///
    /// # Errors
    /// It is no reference, or not all could be looked at in a minute.
    pub async fn examine(self: &Arc<Self>, reference: &str) -> Result<Examination, String> {
        let (repository, digest) = registry::parse_reference(reference)?;
        let target = Target { repository, digest, platform: None };
        let trust = Arc::clone(&self.trust.load().trust);
        let seconds = limits::VERIFICATION.as_secs();
        tokio::time::timeout(limits::VERIFICATION, self.look_at(&target, trust, Looking::AtAll))
            .await
            .map_err(|_| format!("not all of it could be looked at within {seconds} s ({})", self.doing()))
    }

    /// Whether the configuration says not to verify this.
    pub fn skips(&self, reference: &str) -> bool {
        let image = Image { repo_digests: &[reference.to_owned()], manifest: None };
        self.skipped(image).is_some()
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
            (false, _) => Err(report.to_string()),
            (true, Some(Purpose::Signature)) => Ok(()),
            (true, _) => Err("the bundle holds an attestation, not a signature".to_owned()),
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
            [] => "the image has no repo digest: it was built or loaded on this host, or removed meanwhile, and no registry is known \
                   to hold signatures of it: push it and pull it"
                .to_owned(),
            reasons => format!("no signature of the image verifies: {}", reasons.join("; ")),
        };
        self.omitted(text, Fault::Unverified)
    }

    fn omitted(&self, mut text: String, fault: fn(String) -> Fault) -> (Result<Judged, Fault>, String) {
        // It goes through the policy, whose texts are bounded.
        if text.len() > LONGEST {
            text.truncate(text.floor_char_boundary(LONGEST));
            text.push_str("…; `docker-attestor verify` lists all");
        }
        match self.options.on_failure {
            OnFailure::Deny => (Err(fault(text.clone())), text),
            OnFailure::Omit => {
                if let Some(dropped) = self.warnings.admit() {
                    tracing::warn!(reason = %text, dropped = %dropped, "an image is not verified: its sigstore selectors are left out");
                }
                (Ok(Judged::Omitted), format!("omitted: {text}"))
            }
        }
    }

    /// What to verify, in order.
    fn targets(&self, image: Image<'_>, reasons: &mut Vec<String>) -> Vec<Target> {
        let platform = match image.manifest.map(Digest::new).transpose() {
            Ok(platform) => platform,
            Err(why) => {
                // Without it nobody could say whether an index lists what the container runs.
                reasons.push(format!("the platform's manifest: {why}"));
                return Vec::new();
            }
        };
        let mut targets: Vec<Target> = Vec::new();
        for digest in image.repo_digests.iter().take(limits::REPO_DIGESTS) {
            match registry::parse_reference(digest) {
                Ok((repository, digest)) => {
                    targets.push(Target { repository, digest, platform: platform.clone() });
                }
                Err(why) => reasons.push(why),
            }
        }
        if image.repo_digests.len() > limits::REPO_DIGESTS {
            reasons.push(format!("of {} repo digests the first {}", image.repo_digests.len(), limits::REPO_DIGESTS));
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
        let mut flight = {
            let mut flights = self.flights();
            // Under the lock: a flight that has just ended left its verdict before it was taken out.
            if let Some(kept) = self.verdicts.get(&key).filter(|kept| kept.is_fresh()) {
                return kept.outcome.clone();
            }
            match flights.get(&key) {
                Some(flight) => flight.clone(),
                None if flights.len() >= limits::VERIFICATIONS => {
                    let away = Outcome::Away(Arc::from("too many images are being verified at the same time"));
                    return self.stale(&key, away);
                }
                None => {
                    let (sender, flight) = watch::channel(None);
                    flights.insert(key.clone(), flight.clone());
                    let landing = Landing { sigstore: Arc::clone(self), key };
                    // On its own: who waits may give up, and the next finds the verdict.
                    tokio::spawn(async move {
                        let outcome = landing.sigstore.fly(&landing.key, &trusted.trust).await;
                        drop(landing);
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

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
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
            let examination = self.look_at(&key.0, Arc::clone(trust), Looking::ForVerdict).await;
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
            (Outcome::Failed(_), _) => self.options.ttl.min(limits::BAD_VERDICT),
            // Good, but not all was seen: what was whole before says more.
            (Outcome::Verified(_), false) => match self.stale(key, outcome.clone()) {
                stale if stale_differs(&stale, &outcome) => return stale,
                _ => self.options.ttl.min(limits::BAD_VERDICT),
            },
            (Outcome::Away(_), _) => return self.stale(key, outcome),
        };
        let kept = Kept { outcome: outcome.clone(), whole, since: Instant::now(), fresh };
        self.verdicts.insert(key.clone(), Arc::new(kept));
        outcome
    }

    /// A good verdict past its time serves while the registry or the log is away; else `outcome`.
    fn stale(&self, key: &Key, outcome: Outcome) -> Outcome {
        let Some(kept) = self.verdicts.get(key).filter(|kept| kept.whole) else { return outcome };
        let age = kept.since.elapsed();
        if !matches!(kept.outcome, Outcome::Verified(_)) || age >= self.options.ttl + limits::STALE_VERDICT {
            return outcome;
        }
        if let Some(dropped) = self.warnings.admit() {
            let reason = if let Outcome::Away(why) = &outcome { why } else { "not all signatures could be looked at" };
            tracing::warn!(
                image = %key.0, age_seconds = %age.as_secs(), reason, dropped = %dropped,
                "an earlier good verdict is used: the registry or the log is away"
            );
        }
        let again = Kept {
            outcome: kept.outcome.clone(),
            whole: true,
            // Its whole life counts from the verification, not from now: put back, never prolonged.
            since: kept.since,
            fresh: age + limits::BAD_VERDICT,
        };
        self.verdicts.insert(key.clone(), Arc::new(again));
        kept.outcome.clone()
    }

    /// Fetches and judges what there is about a manifest, one place after the other.
    async fn look_at(self: &Arc<Self>, target: &Target, trust: Arc<Trust>, looking: Looking) -> Examination {
        let Target { repository, digest, platform } = target;
        let _done = Doing(self);
        self.doing.send_replace(format!("asking the registry {} for {digest}", repository.host()));
        let nothing = |outcome: Result<Arc<Verified>, String>, away: Vec<String>| Examination {
            reports: Vec::new(),
            away,
            outcome,
        };
        let manifest = match self.registries.manifest(repository, &digest.to_string()).await {
            Ok(manifest) => manifest,
            Err(RegistryError::Content(why)) => return nothing(Err(why), Vec::new()),
            Err(RegistryError::Unavailable(why)) => {
                return nothing(Err("the registry is away".to_owned()), vec![why]);
            }
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
        let attestations = !self.options.ignore_attestations;
        self.doing.send_replace(format!("listing signatures of {target}"));
        let Places { places, failed } = find::find(&self.registries, repository, digest, attestations).await;
        let mut seen = Seen::default();
        for (source, purpose, why) in failed {
            seen.failed(source, purpose, why);
        }
        let work = Work {
            digest: digest.hex().to_owned(),
            // Only a signature over the manifest itself takes the manifest; another may outlive it in the registry.
            manifest: manifest.map(|manifest| manifest.bytes),
            demands: Arc::clone(&self.demands),
            trust,
            ask_log: !self.options.ignore_tlog,
        };
        let work = Arc::new(work);
        let mut fetched_bytes = 0;
        let mut log = LogAccess::default();
        for place in places {
            if looking == Looking::ForVerdict && seen.attested && place.purpose() == Some(Purpose::Attestation) {
                break;
            }
            if fetched_bytes > limits::VERIFICATION_BYTES {
                let most = limits::VERIFICATION_BYTES >> 20;
                let why = format!("not looked at: more than {most} MiB of signatures and attestations before it");
                seen.reports.push(Report::malformed(place.source.clone(), place.purpose(), why));
                break;
            }
            self.doing.send_replace(format!("fetching {}", place.source));
            match place.fetch(&self.registries, repository).await {
                Ok(None) => {}
                Err(why) => seen.failed(place.source.clone(), place.purpose(), why),
                Ok(Some(fetched)) => {
                    fetched_bytes += fetched.len();
                    match self.judge(&work, fetched, &place, &mut log).await {
                        Ok((report, _)) if report.purpose == Some(Purpose::Attestation) && !attestations => {}
                        Ok((report, good)) => seen.judged(report, good),
                        Err(why) => seen.away.push(format!("{}: {why}", place.source)),
                    }
                }
            }
        }
        seen.sum_up(attestations && self.options.require_attestations)
    }

    /// Judges what was fetched, with the log's help where it carries no entry. An error: the log is away.
    async fn judge(
        &self,
        work: &Arc<Work>,
        fetched: Fetched,
        place: &Place,
        log: &mut LogAccess,
    ) -> Result<(Report, Option<Good>), String> {
        let source = place.source.clone();
        let purpose = place.purpose();
        let worker = Arc::clone(work);
        let first = self.on_a_thread(move || worker.parse_and_judge(fetched, source, purpose)).await?;
        let (candidate, signer) = match first {
            First::Judged(judged) => return Ok(judged),
            First::AskLog(candidate, signer) => (candidate, signer),
        };
        let entries = match log.may_ask() {
            Err(why) => return Err(why),
            Ok(()) => {
                self.doing.send_replace(format!("asking {} for a log entry", self.options.rekor_url));
                rekor::look_up(&self.registries, &self.options.rekor_url, &candidate, &signer).await
            }
        };
        let source = place.source.clone();
        let entries = match entries {
            Ok(entries) => entries,
            Err(RegistryError::Unavailable(why)) => return Err(log.is_away(why)),
            Err(RegistryError::Content(why)) => return Ok((Report::malformed(source, purpose, why), None)),
        };
        let worker = Arc::clone(work);
        self.on_a_thread(move || worker.judge_with(candidate, entries, &source)).await
    }

    /// Milliseconds of cryptography, and parsing of whatever somebody pushed: not on the threads that answer calls.
    async fn on_a_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let given_up = || "the verification was given up".to_owned();
        let permit = Arc::clone(&self.judging).acquire_owned().await.map_err(|_| given_up())?;
        let judging = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        judging.await.map_err(|_| given_up())
    }
}

/// How much is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looking {
    /// One good attestation is enough.
    ForVerdict,
    /// All of it, for an operator.
    AtAll,
}

/// Takes a flight out when it has ended, also by a panic.
struct Landing {
    sigstore: Arc<Sigstore>,
    key: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.sigstore.flights().remove(&self.key);
    }
}

/// Nothing is waited for any more.
struct Doing<'a>(&'a Sigstore);

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        self.0.doing.send_replace(String::new());
    }
}

/// Whether one verification may ask the log again.
#[derive(Default)]
struct LogAccess {
    asked: usize,
    away: Option<String>,
}

impl LogAccess {
    fn may_ask(&mut self) -> Result<(), String> {
        if let Some(why) = &self.away {
            return Err(why.clone());
        }
        self.asked += 1;
        match self.asked > limits::LOG_QUESTIONS {
            true => Err(format!("the log was asked for {} entries of this image already", limits::LOG_QUESTIONS)),
            false => Ok(()),
        }
    }

    fn is_away(&mut self, why: String) -> String {
        self.away.get_or_insert(why).clone()
    }
}

/// What was seen of an image so far.
#[derive(Default)]
struct Seen {
    reports: Vec<Report>,
    signatures: Vec<Good>,
    attested: bool,
    away: Vec<String>,
}

impl Seen {
    /// A place that gives nothing: its content is wrong, or the registry is away.
    fn failed(&mut self, source: String, purpose: Option<Purpose>, why: RegistryError) {
        match why {
            RegistryError::Unavailable(why) => self.away.push(format!("{source}: {why}")),
            RegistryError::Content(why) => self.reports.push(Report::malformed(source, purpose, why)),
        }
    }

    fn judged(&mut self, report: Report, good: Option<Good>) {
        match (good, report.purpose) {
            (Some(good), Some(Purpose::Signature)) => self.signatures.push(good),
            (Some(_), Some(Purpose::Attestation)) => self.attested = true,
            _ => {}
        }
        self.reports.push(report);
    }

    fn sum_up(self, required: bool) -> Examination {
        let Seen { reports, signatures, attested, away } = self;
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
}

/// What judging takes.
struct Work {
    digest: String,
    manifest: Option<bytes::Bytes>,
    demands: Arc<Demands>,
    trust: Arc<Trust>,
    /// The log is asked for entries that are not there.
    ask_log: bool,
}

/// What a first look came to.
enum First {
    Judged((Report, Option<Good>)),
    /// It carries no log entry; the PEM text of its signer.
    AskLog(Box<Candidate>, String),
}

impl Work {
    fn subject(&self) -> Subject<'_> {
        Subject { digest: &self.digest, manifest: self.manifest.as_deref() }
    }

    fn parse_and_judge(&self, fetched: Fetched, source: String, purpose: Option<Purpose>) -> First {
        let candidate = match fetched.parse() {
            Ok(candidate) => candidate,
            Err(why) => return First::Judged((Report::malformed(source, purpose, why), None)),
        };
        if self.ask_log
            && candidate.layer.is_some()
            && candidate.entries().is_empty()
            && let Some(signer) = rules::signer_pem(&candidate, &self.subject(), &self.demands)
        {
            return First::AskLog(Box::new(candidate), signer);
        }
        First::Judged(rules::judge(&candidate, &source, &self.subject(), &self.demands, &self.trust))
    }

    /// Judges a candidate with each entry that the log has of it: the first that is good, or the last.
    fn judge_with(
        &self,
        mut candidate: Box<Candidate>,
        entries: Vec<(TransparencyLogEntry, bool)>,
        source: &str,
    ) -> (Report, Option<Good>) {
        let judge =
            |candidate: &Candidate| rules::judge(candidate, source, &self.subject(), &self.demands, &self.trust);
        let mut last = None;
        for (entry, intoto_v001) in entries {
            candidate.bundle.verification_material.tlog_entries = vec![entry];
            candidate.intoto_v001 = intoto_v001;
            let judged = judge(&candidate);
            if judged.1.is_some() {
                return judged;
            }
            last = Some(judged);
        }
        last.unwrap_or_else(|| judge(&candidate))
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
    let mut bad: Vec<&Report> = reports.iter().filter(|report| report.purpose.is_none_or(|of| of == purpose)).collect();
    if bad.is_empty() {
        return format!("there is no {what}");
    }
    // What is nearest to good says most, and nobody hides it behind what is not even a signature.
    bad.sort_by_key(|report| std::cmp::Reverse(report.holding()));
    let mut reasons: Vec<String> = bad.iter().take(SHOWN).map(ToString::to_string).collect();
    if bad.len() > SHOWN {
        reasons.push(format!("and {} more", bad.len() - SHOWN));
    }
    format!("no {what} is good: {}", reasons.join("; "))
}

/// Whether what is served is something else than what was just found.
fn stale_differs(served: &Outcome, found: &Outcome) -> bool {
    match (served, found) {
        (Outcome::Verified(served), Outcome::Verified(found)) => !Arc::ptr_eq(served, found),
        _ => true,
    }
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
/// One of `identities` or of `public_keys` must have signed; when both are empty, anybody.
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
        Err(why) => return Report::malformed(source.to_owned(), None, why),
    };
    let digest = sigstore_verify::crypto::sha256(blob).to_hex();
    let subject = Subject { digest: &digest, manifest: Some(blob) };
    rules::judge(&candidate, source, &subject, demands, trust).0
}
