//! Registries and logs that fail, lie, hang, ask for logins and send elsewhere: what is asked of them is bounded, what is wrong is
//! said, credentials stay where they belong, and nothing of a secret is in any text.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test: a panic is the verdict"
)]

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use image_signatures::{Examination, Image, Options as Settings, Verification, Verifier};
use registry::Credentials;
use serde_json::{Value, json};
use sigstore_fixtures::oci::{self, ArtifactType};
use sigstore_fixtures::registry::{Authentication, Fault, Options, Registry, Tokens};
use sigstore_fixtures::{
    Content, CosignSignature, EntryKind, Hash, Identity, LogEntry, Options as Signing, San, TestBed, Version,
};
use sigstore_verify::types::PayloadBytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::stage::{IMAGE, Stage, only_signatures, signer, texts};

const USER: &str = "robot-account";
const PASSWORD: &str = "correct-horse-battery-staple";

/// Only signatures, with credentials for a registry: attestations would be asked for in the same way.
fn logged_in(registry: &Registry) -> Settings {
    let credentials = Credentials { username: USER.to_owned(), password: PASSWORD.to_owned() };
    Settings { registry_credentials: [(registry.host(), credentials)].into(), ..only_signatures() }
}

/// Only signatures, with this log.
fn with_log(url: String) -> Settings {
    Settings { rekor_url: url, ..only_signatures() }
}

/// Everything that is logged in this process.
static LOG: LazyLock<Arc<Mutex<String>>> = LazyLock::new(|| {
    let log = Arc::new(Mutex::new(String::new()));
    tracing_subscriber::registry().with(Recorder(Arc::clone(&log))).init();
    log
});

struct Recorder(Arc<Mutex<String>>);

impl<S: tracing::Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        event.record(&mut Line(&mut self.0.lock().unwrap()));
    }
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        writeln!(self.0, "{field}={value:?}").unwrap();
    }
}

/// No secret is in an examination, nor in what was logged so far.
fn assert_silent(examination: &Examination, secrets: &[String]) {
    tracing::info!("what is logged is seen");
    let (said, logged) = (texts(examination), LOG.lock().unwrap());
    assert!(logged.contains("what is logged is seen"));
    for secret in secrets {
        assert!(!said.contains(secret.as_str()), "{said}");
        assert!(!logged.contains(secret.as_str()), "a secret is in the log");
    }
}

fn authorization_of(request: &sigstore_fixtures::registry::Request) -> Option<&str> {
    request.header("authorization").or_else(|| request.header("cookie"))
}

async fn registry() -> Registry {
    Registry::start(Options::default()).await
}

async fn examine(verifier: &Arc<Verifier>, reference: &str) -> Examination {
    verifier.examine(reference).await.unwrap()
}

async fn verify(verifier: &Arc<Verifier>, reference: &str) -> Verification {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(9);
    let image = Image { repo_digests: &[reference.to_owned()], manifest: None };
    verifier.verify(image, deadline).await
}

/// What a fault leads to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    /// No verdict, for this reason
    Away(&'static str),
    /// A verdict, for this reason
    Bad(&'static str),
    /// It makes no difference
    Passed,
}

/// What is asked of a registry for one signed image: where the requests go, by their start.
const PLACES: [(&str, &str); 4] = [
    ("manifest", "/v2/app/manifests/sha256:"),
    ("referrers", "/v2/app/referrers/"),
    ("tag", "/v2/app/manifests/sha256-"),
    ("blob", "/v2/app/blobs/"),
];

/// Every fault, and what it leads to in each of the places.
fn faults() -> Vec<(Fault, [Outcome; 4])> {
    use self::Outcome::{Away, Bad, Passed};
    let everywhere = |outcome| [outcome; 4];
    let nobody = || "http://192.0.2.1/".to_owned();
    let hangs = everywhere(Away("does not answer within 5 s"));
    let too_long = [
        Bad("answers more than 8388608 bytes"),
        Bad("answers more than 8388608 bytes"),
        Bad("answers more than 8388608 bytes"),
        Bad("answers more than 1048576 bytes"),
    ];
    let other = |answered, manifest, blob| [Bad(manifest), answered, answered, Bad(blob)];
    vec![
        (Fault::HangBeforeHeaders, hangs),
        (Fault::HangInBody, hangs),
        (Fault::EndlessBody, too_long),
        (Fault::Huge, too_long),
        // Less than is there: the rest is not seen.
        (
            Fault::ContentLength(9),
            [
                Bad("a manifest that is not sha256:"),
                Bad("the list of referrers is malformed"),
                Bad("the manifest is malformed"),
                Bad("a blob that is not sha256:"),
            ],
        ),
        // More than is there: it ends too early.
        (Fault::ContentLength(1 << 16), everywhere(Away("http://127.0.0.1"))),
        (Fault::Dropped, everywhere(Away("http://127.0.0.1"))),
        // A tag and a list of referrers have no digest.
        (Fault::WrongBytes, other(Passed, "a manifest that is not sha256:", "a blob that is not sha256:")),
        (Fault::GzipBomb, everywhere(Bad("in a Content-Encoding that was not asked for"))),
        (Fault::RedirectCircle, everywhere(Bad("redirects more than 5 times"))),
        (Fault::Redirect(nobody()), everywhere(Bad("redirects to http://192.0.2.1/"))),
        (Fault::Redirect("ftp://127.0.0.1/".to_owned()), everywhere(Bad("redirects to ftp://127.0.0.1/"))),
        (Fault::Redirect("http://[".to_owned()), everywhere(Bad("redirects to nowhere"))),
        (Fault::Status(500), everywhere(Away("answers status 500"))),
        (Fault::Status(503), everywhere(Away("answers status 503"))),
        (Fault::Status(429), everywhere(Away("answers status 429"))),
        (Fault::Status(403), everywhere(Away("403"))),
        (Fault::Status(418), everywhere(Bad("answers status 418"))),
        // Nothing there: the image itself may be gone while its signatures are not.
        (
            Fault::Status(404),
            [Passed, Passed, Bad("there is no signature"), Bad("the registry does not have the blob sha256:")],
        ),
        // Not a list of referrers, so the tag is asked; a tag that answers so is wrong.
        (
            Fault::Answer(200, "text/html", b"<html>".to_vec()),
            [
                Bad("a manifest that is not sha256:"),
                Passed,
                Bad("the manifest is malformed"),
                Bad("a blob that is not sha256:"),
            ],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_registry_does_ends_in_time_and_says_what_it_was() {
    let stage = Stage::new();
    let verifier = stage.verifier(only_signatures());
    let mut running = JoinSet::new();
    for (fault, outcomes) in faults() {
        for ((name, prefix), expected) in PLACES.into_iter().zip(outcomes) {
            let registry = registry().await;
            let reference = stage.signed_image(&registry, "app");
            registry.fault(prefix, fault.clone());
            let (fault, verifier) = (fault.clone(), Arc::clone(&verifier));
            running.spawn(async move {
                let started = Instant::now();
                let examination = examine(&verifier, &reference).await;
                let case = format!("{fault:?}, {name}: {examination:?}");
                assert!(started.elapsed() < Duration::from_secs(20), "{case}");
                let said = texts(&examination);
                // A broken list of referrers never stops the tag.
                assert_eq!(examination.outcome.is_ok(), expected == Outcome::Passed || name == "referrers", "{case}");
                match expected {
                    Outcome::Away(reason) => {
                        assert!(
                            examination.unreachable.iter().any(|source| source.to_string().contains(reason)),
                            "{case}"
                        );
                    }
                    Outcome::Bad(reason) => {
                        assert!(examination.unreachable.is_empty() && said.contains(reason), "{case}")
                    }
                    Outcome::Passed => assert!(examination.unreachable.is_empty(), "{case}"),
                }
                // It is asked twice at most, and where it hangs once.
                let most = match fault {
                    Fault::HangBeforeHeaders | Fault::HangInBody => 1,
                    Fault::RedirectCircle => 6,
                    _ => 2,
                };
                assert!(registry.count(prefix) <= most, "{} requests: {case}", registry.count(prefix));
            });
        }
    }
    let mut passed = 0;
    while let Some(done) = running.join_next().await {
        done.unwrap();
        passed += 1;
    }
    println!("{passed} passed, 0 failed");
}

#[tokio::test]
async fn what_a_manifest_says_must_be_one_thing() {
    let stage = Stage::new();
    let registry = registry().await;
    let verifier = stage.verifier(only_signatures());
    let digest = registry.push("good", None, &IMAGE);
    let signature = stage.test_bed.sign_simple(&digest, &Signing::default());
    let good = oci::signatures(std::slice::from_ref(&signature));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut json = good.json();
        change(&mut json);
        json
    };
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    for (name, media_type, manifest, reason) in [
        ("as-it-is", oci::MANIFEST, good.json(), None),
        ("of-docker", docker, changed(&|json| json["mediaType"] = docker.into()), None),
        ("untyped", oci::MANIFEST, changed(&|json| drop(json.as_object_mut().unwrap().remove("mediaType"))), None),
        ("generic", "application/json", good.json(), None),
        (
            "null-annotations",
            oci::MANIFEST,
            changed(&|json| json["layers"].as_array_mut().unwrap().push(json_layer(&digest))),
            Some("not a application/vnd.dev.cosign.simplesigning.v1+json"),
        ),
        (
            "index-too",
            oci::MANIFEST,
            changed(&|json| json["manifests"] = json!([])),
            Some("the manifest has both layers and manifests"),
        ),
        ("two-types", docker, good.json(), Some("the manifest says that it is")),
        ("no-layers", oci::MANIFEST, changed(&|json| json["layers"] = json!([])), Some("there is no signature")),
        (
            "sha512",
            oci::MANIFEST,
            changed(&|json| json["layers"][0]["digest"] = format!("sha512:{}", "0".repeat(128)).into()),
            Some("is no digest: sha256: and 64 lowercase hex digits"),
        ),
        (
            "upper-case",
            oci::MANIFEST,
            changed(&|json| json["layers"][0]["digest"] = signature_digest(&signature).to_uppercase().into()),
            Some("is no digest"),
        ),
        (
            "other-type",
            oci::MANIFEST,
            changed(&|json| json["layers"][0]["mediaType"] = "text/plain".into()),
            Some("it is a \"text/plain\", not a application/vnd.dev.cosign.simplesigning.v1+json"),
        ),
        (
            "numbers",
            oci::MANIFEST,
            changed(&|json| json["layers"][0]["annotations"]["n"] = 1.into()),
            Some("the manifest is malformed"),
        ),
    ] {
        registry.push(name, None, &IMAGE);
        registry.attach_signatures(name, &digest, std::slice::from_ref(&signature));
        registry.put_manifest(name, &oci::signature_tag(&digest), media_type, manifest.to_string());
        let examination = examine(&verifier, &format!("{}/{name}@{digest}", registry.host())).await;
        match reason {
            None => assert!(examination.outcome.is_ok(), "{name}: {examination:?}"),
            Some(reason) => assert!(texts(&examination).contains(reason), "{name}: {examination:?}"),
        }
        // One layer that is nothing does not spoil the others.
        assert_eq!(examination.outcome.is_ok(), reason.is_none() || name == "null-annotations", "{name}");
    }
}

fn json_layer(digest: &str) -> Value {
    json!({ "mediaType": "text/plain", "digest": digest, "size": 1, "annotations": null })
}

fn signature_digest(signature: &CosignSignature) -> String {
    oci::digest(&signature.payload)
}

#[tokio::test]
async fn referrers_are_found_page_by_page_and_without_the_api() {
    let stage = Stage::new();
    let verifier = stage.verifier(only_signatures());
    let signed = |registry: &Registry, count: usize| {
        let digest = registry.push("app", None, &IMAGE);
        let types = [ArtifactType::Bundle, ArtifactType::Empty, ArtifactType::Missing];
        for number in 0..count {
            let bundle = stage.test_bed.bundle(&Content::cosign_sign(&digest), Version::V03, &Signing::default()).bytes;
            registry.attach_bundle("app", &digest, &bundle, types[number % types.len()]);
        }
        format!("{}/app@{digest}", registry.host())
    };
    let found = |examination: &Examination| examination.outcome.as_ref().unwrap().signatures().len();

    for absolute_links in [false, true] {
        let options = Options { page_size: Some(2), absolute_links, ..Options::default() };
        let registry = Registry::start(options).await;
        let reference = signed(&registry, 5);
        let examination = examine(&verifier, &reference).await;
        assert_eq!(found(&examination), 5, "{examination:?}");
        assert_eq!(registry.count("/v2/app/referrers/"), 3);
        // By another name the registry is another host, as far as a Link is concerned.
        let examination = examine(&verifier, &reference.replace("127.0.0.1", "localhost")).await;
        match absolute_links {
            true => assert!(texts(&examination).contains("leads to another host"), "{examination:?}"),
            false => assert_eq!(found(&examination), 5),
        }
    }
    let endless = Registry::start(Options { page_size: Some(1), ..Options::default() }).await;
    let examination = examine(&verifier, &signed(&endless, 33)).await;
    assert!(texts(&examination).contains("more than 32 pages of referrers"), "{examination:?}");

    let fallback = Registry::start(Options { no_referrers: true, ..Options::default() }).await;
    let reference = signed(&fallback, 3);
    for fault in [
        None,
        Some(Fault::Status(400)),
        Some(Fault::Status(405)),
        Some(Fault::Status(406)),
        Some(Fault::Answer(200, "application/json", b"{}".to_vec())),
        Some(Fault::Answer(200, "text/html", b"<html>".to_vec())),
    ] {
        fallback.clear_faults();
        fault.into_iter().for_each(|fault| fallback.fault("/v2/app/referrers/", fault));
        let examination = examine(&verifier, &reference).await;
        assert_eq!(found(&examination), 3, "{examination:?}");
    }
    // An index that is none of referrers has none.
    fallback.clear_faults();
    fallback.fault("/v2/app/referrers/", Fault::Answer(200, oci::INDEX, b"{\"manifests\":[]}".to_vec()));
    assert!(examine(&verifier, &reference).await.outcome.unwrap_err().to_string().contains("there is no signature"));
}

#[tokio::test]
async fn what_refers_to_an_image_without_being_a_bundle_is_passed_over_in_silence() {
    let stage = Stage::new();
    let registry = registry().await;
    let reference = stage.signed_image(&registry, "app");
    let subject = IMAGE.descriptor();
    let artifact = |artifact_type: &str, layers: Value| {
        json!({
            "schemaVersion": 2,
            "mediaType": oci::MANIFEST,
            "artifactType": artifact_type,
            "config": { "mediaType": oci::EMPTY, "digest": oci::digest(b"{}"), "size": 2 },
            "layers": layers,
            "subject": subject,
        })
    };
    let layer = |media_type: &str| json!({ "mediaType": media_type, "digest": oci::digest(b"{}"), "size": 2 });
    for manifest in [
        artifact("application/spdx+json", json!([layer("application/spdx+json")])),
        artifact(oci::EMPTY, json!([layer("text/plain")])),
        artifact(oci::BUNDLE, json!([layer(oci::BUNDLE), layer(oci::BUNDLE)])),
        artifact(oci::BUNDLE, json!([])),
    ] {
        registry.put_manifest(
            "app",
            &oci::digest(manifest.to_string().as_bytes()),
            oci::MANIFEST,
            manifest.to_string(),
        );
    }
    let examination = examine(&stage.verifier(only_signatures()), &reference).await;
    assert_eq!(examination.reports.len(), 1, "{examination:?}");
    assert!(examination.outcome.is_ok() && examination.unreachable.is_empty());
    // What is of another kind is not even fetched.
    assert_eq!(registry.requests().iter().filter(|request| request.path.contains("/manifests/sha256:")).count(), 4);
}

#[tokio::test]
async fn credentials_never_follow_to_another_host() {
    LazyLock::force(&LOG);
    let stage = Stage::new();
    let authentication = Authentication::Basic(USER.to_owned(), PASSWORD.to_owned());
    let from = Registry::start(Options { authentication, ..Options::default() }).await;
    let reference = stage.signed_image(&from, "app");
    let to = registry().await;
    stage.signed_image(&to, "app");
    let verifier = stage.verifier(logged_in(&from));
    let secrets = [PASSWORD.to_owned(), basic_pair()];

    from.fault_when(|request| request.path.contains("/blobs/"), Fault::RedirectToHost(to.url()));
    from.fault_when(|request| request.path.contains("/referrers/"), Fault::RedirectToHost(to.url()));
    let examination = examine(&verifier, &reference).await;
    assert!(examination.outcome.is_ok(), "{examination:?}");
    assert_silent(&examination, &secrets);
    assert!(to.count("/v2/app/blobs/") > 0 && to.count("/v2/app/referrers/") > 0);
    for request in to.requests() {
        assert_eq!(authorization_of(&request), None, "{}", request.path);
    }
    let logged_in = from.requests().iter().filter(|request| authorization_of(request).is_some()).count();
    assert!(logged_in > 0, "nothing was tested");
}

/// What stands in a Basic authorization.
fn basic_pair() -> String {
    PayloadBytes::from_bytes(format!("{USER}:{PASSWORD}").as_bytes()).to_base64()
}

#[tokio::test]
async fn a_host_that_one_is_redirected_to_gets_no_credentials_by_asking() {
    LazyLock::force(&LOG);
    let stage = Stage::new();
    let from = registry().await;
    let reference = stage.signed_image(&from, "app");
    let verifier = stage.verifier(logged_in(&from));
    for authentication in [
        Authentication::Bearer(Tokens::default()),
        Authentication::Basic("somebody".to_owned(), "something".to_owned()),
    ] {
        let to = Registry::start(Options { authentication, ..Options::default() }).await;
        from.clear_faults();
        from.fault_when(|request| request.path.contains("/blobs/"), Fault::RedirectToHost(to.url()));
        let examination = examine(&verifier, &reference).await;
        assert!(!examination.unreachable.is_empty() && examination.outcome.is_err(), "{examination:?}");
        assert_eq!(to.count("/token"), 0, "its realm was asked for a token");
        assert!(
            to.count("/v2/app/blobs/") > 0 && to.requests().iter().all(|request| authorization_of(request).is_none())
        );
        assert_silent(&examination, &[PASSWORD.to_owned(), basic_pair()]);
    }
}

#[tokio::test]
async fn a_login_is_answered_with_what_there_is_and_no_secret_is_said() {
    LazyLock::force(&LOG);
    let stage = Stage::new();
    let pair = |password: &str| (USER.to_owned(), password.to_owned());
    let basic = |password: &str| Authentication::Basic(pair(password).0, pair(password).1);
    let tokens = |tokens: Tokens| Authentication::Bearer(tokens);
    let anonymous = Tokens { anonymous: true, ..Tokens::default() };
    let for_user = |password: &str| Tokens { credentials: Some(pair(password)), ..Tokens::default() };
    for (authentication, with_credentials, refused) in [
        (basic(PASSWORD), true, None),
        (basic("another"), true, Some("does not let us read app with the credentials that")),
        (basic(PASSWORD), false, Some("asks for a login, and there are no credentials")),
        (tokens(anonymous.clone()), false, None),
        (tokens(for_user(PASSWORD)), true, None),
        (tokens(Tokens { anonymous: true, ..for_user(PASSWORD) }), true, None),
        (tokens(for_user("another")), true, Some("refuses the credentials")),
        (tokens(for_user(PASSWORD)), false, Some("refuses no credentials")),
        // Good anonymously, but not with credentials that are wrong: whoever wrote them wants to know.
        (tokens(anonymous), true, Some("refuses the credentials")),
    ] {
        let case = format!("{authentication:?}, {with_credentials}");
        let registry = Registry::start(Options { authentication, ..Options::default() }).await;
        let reference = stage.signed_image(&registry, "app");
        let verifier = stage.verifier(if with_credentials { logged_in(&registry) } else { only_signatures() });
        let examination = examine(&verifier, &reference).await;
        match refused {
            None => {
                assert!(examination.outcome.is_ok() && examination.unreachable.is_empty(), "{case}: {examination:?}");
                // One login does for the repository.
                let challenged =
                    registry.requests().iter().filter(|request| authorization_of(request).is_none()).count();
                assert!(challenged <= 2 && registry.count("/token") <= 1, "{case}");
            }
            Some(reason) => {
                assert!(
                    examination.unreachable.iter().any(|source| source.to_string().contains(reason)),
                    "{case}: {examination:?}"
                );
                // Nobody's word on the image: no verdict.
                assert!(matches!(verify(&verifier, &reference).await, Verification::Unreachable(_)), "{case}");
            }
        }
        let sent = registry.requests().into_iter().filter_map(|request| {
            authorization_of(&request).and_then(|text| text.split_once(' ')).map(|(_, secret)| secret.to_owned())
        });
        let secrets: Vec<String> = sent.chain([PASSWORD.to_owned()]).collect();
        assert_silent(&examination, &secrets);
    }
}

#[tokio::test]
async fn a_token_that_is_good_no_longer_is_got_again() {
    let stage = Stage::new();
    let tokens = Tokens {
        credentials: Some((USER.to_owned(), PASSWORD.to_owned())),
        lifetime: Some(Duration::from_secs(1)),
        ..Tokens::default()
    };
    let authentication = Authentication::Bearer(tokens);
    let registry = Registry::start(Options { authentication, ..Options::default() }).await;
    let reference = stage.signed_image(&registry, "app");
    let verifier = stage.verifier(logged_in(&registry));
    assert!(examine(&verifier, &reference).await.outcome.is_ok());
    assert_eq!(registry.count("/token"), 1);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(examine(&verifier, &reference).await.outcome.is_ok(), "expired");
    assert_eq!(registry.count("/token"), 2);
    registry.revoke_tokens();
    assert!(examine(&verifier, &reference).await.outcome.is_ok(), "revoked");
    assert_eq!(registry.count("/token"), 3);
    // A token is one repository's.
    let other = stage.signed_image(&registry, "team/other");
    assert!(examine(&verifier, &other).await.outcome.is_ok());
    assert_eq!(registry.count("/token"), 4);
}

#[tokio::test]
async fn a_registry_with_a_certificate_of_a_private_ca_needs_the_ca() {
    let stage = Stage::new();
    let secure = Registry::start(Options { tls: true, ..Options::default() }).await;
    let reference = stage.signed_image(&secure, "app");
    // Loopback is spoken to in plain http, so the way to it is a redirect.
    let front = registry().await;
    front.fault("/v2/", Fault::RedirectToHost(secure.url()));
    let reference = reference.replace(&secure.host(), &front.host());
    let ca = stage.write("registry-ca.pem", secure.ca_pem().unwrap());
    let with_ca = Settings { registry_ca: vec![ca], ..only_signatures() };

    let examination = examine(&stage.verifier(with_ca.clone()), &reference).await;
    assert!(examination.outcome.is_ok(), "{examination:?}");
    let examination = examine(&stage.verifier(only_signatures()), &reference).await;
    assert!(examination.outcome.is_err(), "{examination:?}");
    assert!(examination.unreachable.iter().any(|source| source.to_string().contains("certificate")), "{examination:?}");

    // The log is asked over the same client.
    let digest = front.push("unlogged", None, &IMAGE);
    let signature = stage.test_bed.sign_simple(&digest, &Signing { set: false, ..Signing::default() });
    secure.put_log_entry(signature.entry.as_ref().unwrap());
    front.clear_faults();
    front.attach_signatures("unlogged", &digest, &[signature]);
    let reference = format!("{}/unlogged@{digest}", front.host());
    assert!(
        examine(&stage.verifier(Settings { rekor_url: secure.url(), ..with_ca }), &reference).await.outcome.is_ok()
    );
    let examination = examine(&stage.verifier(with_log(secure.url())), &reference).await;
    assert!(examination.unreachable.iter().any(|source| source.to_string().contains("certificate")), "{examination:?}");
}

/// An address of this machine that is not loopback, if it has one. Nothing is sent.
async fn address() -> Option<std::net::IpAddr> {
    let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await.ok()?;
    socket.connect("192.0.2.1:9").await.ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[tokio::test]
async fn plain_http_is_for_loopback_and_for_what_the_configuration_names() {
    let Some(address) = address().await else {
        println!("skipped: this machine has no address but loopback");
        return;
    };
    let stage = Stage::new();
    let registry = registry().await;
    let reference = stage.signed_image(&registry, "app");
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let outside = listener.local_addr().unwrap();
    let inside = registry.host();
    let forwarding = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut from, _)) = listener.accept().await {
            let mut to = TcpStream::connect(&inside).await.unwrap();
            connections.spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
        }
    });
    let reference = reference.replace(&registry.host(), &outside.to_string());

    let insecure = |hosts: &[String]| {
        stage.verifier(Settings { insecure_registries: hosts.iter().cloned().collect(), ..only_signatures() })
    };
    let named = insecure(&[outside.to_string()]);
    assert!(examine(&named, &reference).await.outcome.is_ok());
    registry.clear_requests();
    for others in [Vec::new(), vec![format!("{address}:1"), registry.host()]] {
        let examination = examine(&insecure(&others), &reference).await;
        assert!(examination.outcome.is_err() && !examination.unreachable.is_empty(), "{examination:?}");
    }
    assert!(registry.requests().is_empty(), "it was asked in plain http");
    forwarding.abort();
}

#[tokio::test]
async fn a_registry_that_was_away_is_asked_again_and_nothing_is_kept_of_it() {
    let stage = Stage::new();
    let registry = registry().await;
    let reference = stage.signed_image(&registry, "app");
    let verifier = stage.verifier(only_signatures());
    for fault in [Fault::Dropped, Fault::Status(503), Fault::Status(403)] {
        registry.fault("/v2/", fault);
        for _ in 0..2 {
            registry.clear_requests();
            let verdict = verify(&verifier, &reference).await;
            assert!(
                matches!(&verdict, Verification::Unreachable(_)) && verdict.to_string().contains(&reference),
                "{verdict:?}"
            );
            assert!(registry.count("/v2/") > 0, "the fault was kept");
        }
        registry.clear_faults();
    }
    assert!(matches!(verify(&verifier, &reference).await, Verification::Verified { .. }));
}

/// A signature that carries no entry, and the entry that a log has of it.
fn unlogged(test_bed: &TestBed, digest: &str, time: i64) -> (CosignSignature, LogEntry) {
    let signature = test_bed.sign_simple(digest, &Signing { set: false, time, ..Signing::default() });
    let entry = signature.entry.clone().unwrap();
    (signature, entry)
}

/// The same entry as the log would have promised it at another time.
fn promised_at(test_bed: &TestBed, entry: &LogEntry, time: i64) -> LogEntry {
    let body = PayloadBytes::from_bytes(&entry.body).to_base64();
    let id: String = entry.log_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let index = entry.log_index;
    let text = format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{id}","logIndex":{index}}}"#);
    let set = Some(test_bed.rekor.key.sign(text.as_bytes(), Hash::Sha256));
    LogEntry { time, integrated_time: Some(time), set, ..entry.clone() }
}

#[tokio::test]
async fn a_signature_without_an_entry_is_looked_up_and_the_earliest_that_verifies_counts() {
    let stage = Stage::new();
    let registry = registry().await;
    let verifier = stage.verifier(with_log(registry.url()));
    let digest = registry.push("app", None, &IMAGE);
    let time = sigstore_fixtures::now() - 100;
    let (signature, entry) = unlogged(&stage.test_bed, &digest, time);
    registry.attach_signatures("app", &digest, &[signature]);
    let reference = format!("{}/app@{digest}", registry.host());
    let record = async || {
        registry.clear_requests();
        let examination = examine(&verifier, &reference).await;
        assert_eq!(registry.count("/api/v1/log/entries/retrieve"), 1);
        examination.outcome.map(|verified| verified.signatures()[0].clone())
    };

    assert!(record().await.unwrap_err().to_string().contains("rule 4: there is no entry of a transparency log"));
    // Another signature of the same payload: not this one's entry.
    let (_, other) = unlogged(&stage.test_bed, &digest, time);
    registry.put_log_entry(&other);
    assert!(record().await.unwrap_err().to_string().contains("rule 4: log entry does not match the bundle"));
    registry.put_log_entry(&promised_at(&stage.test_bed, &entry, time + 60));
    assert_eq!(record().await.unwrap().integrated_time, Some((time + 60).cast_unsigned()));
    let earlier = promised_at(&stage.test_bed, &entry, time + 30);
    registry.put_log_entry(&earlier);
    assert_eq!(record().await.unwrap().integrated_time, Some((time + 30).cast_unsigned()));
    // Earlier still, but its promise is not the log's.
    registry.put_log_entry(&LogEntry { integrated_time: Some(time + 10), ..entry.clone() });
    let found = record().await.unwrap();
    assert_eq!(found.integrated_time, Some((time + 30).cast_unsigned()));
    assert_eq!(found.log_index, Some(entry.log_index));
    let set = PayloadBytes::from_bytes(&earlier.set.unwrap()).to_base64();
    assert_eq!(found.signed_entry_timestamp, Some(set));
}

#[tokio::test]
async fn an_attestation_without_an_entry_is_looked_up_under_each_kind() {
    let stage = Stage::new();
    let registry = registry().await;
    let verifier = stage.verifier(Settings { rekor_url: registry.url(), ..Settings::default() });
    for (number, kind) in [EntryKind::Dsse, EntryKind::IntotoV1, EntryKind::Intoto].into_iter().enumerate() {
        let repository = format!("app-{number}");
        let reference = stage.signed_image(&registry, &repository);
        let options = Signing { set: false, entry: Some(kind), ..Signing::default() };
        let attestation = stage.test_bed.attest_simple(&IMAGE.digest, "https://world.test/p", &json!({}), &options);
        registry.attach_attestations(&repository, &IMAGE.digest, std::slice::from_ref(&attestation));
        let why = examine(&verifier, &reference).await.outcome.unwrap_err();
        assert!(why.to_string().contains("there is no entry of a transparency log"), "{kind:?}: {why}");
        registry.put_log_entry(attestation.entry.as_ref().unwrap());
        let examination = examine(&verifier, &reference).await;
        assert!(examination.outcome.as_ref().is_ok_and(|verified| verified.attestations()), "{examination:?}");
    }
}

#[tokio::test]
async fn the_log_is_asked_only_for_what_could_count_and_so_often() {
    let stage = Stage::new();
    let registry = registry().await;
    let rekor = with_log(registry.url());
    let digest = registry.push("app", None, &IMAGE);
    let stranger = Signing {
        set: false,
        identity: Identity::new(San::Email("stranger@world.test".to_owned()), "https://issuer.world.test"),
        ..Signing::default()
    };
    let strangers: Vec<CosignSignature> = (0..17).map(|_| stage.test_bed.sign_simple(&digest, &stranger)).collect();
    registry.attach_signatures("app", &digest, &strangers);
    let (signature, entry) = unlogged(&stage.test_bed, &digest, sigstore_fixtures::now() - 5);
    registry.put_log_entry(&entry);
    registry.attach_signatures("app", &digest, &[signature]);
    let reference = format!("{}/app@{digest}", registry.host());

    let picky = stage.verifier(Settings { identities: signer(), ..rekor.clone() });
    assert!(examine(&picky, &reference).await.outcome.is_ok());
    assert_eq!(registry.count("/api/"), 1, "the log was asked for strangers");
    // Where anybody may sign, there is an end to it too; what was not looked at is no verdict.
    registry.clear_requests();
    let examination = examine(&stage.verifier(rekor), &reference).await;
    assert_eq!(registry.count("/api/"), 16);
    assert!(
        examination.unreachable.iter().any(|source| source.to_string().contains("16 entries of this image")),
        "{examination:?}"
    );
}

#[tokio::test]
async fn a_log_that_is_away_gives_no_verdict_and_one_that_lies_a_bad_one() {
    let stage = Stage::new();
    let registry = registry().await;
    let rekor = Arc::new(self::registry().await);
    let verifier = stage.verifier(with_log(rekor.url()));
    let digest = registry.push("app", None, &IMAGE);
    let (signature, entry) = unlogged(&stage.test_bed, &digest, sigstore_fixtures::now() - 5);
    rekor.put_log_entry(&entry);
    registry.attach_signatures("app", &digest, &[signature]);
    let reference = format!("{}/app@{digest}", registry.host());
    for (fault, reason) in [
        (Fault::Dropped, "the log (rekor_url): http://127.0.0.1"),
        (Fault::Status(500), "answers status 500"),
        (Fault::HangBeforeHeaders, "does not answer within 5 s"),
    ] {
        rekor.fault("/api/", fault);
        let verdict = verify(&verifier, &reference).await;
        assert!(
            matches!(&verdict, Verification::Unreachable(_)) && verdict.to_string().contains(reason),
            "{verdict:?}"
        );
        rekor.clear_faults();
    }
    for (fault, reason) in [
        (Fault::Status(404), "the log (rekor_url): http://127.0.0.1"),
        (Fault::EndlessBody, "answers more than 8388608 bytes"),
        (Fault::GzipBomb, "Content-Encoding"),
        (Fault::Answer(200, "application/json", b"{}".to_vec()), "the log's answer is malformed"),
        (Fault::Answer(200, "application/json", b"[{\"x\":{}}]".to_vec()), "the log's answer is malformed"),
    ] {
        rekor.fault("/api/", fault);
        let examination = examine(&verifier, &reference).await;
        let why = examination.outcome.unwrap_err();
        assert!(examination.unreachable.is_empty() && why.to_string().contains(reason), "{why}");
        rekor.clear_faults();
    }
    // Nothing of it was kept.
    assert!(matches!(verify(&verifier, &reference).await, Verification::Verified { .. }));
}
