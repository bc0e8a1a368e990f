//! Every forgery of the signing test bed in every format and under every kind of evidence: what is well signed is accepted from a
//! registry, and the same with one thing forged is rejected by the rule that the forgery breaks, for its reason.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test that prints a table"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use image_signatures::{Examination, Options as Settings, Purpose, Rule, Verifier};
use serde_json::json;
use sigstore_fixtures::oci::ArtifactType;
use sigstore_fixtures::registry::{self, Fault, Registry};
use sigstore_fixtures::{
    Content, Curve, EntryKind, Field, Forgery, Format, Hash, Layer, Log, Options, Signer, Version,
};
use sigstore_verify::types::SignatureBytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::stage::{IMAGE, Stage, allowed_only, only_signatures, signer, wrong};

/// A kind of evidence, and the configuration that asks for it.
#[derive(Clone)]
struct Way {
    name: &'static str,
    options: Options,
    ignore_tlog: bool,
}

fn ways() -> Vec<Way> {
    let way = |name, options| Way { name, options, ignore_tlog: false };
    let unlogged = |name, options| Way { name, options, ignore_tlog: true };
    let default = Options::default();
    let p384 = |options| Options { signer: Signer::Certificate(Curve::P384), ..options };
    let untimed = Options { log: Log::None, ..default.clone() };
    vec![
        way("v1", default.clone()),
        way("v1, time stamp", Options { timestamp: true, ..default.clone() }),
        way("v1, SET alone", Options { proof: false, ..default.clone() }),
        way("v1, proof and time stamp", Options::proof_only()),
        way("v1, intoto 0.0.2", Options { entry: Some(EntryKind::Intoto), ..default.clone() }),
        way("v1, intoto 0.0.1", Options { entry: Some(EntryKind::IntotoV1), ..default.clone() }),
        way("v2", Options::rekor_v2()),
        way("v1, key", default.clone().with_key()),
        way("v2, key", Options::rekor_v2().with_key()),
        way("v1, P-384", p384(default.clone())),
        way("v2, P-384", p384(Options::rekor_v2())),
        unlogged("time stamp", Options::timestamp_only()),
        unlogged("time stamp, P-384", p384(Options::timestamp_only())),
        unlogged("time stamp, key", Options::timestamp_only().with_key()),
        unlogged("nothing", untimed.clone()),
        unlogged("nothing, key", untimed.with_key()),
    ]
}

/// The formats, each with its name.
fn formats() -> Vec<(&'static str, Format)> {
    let digest = &IMAGE.digest;
    let predicate_type = "https://world.test/predicate".to_owned();
    let bundle = |content, version| Format::Bundle(content, version);
    vec![
        (".sig", Format::Sig),
        (".att", Format::Att { predicate_type, predicate: json!({ "a": 1 }) }),
        ("statement", bundle(Content::cosign_sign(digest), Version::V03)),
        ("message", bundle(Content::Message(IMAGE.bytes.clone()), Version::V03)),
        ("attestation", bundle(Content::attestation(digest), Version::V03)),
        ("v0.2", bundle(Content::cosign_sign(digest), Version::V02)),
        ("v0.1", bundle(Content::Message(IMAGE.bytes.clone()), Version::V01)),
    ]
}

/// Whether anybody could sign so.
fn exists(format: &Format, options: &Options) -> bool {
    let statement = !matches!(format, Format::Sig | Format::Bundle(Content::Message(_), _));
    match format {
        // A layer carries no entry but one with its SET.
        Format::Sig | Format::Att { .. } if options.log == Log::RekorV2 => false,
        Format::Sig | Format::Att { .. } if options.log == Log::RekorV1 && !options.set => false,
        _ => options.entry.is_none() || statement,
    }
}

/// One signature or attestation, in a repository of its own.
struct Case {
    format: (&'static str, Format),
    way: Way,
    forgery: Option<Forgery>,
}

impl Case {
    /// Puts the image into the registry, with what is to be judged; answers its reference.
    fn set_up(&self, stage: &Stage, registry: &Registry, repository: &str) -> String {
        let (test_bed, digest) = (&stage.test_bed, &IMAGE.digest);
        registry.push(repository, None, &IMAGE);
        let options = Options { forgery: self.forgery, ..self.way.options.clone() };
        match &self.format.1 {
            Format::Sig => {
                drop(registry.attach_signatures(repository, digest, &[test_bed.sign_simple(digest, &options)]))
            }
            Format::Att { predicate_type, predicate } => {
                let layer = test_bed.attest_simple(digest, predicate_type, predicate, &options);
                registry.attach_attestations(repository, digest, &[layer]);
            }
            Format::Bundle(content, version) => {
                let bundle = test_bed.bundle(content, *version, &options).bytes;
                registry.attach_bundle(repository, digest, &bundle, ArtifactType::Bundle);
            }
        }
        // For a verdict there must be one of each.
        let signer = if options.signer == Signer::Key { Signer::Key } else { Signer::Certificate(Curve::P256) };
        let companion = Options { signer, ..Options::default() };
        match self.purpose() {
            Purpose::Signature => {
                let layer = test_bed.attest_simple(digest, "https://world.test/companion", &json!({}), &companion);
                registry.attach_attestations(repository, digest, &[layer]);
            }
            Purpose::Attestation => {
                registry.attach_signatures(repository, digest, &[test_bed.sign_simple(digest, &companion)]);
            }
        }
        format!("{}/{repository}@{digest}", registry.host())
    }

    fn purpose(&self) -> Purpose {
        if self.format.1.is_signature() { Purpose::Signature } else { Purpose::Attestation }
    }

    fn name(&self) -> String {
        let forgery = self.forgery.map_or("well signed", Forgery::name);
        format!("{forgery}: {}, {}", self.format.0, self.way.name)
    }
}

/// The verifiers that the ways ask for.
struct Verifiers(BTreeMap<(bool, bool), Arc<Verifier>>);

impl Verifiers {
    fn new(stage: &Stage) -> Verifiers {
        let verifier = |(ignore_tlog, key): (bool, bool)| {
            let settings = Settings { ignore_tlog, ..Settings::default() };
            stage.verifier(match key {
                true => Settings { public_keys: stage.public_keys(), ..settings },
                false => Settings { identities: signer(), ..settings },
            })
        };
        let kinds = [(false, false), (false, true), (true, false), (true, true)];
        Verifiers(kinds.into_iter().map(|kind| (kind, verifier(kind))).collect())
    }

    fn of(&self, way: &Way) -> Arc<Verifier> {
        Arc::clone(&self.0[&(way.ignore_tlog, way.options.signer == Signer::Key)])
    }
}

/// What the verifier says of the case's own signature: nothing wrong, or the rules that do not hold. What it says of the image
/// must agree.
fn verdict(case: &Case, examination: &Examination) -> Result<(), Vec<(u8, String)>> {
    let surprise = |what: &str| Err(vec![(u8::MAX, format!("{what}: {examination:?}"))]);
    let purpose = case.purpose();
    let beside = if purpose == Purpose::Signature { ".att, layer" } else { ".sig, layer" };
    let (companion, judged): (Vec<_>, Vec<_>) =
        examination.reports.iter().partition(|report| report.source.contains(beside));
    let ([companion], [report]) = (&companion[..], &judged[..]) else { return surprise("not two reports") };
    if !companion.good() || !examination.unreachable.is_empty() {
        return surprise("what stands beside it is not good");
    }
    match &examination.outcome {
        Ok(_) if report.good() && report.purpose == Some(purpose) => Ok(()),
        Ok(_) => surprise("the image passes"),
        // It is good, but not for what it is needed for.
        Err(why) if report.good() => Err(vec![(0, why.to_string())]),
        Err(why) if !why.to_string().contains(&report.to_string()) && report.purpose == Some(purpose) => {
            surprise("another reason")
        }
        Err(_) => Err(wrong(report).into_iter().map(|(rule, text)| (rule, text.to_owned())).collect()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_well_signed_is_accepted_and_each_forgery_rejected_for_its_reason() {
    let stage = Arc::new(Stage::new());
    let registry = Arc::new(Registry::start(registry::Options::default()).await);
    let verifiers = Arc::new(Verifiers::new(&stage));
    let mut cases = Vec::new();
    for way in ways() {
        for format in formats().into_iter().filter(|(_, format)| exists(format, &way.options)) {
            let case = |forgery| Case { format: format.clone(), way: way.clone(), forgery };
            cases.push(case(None));
            if unsupported(&format.1, &way.options).is_some() {
                continue;
            }
            for (_, forgery) in Forgery::ALL.iter().filter(|(_, forgery)| forgery.applies(&format.1, &way.options)) {
                cases.push(case(Some(*forgery)));
            }
        }
    }
    let at_once = Arc::new(Semaphore::new(4));
    let mut running = JoinSet::new();
    for (number, case) in cases.into_iter().enumerate() {
        let (stage, registry) = (Arc::clone(&stage), Arc::clone(&registry));
        let (verifiers, at_once) = (Arc::clone(&verifiers), Arc::clone(&at_once));
        running.spawn(async move {
            let _turn = at_once.acquire().await.unwrap();
            let reference = case.set_up(&stage, &registry, &format!("case-{number}"));
            let examination = verifiers.of(&case.way).examine(&reference).await.unwrap();
            (verdict(&case, &examination), case)
        });
    }
    let mut table = Table::default();
    while let Some(done) = running.join_next().await {
        let (verdict, case) = done.unwrap();
        table.enter(&case, verdict);
    }
    table.print();
    let made: BTreeSet<&str> = table.rows.keys().map(|(name, _)| *name).collect();
    for (name, _) in Forgery::ALL {
        assert!(made.contains(name), "nothing was forged with {name}");
    }
    assert!(table.failed.is_empty());
}

/// How often something came out, and in which formats.
#[derive(Default)]
struct Row {
    count: usize,
    formats: BTreeSet<&'static str>,
}

/// What came out, by forgery and rule.
#[derive(Default)]
struct Table {
    rows: BTreeMap<(&'static str, Option<u8>), Row>,
    passed: usize,
    failed: Vec<String>,
}

impl Table {
    fn enter(&mut self, case: &Case, verdict: Result<(), Vec<(u8, String)>>) {
        let (format, way) = (&case.format.1, &case.way);
        let expected = match case.forgery {
            None => unsupported(format, &way.options),
            Some(forgery) if harmless(forgery, format, way) => None,
            Some(forgery) => Some(rejected_for(forgery, format, &way.options)),
        };
        let as_expected = match (expected, &verdict) {
            (None, Ok(())) => true,
            (Some((rule, because)), Err(wrong)) => {
                // What is not over this image is rejected by more than one rule.
                let copied = case.forgery == Some(Forgery::CopiedFromAnotherImage);
                wrong.iter().all(|(broken, _)| copied || *broken == rule)
                    && wrong.iter().any(|(broken, why)| *broken == rule && why.contains(because))
            }
            _ => false,
        };
        match as_expected {
            true => self.passed += 1,
            false => self.failed.push(format!("{}: expected {expected:?}, got {verdict:?}", case.name())),
        }
        let name = case.forgery.map_or("well signed", Forgery::name);
        let row = self.rows.entry((name, expected.map(|(rule, _)| rule))).or_default();
        row.count += 1;
        row.formats.insert(case.format.0);
    }

    fn print(&self) {
        for ((name, rule), Row { count, formats }) in &self.rows {
            let verdict = match rule {
                None => "accepted".to_owned(),
                Some(0) => "good for something else".to_owned(),
                Some(rule) => format!("{rule} {}", title(*rule)),
            };
            let formats: Vec<&str> = formats.iter().copied().collect();
            println!("{name:34} {verdict:24} {count:3} times: {}", formats.join(", "));
        }
        for failure in &self.failed {
            println!("FAIL {failure}");
        }
        println!("{} passed, {} failed", self.passed, self.failed.len());
    }
}

/// Why something well signed is rejected all the same: the rule and its reason.
fn unsupported(format: &Format, options: &Options) -> Option<(u8, &'static str)> {
    let p384 = options.signer == Signer::Certificate(Curve::P384);
    let logged = options.log != Log::None;
    match format {
        Format::Sig => None,
        // cosign signs with SHA-256 whatever the curve; the library knows one hash for each curve in envelopes.
        Format::Att { .. } => p384.then_some((3, "the signature is not the certificate's over these bytes")),
        // It cannot represent the entry.
        Format::Bundle(..) if options.entry == Some(EntryKind::IntotoV1) => {
            Some((1, "unsupported Rekor entry format: intoto/0.0.1"))
        }
        // The format says what it must bring, and images have no older one.
        Format::Bundle(_, Version::V01 | Version::V02) => Some((1, "the bundle is older than v0.3")),
        Format::Bundle(..) if logged && !options.proof => Some((4, "there is no inclusion proof")),
        // The library knows P-256 alone in Rekor v2, and SHA-256 alone in hashedrekord.
        Format::Bundle(..) if p384 && options.log == Log::RekorV2 => {
            Some((4, "unknown variant `PKIX_ECDSA_P384_SHA_384`"))
        }
        Format::Bundle(Content::Message(_), _) if p384 && logged => Some((4, "invalid hash in Rekor entry")),
        Format::Bundle(..) => None,
    }
}

/// Whether nothing is lost by what was forged.
fn harmless(forgery: Forgery, format: &Format, way: &Way) -> bool {
    match forgery {
        // Without a log it is now that counts, where there is no other time.
        Forgery::TimestampRemoved => way.ignore_tlog,
        // A key needs no time. In a bundle the library wants to know whose it is all the same.
        Forgery::TimestampOfAnotherAuthority => {
            way.options.signer == Signer::Key && !matches!(format, Format::Bundle(..))
        }
        _ => false,
    }
}

/// The rule that a forgery breaks, and a part of the reason that is given.
fn rejected_for(forgery: Forgery, format: &Format, options: &Options) -> (u8, &'static str) {
    use self::{Field::*, Forgery::*, Layer::*};
    let bundle = matches!(format, Format::Bundle(..));
    let message = matches!(format, Format::Sig | Format::Bundle(Content::Message(_), _));
    let key = options.signer == Signer::Key;
    let intoto = matches!(options.entry, Some(EntryKind::Intoto));
    let intoto_v1 = matches!(options.entry, Some(EntryKind::IntotoV1));
    let not_signed = if key {
        "the signature is of no key of public_keys over these bytes"
    } else {
        "the signature is not the certificate's over these bytes"
    };
    // A bundle is parsed as a whole; a layer's annotation is named.
    let form = |annotation| (1, if bundle { "the bundle is malformed" } else { annotation });
    match forgery {
        SignatureOfAnotherKey | SignatureOfAnotherPayload | Malformed(Signature, Der) => (3, not_signed),
        // The digest in the bundle is not the one that images are known by.
        CopiedFromAnotherImage if message && options.signer == Signer::Certificate(Curve::P384) && bundle => {
            (3, not_signed)
        }
        CopiedFromAnotherImage => (2, "about another image"),

        ForeignLogEntry | LogIdAltered => (4, "is not in the trust root"),
        EntryOfAnotherSignature => (4, "signature in bundle does not match"),
        EntryOfAnotherHash if intoto_v1 => (4, "its content hash differs"),
        EntryOfAnotherHash if message || options.log == Log::RekorV2 => (4, "artifact hash mismatch"),
        EntryOfAnotherHash => (4, "DSSE payload hash"),
        EntryOfAnotherCertificate | Malformed(BodyVerifier, Der) if intoto_v1 => {
            (4, "the entry is about another signer: its certificate or key differs")
        }
        Malformed(BodyVerifier, Der) if intoto => (4, "failed to parse signing certificate"),
        EntryOfAnotherCertificate | Malformed(BodyVerifier, Der) => (4, "log entry does not match the bundle"),
        SetAltered | SetOfAnotherKey | LogIndexAltered | IntegratedTimeAltered | Malformed(Set, Der) => {
            (4, "the signed entry timestamp (SET) is not the log's over this entry, index, time and log id")
        }
        SetRemoved => (4, "there is no signed entry timestamp (SET)"),
        IntegratedTimeAdded => (4, "the integrated time is not proven"),
        CheckpointAltered | CheckpointOfAnotherKey => (4, "the checkpoint is not signed by the log"),
        CheckpointOfAnotherTree | RootHashAltered => (4, "the proof's root hash is not the checkpoint's"),
        ProofAltered => (4, "the inclusion proof does not hold: root hash mismatch"),
        Malformed(BodyVerifier, Base64) if intoto_v1 => (4, "the entry's key is malformed"),
        Malformed(BodyVerifier, Pem) if intoto_v1 => (4, "the entry's key is not the signer's: "),
        Malformed(BodyVerifier, Pem) => (4, "failed to parse PEM"),
        Malformed(BodySignature | BodyVerifier, _) => (4, "failed to parse Rekor body"),

        TimeOutsideLeaf | TimestampOutsideLeaf => (5, "is outside the certificate's validity"),
        TimestampOfAnotherSignature => (5, "the RFC 3161 timestamp does not verify: Timestamp message hash mismatch"),
        TimestampOfAnotherAuthority if key => (5, "does not match any trusted TSA certificate"),
        TimestampOfAnotherAuthority => (5, "the trust root has no timestamp authority for the RFC 3161 timestamp"),
        TimestampRemoved => (5, "no signing time is proven"),
        Malformed(Timestamp, Der) => (5, "the RFC 3161 timestamp does not verify: Failed to parse"),
        ExpiredCa => (5, "is outside the validity of the CA's intermediate certificate"),
        ExpiredRoot => (5, "is outside the validity of the CA's root certificate"),
        RetiredCa => (5, "the trust root's certificate authority was not in use"),
        ForeignCa => (5, "the certificate does not chain to a CA of the trust root"),
        NotForCodeSigning => (5, "the certificate is not for code signing"),
        Malformed(Scts, _) => (5, "the certificate is malformed"),

        NoSct => (6, "the certificate has no certificate timestamp (SCT)"),
        SctOfAnotherLog => (6, "which the trust root does not have"),
        SctAltered => (6, "certificate timestamp (SCT) 1 of 1 is not the log's over this certificate"),
        SecondSctBad => (6, "certificate timestamp (SCT) 2 of 2 is not the log's over this certificate"),

        IdentityInAnotherSanType | NoSubject => (7, "[] of issuer \"https://issuer.world.test\" is not in"),
        NoIssuer => (7, "[\"signer@world.test\"] of issuer \"\" is not in allowed_identities"),
        IssuersDiffer => (7, "the certificate names two issuers"),

        AttestationAsSignature if bundle => (0, "there is no signature"),
        AttestationAsSignature => (1, "the simple signing payload is malformed: missing field `critical`"),
        SignatureAsAttestation if bundle => (0, "there is no attestation"),
        SignatureAsAttestation => (1, "is a signature, which no .att layer holds"),
        Malformed(Payload, _) if message => (1, "the simple signing payload is malformed"),
        Malformed(Payload, _) => (1, "the in-toto statement is malformed"),
        Malformed(Signature, _) if *format == Format::Sig => (1, "cosign/signature is not standard base64"),
        Malformed(Envelope | Signature, _) => form("the DSSE envelope is malformed"),
        Malformed(Certificate, Der) => (3, "the certificate is malformed"),
        Malformed(Certificate, _) => form("the annotation dev.sigstore.cosign/certificate is malformed"),
        Malformed(Body, Json) => (1, "the log entry is malformed"),
        Malformed(Bundle | Set | LogId | Body, _) => form("the annotation dev.sigstore.cosign/bundle is malformed"),
        Malformed(Timestamp, _) => form("dev.sigstore.cosign/rfc3161timestamp is"),
        Malformed(Digest | RootHash | ProofHash | Checkpoint, _) => form("in bundles only"),
    }
}

#[tokio::test]
async fn an_identity_that_matches_only_in_part_may_not_sign() {
    let stage = Stage::new();
    let registry = Registry::start(registry::Options::default()).await;
    let reference = stage.signed_image(&registry, "app");
    for (issuer, subject, reason) in [
        ("https://issuer.world.test", "signer@world.test", None),
        ("https://issuer.world.test", ".*@world[.]test", None),
        ("https://issuer[.].*", "signer@world.test", None),
        ("https://issuer.world.test", "@world.test", Some("is not in allowed_identities")),
        ("https://issuer.world.test", "SIGNER@world.test", Some("is not in allowed_identities")),
        ("https://issuer.world.test", "signer@world.te*", Some("matches \"signer@world.test\" only in part")),
        ("https://issuer.world.test", "^signer@world", Some("matches \"signer@world.test\" only in part")),
        ("https://issuer.world.test", "@world.test$", Some("matches \"signer@world.test\" only in part")),
        ("https://issuer.world.test", "x|signer@world|y", Some("matches \"signer@world.test\" only in part")),
        ("issuer.world.t*", "signer@world.test", Some("issuer \"issuer.world.t*\" matches it only in part")),
        ("https://signer@world.test", "https://issuer.world.test", Some("is not in allowed_identities")),
    ] {
        let settings = Settings { identities: allowed_only(issuer, subject), ..only_signatures() };
        let examination = stage.verifier(settings).examine(&reference).await.unwrap();
        let broken = wrong(&examination.reports[0]);
        match reason {
            None => assert!(examination.outcome.is_ok() && broken.is_empty(), "{subject}: {broken:?}"),
            Some(reason) => {
                assert!(matches!(broken[..], [(7, why)] if why.contains(reason)), "{subject}: {broken:?}");
                assert!(examination.outcome.is_err_and(|why| why.to_string().contains(reason)));
            }
        }
    }
}

#[tokio::test]
async fn a_layer_over_its_limit_is_passed_over_however_well_it_is_signed() {
    let stage = Stage::new();
    let registry = Registry::start(registry::Options::default()).await;
    let digest = registry.push("app", None, &IMAGE);
    let settings = Settings { public_keys: stage.public_keys(), ignore_tlog: true, ..Settings::default() };
    let verifier = stage.verifier(settings);
    let options = Options { log: Log::None, ..Options::default() }.with_key();
    // Blanks after the payload are part of what is signed.
    let padded = |length: usize| {
        let mut signature = stage.test_bed.sign_simple(&digest, &options);
        signature.payload.resize(length, b' ');
        let value = SignatureBytes::new(stage.test_bed.key.sign(&signature.payload, Hash::Sha256));
        signature.annotations.insert("dev.cosignproject.cosign/signature".to_owned(), value.to_base64());
        signature
    };
    registry.attach_signatures("app", &digest, &[padded((1 << 20) + 1), padded(1 << 20)]);
    // An envelope has four characters for three bytes of the statement.
    let large = |length: usize| {
        let attestation = stage.test_bed.attest_simple(&digest, "large", &json!("x".repeat(length)), &options);
        (attestation.payload.len(), attestation)
    };
    let (over, within) = (large(24 << 20), large((24 << 20) - 1_024));
    assert!(over.0 > 32 << 20 && within.0 < 32 << 20 && within.0 > 31 << 20);
    registry.attach_attestations("app", &digest, &[over.1, within.1]);

    let examination = verifier.examine(&format!("{}/app@{digest}", registry.host())).await.unwrap();
    let broken: Vec<_> = examination.reports.iter().map(wrong).collect();
    let ([(1, signature)], [], [(1, attestation)], []) =
        (&broken[0][..], &broken[1][..], &broken[2][..], &broken[3][..])
    else {
        panic!("{broken:?}")
    };
    assert!(signature.contains("answers more than 1048576 bytes"), "{signature}");
    assert!(attestation.contains("answers more than 33554432 bytes"), "{attestation}");
    let verified = examination.outcome.unwrap();
    assert!(verified.attestations() && verified.signatures().len() == 1);
}

#[tokio::test]
async fn a_thousand_signatures_are_looked_at_and_not_one_more() {
    let stage = Stage::new();
    let registry = Registry::start(registry::Options::default()).await;
    let verifier = stage.verifier(only_signatures());
    let digest = registry.push("bundles", None, &IMAGE);
    let bundle = stage.test_bed.bundle(&Content::cosign_sign(&digest), Version::V03, &Options::default()).bytes;
    registry.attach_bundle("bundles", &digest, &bundle, ArtifactType::Bundle);
    let in_bundles = format!("{}/bundles@{digest}", registry.host());
    let in_layers = stage.signed_image(&registry, "layers");
    for (count, reason) in [(1_000, None), (1_001, Some("more than 1000"))] {
        registry.clear_faults();
        registry.fault("/v2/bundles/referrers/", Fault::Repeated(count));
        registry.fault("/v2/layers/manifests/sha256-", Fault::Repeated(count));
        for reference in [&in_bundles, &in_layers] {
            let examination = verifier.examine(reference).await.unwrap();
            assert_eq!(examination.reports.len(), 1, "one and the same is looked at once");
            match reason {
                None => assert!(examination.outcome.is_ok(), "{reference}: {examination:?}"),
                Some(reason) => {
                    let broken = wrong(&examination.reports[0]);
                    assert!(matches!(broken[..], [(1, why)] if why.contains(reason)), "{broken:?}");
                    assert!(examination.outcome.is_err_and(|why| why.to_string().contains(reason)), "{reference}");
                }
            }
        }
    }
}

fn title(number: u8) -> &'static str {
    let all = [
        Rule::Form,
        Rule::Image,
        Rule::Signature,
        Rule::Log,
        Rule::Certificate,
        Rule::CertificateTimestamp,
        Rule::Identity,
    ];
    all.into_iter().find(|rule| rule.number() == number).unwrap().title()
}
