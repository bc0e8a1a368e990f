//! Examinations: everything that registries hold about one manifest, fetched and judged.

use std::sync::Arc;

use bytes::Bytes;
use registry::Registries;
use tokio::sync::Semaphore;

use crate::candidate::{Candidate, LoggedEntry, Purpose};
use crate::discovery::{self, Discovered, DiscoveryError, Encoded, FailedPlace, SignatureRef, UnreachableError};
use crate::limits;
use crate::options::Options;
use crate::progress::Progress;
use crate::rekor;
use crate::rules::{self, Good, Requirements, SignatureReport, Subject, TrustMaterial};
use crate::target::Target;
use crate::verification::{NoVerdict, Shortfall, UnreachableSource, Unverified, Verdict, Verified};

/// Every finding about one manifest.
#[derive(Debug)]
pub struct Examination {
    /// A report on each signature and attestation.
    pub reports: Vec<SignatureReport>,
    /// The sources that could not be reached.
    pub unreachable: Vec<UnreachableSource>,
    /// The good signatures, or why the image does not verify.
    pub outcome: Result<Arc<Verified>, Unverified>,
}

impl Examination {
    fn nothing(why: Unverified) -> Examination {
        Examination { reports: Vec::new(), unreachable: Vec::new(), outcome: Err(why) }
    }

    pub(crate) fn into_verdict(self) -> Verdict {
        match self.outcome {
            Ok(verified) => Verdict::Verified(verified),
            Err(why) if self.unreachable.is_empty() => Verdict::Failed(Arc::new(why)),
            Err(_) => Verdict::Unreachable(Arc::new(NoVerdict::Sources(self.unreachable))),
        }
    }
}

/// How much of an image is examined.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Enough for a verdict: one good attestation.
    Verdict,
    /// Everything, for an operator.
    Everything,
}

/// What an examination uses.
pub(crate) struct Examiner<'a> {
    pub(crate) registries: &'a Registries,
    pub(crate) options: &'a Options,
    pub(crate) requirements: &'a Arc<Requirements>,
    pub(crate) trust: Arc<TrustMaterial>,
    /// The permits of the threads that judge. A thread that is stuck keeps its permit.
    pub(crate) judging: &'a Arc<Semaphore>,
    pub(crate) progress: &'a Progress,
}

impl Examiner<'_> {
    /// Fetches and judges everything that there is about a manifest, one after the other.
    pub(crate) async fn examine(&self, target: &Target, depth: Depth) -> Examination {
        let Target { repository, digest, platform } = target;
        let step = self.progress.begin(format!("asking the registry {} for {digest}", repository.host()));
        let manifest = match self.registries.manifest(repository, &digest.to_string()).await {
            Ok(manifest) => manifest,
            Err(error) => {
                return match DiscoveryError::from(error) {
                    DiscoveryError::Content(why) => Examination::nothing(Unverified::Content(why)),
                    DiscoveryError::Unreachable(why) => Examination {
                        unreachable: vec![UnreachableSource { source: None, why }],
                        ..Examination::nothing(Unverified::Unreachable)
                    },
                };
            }
        };
        if let Some(platform) = platform.as_ref().filter(|platform| *platform != digest) {
            let listed = match &manifest {
                Some(manifest) => discovery::lists(manifest, platform),
                None => return Examination::nothing(Unverified::NoManifest),
            };
            match listed {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Examination::nothing(Unverified::NotListed(platform.clone())),
                Ok(None) => return Examination::nothing(Unverified::OtherManifest(platform.clone())),
                Err(why) => return Examination::nothing(Unverified::Manifest(why)),
            }
        }
        let attestations = !self.options.ignore_attestations;
        step.next(format!("listing signatures of {target}"));
        let Discovered { references, failed } =
            discovery::discover(self.registries, repository, digest, attestations).await;
        let mut collected = Collected::default();
        for FailedPlace { source, purpose, why } in failed {
            collected.add_failure(source, purpose, why);
        }
        let context = JudgeContext {
            digest: digest.hex().to_owned(),
            // Only a signature over the manifest itself needs the manifest. Another may outlive it in the registry.
            manifest: manifest.map(|manifest| manifest.bytes),
            requirements: Arc::clone(self.requirements),
            trust: Arc::clone(&self.trust),
            search_log: !self.options.ignore_tlog,
        };
        let context = Arc::new(context);
        let mut fetched = 0;
        let mut log = LogAccess::default();
        for reference in references {
            let SignatureRef { source, .. } = &reference;
            if depth == Depth::Verdict && collected.attested && reference.purpose() == Some(Purpose::Attestation) {
                break;
            }
            if fetched > limits::VERIFICATION_BYTES {
                let most = limits::VERIFICATION_BYTES >> 20;
                let why = format!("not looked at: more than {most} MiB of signatures and attestations before it");
                collected.reports.push(SignatureReport::malformed(source.clone(), reference.purpose(), &why));
                break;
            }
            step.next(format!("fetching {source}"));
            match reference.fetch(self.registries, repository).await {
                Ok(None) => {}
                Err(why) => collected.add_failure(source.clone(), reference.purpose(), why),
                Ok(Some(encoded)) => {
                    fetched += encoded.len();
                    match self.judge(&context, encoded, &reference, &mut log, &step).await {
                        Ok((report, _)) if report.purpose == Some(Purpose::Attestation) && !attestations => {}
                        Ok((report, good)) => collected.add(report, good),
                        Err(why) => collected.add_unreachable(source.clone(), why),
                    }
                }
            }
        }
        collected.sum_up(attestations && self.options.require_attestations)
    }

    /// Judges a possible signature. The log is searched where it carries no entry.
    async fn judge(
        &self,
        context: &Arc<JudgeContext>,
        encoded: Encoded,
        reference: &SignatureRef,
        log: &mut LogAccess,
        step: &crate::progress::Step<'_>,
    ) -> Result<(SignatureReport, Option<Good>), Arc<UnreachableError>> {
        let (source, purpose) = (reference.source.clone(), reference.purpose());
        let worker = Arc::clone(context);
        let first = self.on_a_thread(move || worker.parse_and_judge(encoded, source, purpose)).await?;
        let (candidate, signer) = match first {
            FirstLook::Judged(judged) => return Ok(*judged),
            FirstLook::NoEntry(candidate, signer) => (candidate, signer),
        };
        log.admit()?;
        let url = &self.options.rekor_url;
        step.next(format!("asking {url} for a log entry"));
        let source = reference.source.clone();
        let entries = match rekor::look_up(self.registries, url, &candidate, &signer).await {
            Ok(entries) => entries,
            Err(DiscoveryError::Unreachable(why)) => return Err(log.unreachable(why)),
            Err(DiscoveryError::Content(why)) => {
                return Ok((SignatureReport::malformed(source, purpose, &why), None));
            }
        };
        let worker = Arc::clone(context);
        self.on_a_thread(move || worker.judge_with(candidate, entries, &source)).await
    }

    /// Runs milliseconds of cryptography and parsing on a thread that answers no calls: strangers choose the input.
    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Arc<UnreachableError>> {
        let given_up = || Arc::new(UnreachableError::GivenUp);
        let permit = Arc::clone(self.judging).acquire_owned().await.map_err(|_| given_up())?;
        let judging = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        judging.await.map_err(|_| given_up())
    }
}

/// Whether one examination may search the log again.
#[derive(Default)]
struct LogAccess {
    lookups: usize,
    unreachable: Option<Arc<UnreachableError>>,
}

impl LogAccess {
    /// Counts a search. A log that was unreachable once is not asked again.
    fn admit(&mut self) -> Result<(), Arc<UnreachableError>> {
        if let Some(why) = &self.unreachable {
            return Err(Arc::clone(why));
        }
        self.lookups += 1;
        match self.lookups > limits::LOG_LOOKUPS {
            true => Err(Arc::new(UnreachableError::TooManyLookups)),
            false => Ok(()),
        }
    }

    fn unreachable(&mut self, why: Arc<UnreachableError>) -> Arc<UnreachableError> {
        Arc::clone(self.unreachable.get_or_insert(why))
    }
}

/// What an examination has collected so far.
#[derive(Default)]
struct Collected {
    reports: Vec<SignatureReport>,
    signatures: Vec<Good>,
    /// An attestation is good.
    attested: bool,
    unreachable: Vec<UnreachableSource>,
}

impl Collected {
    /// Adds a place that gives no signature.
    fn add_failure(&mut self, source: String, purpose: Option<Purpose>, why: DiscoveryError) {
        match why {
            DiscoveryError::Unreachable(why) => self.add_unreachable(source, why),
            DiscoveryError::Content(why) => {
                self.reports.push(SignatureReport::malformed(source, purpose, &why));
            }
        }
    }

    fn add_unreachable(&mut self, source: String, why: Arc<UnreachableError>) {
        self.unreachable.push(UnreachableSource { source: Some(source), why });
    }

    fn add(&mut self, report: SignatureReport, good: Option<Good>) {
        match (good, report.purpose) {
            (Some(good), Some(Purpose::Signature)) => self.signatures.push(good),
            (Some(_), Some(Purpose::Attestation)) => self.attested = true,
            _ => {}
        }
        self.reports.push(report);
    }

    /// The examination that this makes. `required`: an image without a good attestation does not verify.
    fn sum_up(self, required: bool) -> Examination {
        let Collected { reports, signatures, attested, unreachable } = self;
        let shortfall = |what, purpose: Purpose| {
            Shortfall::new(
                what,
                reports.iter().filter(|report| report.purpose.is_none_or(|of| of == purpose)).collect(),
            )
        };
        let outcome = match (signatures.is_empty(), required && !attested) {
            (true, _) => Err(Unverified::NoSignature(shortfall("signature", Purpose::Signature))),
            (false, true) => Err(Unverified::NoAttestation(shortfall("attestation", Purpose::Attestation))),
            (false, false) => Ok(Arc::new(Verified::new(&signatures, attested))),
        };
        Examination { reports, unreachable, outcome }
    }
}

/// What judging uses.
struct JudgeContext {
    /// The manifest's digest, in hex.
    digest: String,
    manifest: Option<Bytes>,
    requirements: Arc<Requirements>,
    trust: Arc<TrustMaterial>,
    /// The log is searched for entries that are missing.
    search_log: bool,
}

/// The outcome of judging without the log's help.
enum FirstLook {
    Judged(Box<(SignatureReport, Option<Good>)>),
    /// The candidate carries no log entry. The text is the PEM of its signer.
    NoEntry(Box<Candidate>, String),
}

impl JudgeContext {
    fn subject(&self) -> Subject<'_> {
        Subject { digest: &self.digest, manifest: self.manifest.as_deref() }
    }

    fn parse_and_judge(&self, encoded: Encoded, source: String, purpose: Option<Purpose>) -> FirstLook {
        let candidate = match encoded.candidate() {
            Ok(candidate) => candidate,
            Err(why) => {
                return FirstLook::Judged(Box::new((SignatureReport::malformed(source, purpose, &why), None)));
            }
        };
        if self.search_log
            && candidate.layer.is_some()
            && candidate.entries().is_empty()
            && let Some(signer) = rules::signer_pem(&candidate, &self.subject(), &self.requirements)
        {
            return FirstLook::NoEntry(Box::new(candidate), signer);
        }
        let judged = rules::judge(&candidate, &source, &self.subject(), &self.requirements, &self.trust);
        FirstLook::Judged(Box::new(judged))
    }

    /// Judges a candidate with each entry that the log has of it; answers the first that is good, or the last.
    fn judge_with(
        &self,
        mut candidate: Box<Candidate>,
        entries: Vec<LoggedEntry>,
        source: &str,
    ) -> (SignatureReport, Option<Good>) {
        let judge =
            |candidate: &Candidate| rules::judge(candidate, source, &self.subject(), &self.requirements, &self.trust);
        let mut last = None;
        for LoggedEntry { entry, intoto_v001 } in entries {
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
