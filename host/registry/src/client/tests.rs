//! The client against registries in this process, and against servers that answer what no registry would.

use std::net::SocketAddr;
use std::sync::Arc;

use sigstore_fixtures::oci::{self, ArtifactType};
use sigstore_fixtures::registry::{Authentication, Fault, Options, Registry, Tokens};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::reference::Reference;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const PASSWORD: &str = "hunter2";
/// Referrers at most.
const MOST: usize = 1_000;

fn options() -> ClientOptions {
    ClientOptions { credentials: BTreeMap::new(), insecure: BTreeSet::new(), authorities: Vec::new() }
}

/// With an environment of its own: nobody is logged in on this machine.
fn with(options: ClientOptions, variables: &[(&str, &str)]) -> Result<Registries, SetupError> {
    let variables = [variables, &[("REGISTRY_AUTH_FILE", "/nonexistent/auth.json")]].concat();
    Registries::with_environment(options, &|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    })
}

fn nobody() -> Registries {
    with(options(), &[]).unwrap()
}

fn user() -> (String, String) {
    ("user".to_owned(), PASSWORD.to_owned())
}

/// With this password for a registry.
fn somebody(host: &str, password: &str) -> Registries {
    let pair = Credentials { username: "user".to_owned(), password: password.to_owned() };
    with(ClientOptions { credentials: BTreeMap::from([(host.to_owned(), pair)]), ..options() }, &[]).unwrap()
}

fn repository(host: &str) -> Repository {
    format!("{host}/team/app@{DIGEST}").parse::<Reference>().unwrap().repository
}

async fn start(authentication: Authentication) -> Registry {
    Registry::start(Options { authentication, ..Options::default() }).await
}

async fn tls() -> Registry {
    Registry::start(Options { tls: true, ..Options::default() }).await
}

/// The registry's CA, as `registry_ca` would name it.
fn authorities(registry: &Registry) -> Vec<(PathBuf, String)> {
    vec![(PathBuf::from("/ca.pem"), registry.ca_pem().unwrap().to_owned())]
}

fn unreachable<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Unreachable(error)) => {
            let (text, debug) = (error.to_string(), format!("{error:?}"));
            assert!(!text.contains(PASSWORD) && !debug.contains(PASSWORD), "{debug}");
            text
        }
        Err(Error::Content(error)) => panic!("not unreachable, but content: {error}"),
        Ok(_) => panic!("there was an answer"),
    }
}

fn content<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Content(error)) => error.to_string(),
        Err(Error::Unreachable(error)) => panic!("not content, but unreachable: {error}"),
        Ok(_) => panic!("there was an answer"),
    }
}

/// The heads of the requests that a server got.
type Heads = Arc<Mutex<Vec<String>>>;

/// A server that answers each request's head with a text, one on each connection.
async fn server(answer: impl Fn(&str) -> String + Send + 'static) -> (SocketAddr, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heads) = (listener.local_addr().unwrap(), Heads::default());
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = head(&mut stream).await;
            let text = answer(&head);
            seen.lock().unwrap().push(head);
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    (address, heads)
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn answer(status: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// Runs a test once more, in a process of its own with these variables: true in there.
fn alone(test: &str, variables: &[(&str, &str)]) -> bool {
    const MARK: &str = "DOCKER_ATTESTOR_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([&name, "--exact"]).env(MARK, "1").envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

#[tokio::test]
async fn a_manifest_and_a_blob_come_by_what_names_them() {
    let registry = start(Authentication::None).await;
    let (image, repository) = (oci::image("amd64", "hello"), repository(&registry.host()));
    registry.push("team/app", Some("1"), &image);
    let blob = registry.put_blob("team/app", "blob");
    let registries = nobody();
    for reference in ["1", &image.digest] {
        let manifest = registries.manifest(&repository, reference).await.unwrap().unwrap();
        assert_eq!((manifest.bytes, manifest.media_type.as_str()), (image.bytes.clone().into(), oci::MANIFEST));
    }
    assert!(registries.manifest(&repository, "2").await.unwrap().is_none());
    assert_eq!(registries.blob(&repository, &Digest::new(&blob).unwrap(), 4).await.unwrap(), "blob");
    let missing = content(registries.blob(&repository, &Digest::new(DIGEST).unwrap(), 4).await);
    assert!(missing.contains("does not have the blob"), "{missing}");
    assert!(registry.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn what_has_another_digest_is_refused() {
    let registry = start(Authentication::None).await;
    let (image, repository) = (oci::image("amd64", "hello"), repository(&registry.host()));
    registry.push("team/app", Some("1"), &image);
    let blob = Digest::new(&registry.put_blob("team/app", "blob")).unwrap();
    let registries = nobody();
    for fault in [Fault::WrongBytes, Fault::ContentLength(2)] {
        registry.clear_faults();
        registry.fault("/v2/", fault);
        let text = content(registries.manifest(&repository, &image.digest).await);
        assert!(text.contains("a manifest that is not sha256:"), "{text}");
        let text = content(registries.blob(&repository, &blob, 100).await);
        assert!(text.contains("a blob that is not sha256:"), "{text}");
    }
}

#[tokio::test]
async fn a_body_ends_at_its_limit_whatever_its_length_is_said_to_be() {
    let registry = start(Authentication::None).await;
    let (image, repository) = (oci::image("amd64", "hello"), repository(&registry.host()));
    registry.push("team/app", Some("1"), &image);
    let blob = Digest::new(&registry.put_blob("team/app", "blob")).unwrap();
    let registries = nobody();
    let text = content(registries.blob(&repository, &blob, 3).await);
    assert!(text.contains("answers more than 3 bytes"), "{text}");
    for fault in [Fault::EndlessBody, Fault::Huge] {
        registry.clear_faults();
        registry.fault("/v2/", fault);
        let text = content(registries.manifest(&repository, "1").await);
        assert!(text.contains("answers more than 8388608 bytes"), "{text}");
    }
    // Bytes that are only promised are too many already.
    let (address, heads) = server(|_| "HTTP/1.1 200 OK\r\nContent-Length: 8388609\r\n\r\n{}".to_owned()).await;
    let text = content(registries.manifest(&self::repository(&address.to_string()), "1").await);
    assert!(text.contains("answers more than 8388608 bytes"), "{text}");
    assert_eq!(heads.lock().unwrap().len(), 1);
    // Where fewer come than were promised the connection broke: another try may do better.
    let (address, heads) = server(|_| "HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n{}".to_owned()).await;
    unreachable(registries.manifest(&self::repository(&address.to_string()), "1").await);
    assert_eq!(heads.lock().unwrap().len(), 2);
    // Nobody reads an error to its end.
    registry.clear_faults();
    registry.fault("/v2/", Fault::Answer(404, "text/plain", vec![b'x'; 10 << 20]));
    assert!(registries.manifest(&repository, "1").await.unwrap().is_none());
}

#[tokio::test]
async fn an_answer_that_is_packed_is_refused() {
    let registry = start(Authentication::None).await;
    registry.fault("/v2/", Fault::GzipBomb);
    let text = content(nobody().manifest(&repository(&registry.host()), "1").await);
    assert!(text.contains("Content-Encoding that was not asked for"), "{text}");
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    let registry = start(Authentication::None).await;
    registry.fault("/v2/team/app/manifests/silent", Fault::HangBeforeHeaders);
    registry.push("team/app", Some("half"), &oci::image("amd64", "hello"));
    registry.fault("/v2/team/app/manifests/half", Fault::HangInBody);
    // A byte now and then would reset a timeout for each read.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dripping = repository(&listener.local_addr().unwrap().to_string());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
        while stream.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let (registries, repository) = (nobody(), repository(&registry.host()));
    let before = Instant::now();
    let (silent, half, dripped) = tokio::join!(
        registries.manifest(&repository, "silent"),
        registries.manifest(&repository, "half"),
        registries.manifest(&dripping, "1"),
    );
    for outcome in [silent, half, dripped] {
        let text = unreachable(outcome);
        assert!(text.contains("does not answer within 5 s"), "{text}");
    }
    assert!(before.elapsed() < limits::REQUEST * 3 / 2, "a host that hangs is not asked again");
}

#[tokio::test]
async fn a_connection_that_takes_too_long_says_so() {
    // It accepts and never speaks TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    let text = unreachable(nobody().get_with(&url, "*/*", None, 100).await);
    assert!(text.contains("cannot be connected to within 2 s"), "{text}");
}

#[tokio::test]
async fn a_server_that_fails_is_asked_once_more() {
    let registry = start(Authentication::None).await;
    registry.push("team/app", Some("1"), &oci::image("amd64", "hello"));
    let (registries, repository) = (nobody(), repository(&registry.host()));
    for fault in [Fault::Status(503), Fault::Dropped] {
        registry.clear_faults();
        registry.fault_times("/v2/", 1, fault.clone());
        assert!(registries.manifest(&repository, "1").await.unwrap().is_some());
        registry.clear_faults();
        registry.clear_requests();
        registry.fault("/v2/", fault);
        unreachable(registries.manifest(&repository, "1").await);
        assert_eq!(registry.requests().len(), 2);
    }
    registry.clear_faults();
    registry.clear_requests();
    registry.fault("/v2/", Fault::Status(429));
    unreachable(registries.manifest(&repository, "1").await);
    assert_eq!(registry.requests().len(), 1, "who is asked too much is not asked again");
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let registry = start(Authentication::Basic("user".to_owned(), PASSWORD.to_owned())).await;
    let store = start(Authentication::None).await;
    let blob = Digest::new(&store.put_blob("team/app", "blob")).unwrap();
    registry.fault("/v2/", Fault::RedirectToHost(store.url()));
    let registries = somebody(&registry.host(), PASSWORD);
    assert_eq!(registries.blob(&repository(&registry.host()), &blob, 4).await.unwrap(), "blob");
    assert!(registry.requests()[1].header("authorization").unwrap().starts_with("Basic "));
    assert_eq!(store.requests().len(), 1);
    assert!(store.requests()[0].header("authorization").is_none());
}

#[tokio::test]
async fn credentials_that_stayed_behind_do_not_come_back() {
    let registry = start(Authentication::Basic("user".to_owned(), PASSWORD.to_owned())).await;
    let other = start(Authentication::None).await;
    registry.fault("/v2/", Fault::RedirectToHost(other.url()));
    other.fault("/v2/", Fault::RedirectToHost(registry.url()));
    let registries = somebody(&registry.host(), PASSWORD);
    unreachable(registries.manifest(&repository(&registry.host()), "1").await);
    let sent: Vec<bool> = registry.requests().iter().map(|request| request.header("authorization").is_some()).collect();
    assert_eq!(sent, [false, true, false]);
    assert!(other.requests()[0].header("authorization").is_none());
}

#[tokio::test]
async fn a_host_that_one_is_redirected_to_gets_no_login() {
    let tokens = Tokens { anonymous: true, credentials: Some(user()), ..Tokens::default() };
    let basic = Authentication::Basic("user".to_owned(), PASSWORD.to_owned());
    for other in [basic.clone(), Authentication::Bearer(tokens)] {
        let (registry, other) = (start(basic.clone()).await, start(other).await);
        registry.fault("/v2/", Fault::RedirectToHost(other.url()));
        let registries = somebody(&registry.host(), PASSWORD);
        let blob = Digest::new(DIGEST).unwrap();
        let text = unreachable(registries.blob(&repository(&registry.host()), &blob, 4).await);
        assert!(text.contains(&format!("redirects to {}", other.url())), "{text}");
        assert!(text.contains("the registry's credentials are not for it"), "{text}");
        assert_eq!(other.requests().len(), 1, "neither its realm nor itself is asked again");
        assert!(other.requests()[0].header("authorization").is_none());
    }
}

#[tokio::test]
async fn redirects_in_circles_and_to_nowhere_end() {
    let registry = start(Authentication::None).await;
    let (registries, repository) = (nobody(), repository(&registry.host()));
    registry.fault("/v2/", Fault::RedirectCircle);
    let text = content(registries.manifest(&repository, "1").await);
    assert!(text.contains("redirects more than 5 times"), "{text}");
    assert_eq!(registry.requests().len(), 6);
    for (fault, why) in [
        (Fault::Status(307), "redirects to nowhere"),
        (Fault::Redirect("http://".to_owned()), "redirects to nowhere"),
        (Fault::Redirect("http://registry.example/x?secret=s".to_owned()), "registry.example/x, which is not https"),
        (Fault::Redirect("ftp://registry.example/".to_owned()), "which is not https"),
        (Fault::Redirect("file:///etc/passwd".to_owned()), "which is not https"),
        (Fault::Redirect(format!("http://user:{PASSWORD}@{}/", registry.host())), "with a login in it"),
    ] {
        registry.clear_faults();
        registry.clear_requests();
        registry.fault("/v2/", fault);
        let text = content(registries.manifest(&repository, "1").await);
        assert!(text.contains(why), "{text}");
        assert!(!text.contains("secret") && !text.contains(PASSWORD), "{text}");
        assert_eq!(registry.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_refused() {
    let (registry, plain) = (tls().await, start(Authentication::None).await);
    registry.fault("/", Fault::RedirectToHost(plain.url()));
    let registries = with(ClientOptions { authorities: authorities(&registry), ..options() }, &[]).unwrap();
    let url = Url::parse(&registry.url()).unwrap();
    let text = content(registries.get_with(&url, "*/*", None, 100).await);
    assert!(text.contains("which is not https"), "{text}");
    assert!(plain.requests().is_empty());
}

#[test]
fn a_registry_leads_neither_down_to_http_nor_into_this_machine() {
    let insecure = BTreeSet::from(["plain.example:5000".to_owned(), "plain.example".to_owned()]);
    let registries = with(ClientOptions { insecure, ..options() }, &[]).unwrap();
    for (from, to, may) in [
        ("https://r.example", "https://cdn.example/x?signature=s", true),
        ("https://r.example", "https://10.0.0.1/x", true),
        ("https://r.example", "http://r.example/x", false),
        ("https://r.example", "http://plain.example:5000/x", false),
        ("https://r.example", "https://localhost/x", false),
        ("https://r.example", "https://127.0.0.1/x", false),
        ("https://r.example", "https://127.1.2.3:8443/x", false),
        ("https://r.example", "https://2130706433/x", false),
        ("https://r.example", "https://0.0.0.0/x", false),
        ("https://r.example", "https://[::1]/x", false),
        ("https://r.example", "https://[::]/x", false),
        ("https://r.example", "https://[::ffff:127.0.0.1]/x", false),
        ("https://r.example", "https://user@cdn.example/x", false),
        ("https://r.example", "https://:password@cdn.example/x", false),
        ("https://r.example", "data:text/plain,x", false),
        ("http://plain.example:5000", "https://cdn.example/x", true),
        ("http://plain.example:5000", "http://plain.example:5000/x", true),
        ("http://plain.example:5000", "http://plain.example/x", true),
        ("http://plain.example:5000", "http://plain.example:80/x", true),
        ("http://plain.example:5000", "http://plain.example:5001/x", false),
        ("http://plain.example:5000", "http://169.254.169.254/x", false),
        ("http://plain.example:5000", "http://127.0.0.1:5000/x", false),
        ("http://plain.example:5000", "https://localhost/x", false),
        ("http://localhost:5000", "http://127.0.0.1:6000/x", true),
        ("http://localhost:5000", "http://plain.example:5000/x", true),
        ("http://localhost:5000", "http://r.example/x", false),
    ] {
        let lead = registries.may_lead(&Url::parse(from).unwrap(), &Url::parse(to).unwrap());
        assert_eq!(lead.is_ok(), may, "{from} -> {to}: {lead:?}");
    }
}

#[test]
fn only_this_machine_and_what_is_named_is_spoken_to_in_plain_http() {
    let insecure = ["plain.example:5000", "other.example", "[fd00::1]:5000"].map(str::to_owned);
    let registries = with(ClientOptions { insecure: BTreeSet::from(insecure), ..options() }, &[]).unwrap();
    for (host, start) in [
        ("docker.io", "https://registry-1.docker.io/v2/team/app/"),
        ("r.example:80", "https://r.example:80/v2/"),
        ("r.example:443", "https://r.example/v2/"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000/v2/"),
        ("plain.example", "https://plain.example/v2/"),
        ("plain.example:5000", "http://plain.example:5000/v2/"),
        ("PLAIN.example:5000", "http://plain.example:5000/v2/"),
        ("other.example", "http://other.example/v2/"),
        ("other.example:80", "http://other.example/v2/"),
        ("other.example:443", "https://other.example/v2/"),
        ("[fd00::1]:5000", "http://[fd00::1]:5000/v2/"),
        ("localhost", "http://localhost/v2/"),
        ("localhost:5000", "http://localhost:5000/v2/"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2/"),
        ("[::1]:5000", "http://[::1]:5000/v2/"),
        ("localhost.example:5000", "https://localhost.example:5000/v2/"),
        ("127.0.0.1.example:5000", "https://127.0.0.1.example:5000/v2/"),
    ] {
        let url = registries.url(&repository(host), "manifests/1").unwrap();
        assert!(url.as_str().starts_with(start), "{host}: {url}");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_when_it_is_no_longer_good() {
    let registry = start(Authentication::Bearer(Tokens { anonymous: true, ..Tokens::default() })).await;
    registry.push("team/app", Some("1"), &oci::image("amd64", "hello"));
    let (registries, repository) = (nobody(), repository(&registry.host()));
    for _ in 0..3 {
        assert!(registries.manifest(&repository, "1").await.unwrap().is_some());
    }
    assert_eq!((registry.count("/v2/"), registry.count("/token")), (4, 1));
    registry.revoke_tokens();
    assert!(registries.manifest(&repository, "1").await.unwrap().is_some());
    assert_eq!((registry.count("/v2/"), registry.count("/token")), (6, 2));
    let token = registry.requests().into_iter().find(|request| request.path.starts_with("/token")).unwrap();
    assert!(token.path.contains("scope=repository%3Ateam%2Fapp%3Apull"), "{}", token.path);
    assert!(token.header("authorization").is_none());
}

#[tokio::test]
async fn a_password_goes_to_the_realm_and_the_token_to_the_registry() {
    let registry = start(Authentication::Bearer(Tokens { credentials: Some(user()), ..Tokens::default() })).await;
    registry.push("team/app", Some("1"), &oci::image("amd64", "hello"));
    let repository = repository(&registry.host());
    assert!(somebody(&registry.host(), PASSWORD).manifest(&repository, "1").await.unwrap().is_some());
    for request in registry.requests() {
        let sent = request.header("authorization").unwrap_or_default();
        assert_eq!(sent.starts_with("Basic "), request.path.starts_with("/token"), "{}", request.path);
    }
    let text = unreachable(somebody(&registry.host(), "hunter3").manifest(&repository, "1").await);
    assert!(text.contains("refuses the credentials (status 401)") && !text.contains("hunter3"), "{text}");
    let text = unreachable(nobody().manifest(&repository, "1").await);
    assert!(text.contains("refuses no credentials (status 401)"), "{text}");
}

/// With a file as `podman login` leaves it.
async fn with_login(host: &str, entry: &str) -> (Registries, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auth.json");
    std::fs::write(&file, format!(r#"{{"auths":{{"{host}":{{{entry}}}}}}}"#)).unwrap();
    let registries =
        Registries::with_environment(options(), &|name| (name == "REGISTRY_AUTH_FILE").then(|| file.clone().into()));
    (registries.unwrap(), folder)
}

#[tokio::test]
async fn an_identity_token_is_posted_for_an_access_token() {
    let tokens = Tokens { identity_token: Some(PASSWORD.to_owned()), ..Tokens::default() };
    let registry = start(Authentication::Bearer(tokens)).await;
    registry.push("team/app", Some("1"), &oci::image("amd64", "hello"));
    let repository = repository(&registry.host());
    let (registries, _folder) = with_login(&registry.host(), &format!(r#""identitytoken":"{PASSWORD}""#)).await;
    assert!(registries.manifest(&repository, "1").await.unwrap().is_some());
    let (registries, _folder) = with_login(&registry.host(), r#""identitytoken":"other""#).await;
    let text = unreachable(registries.manifest(&repository, "1").await);
    assert!(text.contains("refuses the credentials"), "{text}");
}

#[tokio::test]
async fn a_registry_token_is_sent_as_it_is() {
    let (address, heads) = server(|head| match head.contains("authorization: Bearer t.o-k_e~n\r\n") {
        true => answer("200 OK", &[], "{}"),
        false => answer("401 Unauthorized", &["WWW-Authenticate: Bearer realm=\"http://127.0.0.1:1/\""], ""),
    })
    .await;
    let host = address.to_string();
    let (registries, _folder) = with_login(&host, r#""registrytoken":"t.o-k_e~n","auth":"dTpw""#).await;
    assert!(registries.manifest(&repository(&host), "1").await.unwrap().is_some());
    assert_eq!(heads.lock().unwrap().len(), 2);
    let (registries, _folder) = with_login(&host, r#""registrytoken":"hun\nter2""#).await;
    let text = unreachable(registries.manifest(&repository(&host), "1").await);
    assert!(text.contains("not one line") && !text.contains("ter2"), "{text}");
}

#[tokio::test]
async fn a_registry_may_ask_for_the_password_itself() {
    let registry = start(Authentication::Basic("user".to_owned(), PASSWORD.to_owned())).await;
    registry.push("team/app", Some("1"), &oci::image("amd64", "hello"));
    let repository = repository(&registry.host());
    let registries = somebody(&registry.host(), PASSWORD);
    for _ in 0..3 {
        assert!(registries.manifest(&repository, "1").await.unwrap().is_some());
    }
    assert_eq!(registry.requests().len(), 4, "only the first is asked");
    let shown = format!("{:?}", registries.tokens());
    assert!(!shown.contains(PASSWORD) && !shown.contains("Basic"), "{shown}");
    let text = unreachable(somebody(&registry.host(), "hunter3").manifest(&repository, "1").await);
    assert!(text.contains("does not let us read team/app with the credentials"), "{text}");
    let text = unreachable(nobody().manifest(&repository, "1").await);
    assert!(text.contains("there are no credentials of that kind for it: see registry_credentials"), "{text}");
}

#[tokio::test]
async fn a_login_that_is_refused_later_is_made_anew_once() {
    let tokens = Tokens { anonymous: true, ..Tokens::default() };
    let registry = start(Authentication::Bearer(tokens)).await;
    registry.push("team/app", Some("1"), &oci::image("amd64", "hello"));
    let (registries, repository) = (nobody(), repository(&registry.host()));
    assert!(registries.manifest(&repository, "1").await.unwrap().is_some());
    registry.clear_requests();
    registry.fault_times("/v2/", 1, Fault::Status(403));
    assert!(registries.manifest(&repository, "1").await.unwrap().is_some());
    // With the old token, without one, and with the new one.
    assert_eq!((registry.count("/v2/"), registry.count("/token")), (3, 1));
    registry.clear_requests();
    registry.fault("/v2/", Fault::Status(403));
    let text = unreachable(registries.manifest(&repository, "1").await);
    assert!(text.contains("does not let us read team/app without credentials (status 403)"), "{text}");
    assert_eq!((registry.count("/v2/"), registry.count("/token")), (3, 1));
    assert!(registries.tokens().is_empty());
}

#[tokio::test]
async fn a_challenge_that_can_be_answered_is_found_among_others() {
    let realm =
        start(Authentication::Bearer(Tokens { anonymous: true, credentials: Some(user()), ..Tokens::default() }));
    let realm = realm.await;
    let bearer = format!("Bearer realm=\"{}/token\",service=\"{}\"", realm.url(), realm.host());
    let challenge = format!("WWW-Authenticate: Negotiate, Basic realm=\"r\", {bearer}");
    let (address, heads) = server(move |head| match head.contains("authorization: ") {
        true => answer("200 OK", &[], "{}"),
        false => answer("401 Unauthorized", &[&challenge], ""),
    })
    .await;
    let host = address.to_string();
    assert!(nobody().manifest(&repository(&host), "1").await.unwrap().is_some());
    assert!(somebody(&host, PASSWORD).manifest(&repository(&host), "1").await.unwrap().is_some());
    let heads = heads.lock().unwrap();
    assert!(heads[1].contains("authorization: Bearer "), "nobody has a password: {}", heads[1]);
    assert!(heads[3].contains("authorization: Basic "), "the first that can be answered: {}", heads[3]);
    assert_eq!(realm.count("/token"), 1);
}

#[tokio::test]
async fn a_realm_that_is_not_to_be_trusted_gets_nothing() {
    for (realm, why) in [
        ("http://realm.example/token", "at the realm http://realm.example/token, which is not https"),
        ("realm", "at a realm that is no URL"),
        ("https://user:secret@realm.example/token", "at the realm https://realm.example/token, with a login in it"),
    ] {
        let tokens = Tokens { realm: Some(realm.to_owned()), ..Tokens::default() };
        let registry = start(Authentication::Bearer(tokens)).await;
        let registries = somebody(&registry.host(), PASSWORD);
        let text = unreachable(registries.manifest(&repository(&registry.host()), "1").await);
        assert!(text.contains(why) && !text.contains("secret"), "{text}");
    }
    let (address, _) = server(|_| answer("401 Unauthorized", &["WWW-Authenticate: Negotiate"], "")).await;
    let text = unreachable(nobody().manifest(&repository(&address.to_string()), "1").await);
    assert!(text.contains("of a kind that is not supported"), "{text}");
}

#[tokio::test]
async fn a_realm_that_redirects_gets_the_password_only_itself() {
    let other = start(Authentication::None).await;
    let registry = start(Authentication::Bearer(Tokens { credentials: Some(user()), ..Tokens::default() })).await;
    registry.fault("/token", Fault::RedirectToHost(other.url()));
    let registries = somebody(&registry.host(), PASSWORD);
    unreachable(registries.manifest(&repository(&registry.host()), "1").await);
    assert!(other.requests().is_empty());
}

#[test]
fn a_token_has_its_life_from_the_answer_within_bounds() {
    let life = |body: &str| granted(body.as_bytes()).map(|(token, life)| (token, life.as_secs()));
    let token = |seconds| Some(("t".to_owned(), seconds));
    assert_eq!(life(r#"{"token":"t"}"#), token(55));
    assert_eq!(life(r#"{"access_token":"t","expires_in":300}"#), token(295));
    assert_eq!(life(r#"{"token":"t","access_token":"u","expires_in":null}"#), token(55));
    assert_eq!(life(r#"{"token":"t","expires_in":0}"#), token(5));
    assert_eq!(life(r#"{"token":"t","expires_in":-1}"#), token(55));
    assert_eq!(life(r#"{"token":"t","expires_in":9223372036854775807}"#), token(3_595));
    for body in ["", "[]", "{}", r#"{"token":""}"#, r#"{"token":"a b"}"#, r#"{"token":"a\r\nb"}"#, r#"{"token":1}"#] {
        assert_eq!(life(body), None, "{body}");
    }
}

#[test]
fn of_too_many_tokens_the_one_that_ends_first_goes() {
    let registries = nobody();
    let now = Instant::now();
    let token = |seconds: u64| Token {
        authorization: HeaderValue::from_static("x"),
        until: now + Duration::from_secs(seconds),
        anonymous: true,
    };
    for number in 0..limits::TOKENS {
        let seconds = if number == 500 { 50 } else { 1_000 };
        registries.cache_token(&repository(&format!("r{number}.example")), &token(seconds));
    }
    registries.cache_token(&repository("new.example"), &token(100));
    assert!(registries.cached_token(&repository("r500.example")).is_none());
    assert!(registries.cached_token(&repository("r501.example")).is_some());
    assert!(registries.cached_token(&repository("new.example")).is_some());
    assert_eq!(registries.tokens().len(), limits::TOKENS);
    registries.cache_token(&repository("old.example"), &token(0));
    assert!(registries.cached_token(&repository("old.example")).is_none());
}

#[tokio::test]
async fn referrers_come_from_every_page() {
    for absolute_links in [false, true] {
        let registry = Registry::start(Options { page_size: Some(2), absolute_links, ..Options::default() }).await;
        let image = registry.push("team/app", None, &oci::image("amd64", "hello"));
        for bundle in ["1", "2", "3", "4", "5"] {
            registry.attach_bundle("team/app", &image, bundle.as_bytes(), ArtifactType::Bundle);
        }
        let image = Digest::new(&image).unwrap();
        let referrers = nobody().referrers(&repository(&registry.host()), &image, MOST).await.unwrap().unwrap();
        assert_eq!((referrers.len(), registry.count("/v2/team/app/referrers/")), (5, 3));
    }
}

#[tokio::test]
async fn a_registry_without_the_referrers_api_has_none() {
    let registry = Registry::start(Options { no_referrers: true, ..Options::default() }).await;
    let (registries, repository) = (nobody(), repository(&registry.host()));
    let digest = Digest::new(DIGEST).unwrap();
    assert!(registries.referrers(&repository, &digest, MOST).await.unwrap().is_none());
    for fault in [
        Fault::Status(400),
        Fault::Status(405),
        Fault::Status(406),
        Fault::Answer(200, "text/html", b"<html>".to_vec()),
    ] {
        registry.clear_faults();
        registry.fault("/v2/", fault);
        assert!(registries.referrers(&repository, &digest, MOST).await.unwrap().is_none());
    }
    registry.clear_faults();
    registry.fault("/v2/", Fault::Answer(200, oci::INDEX, b"{\"manifests\":[{}]}".to_vec()));
    let text = content(registries.referrers(&repository, &digest, MOST).await);
    assert!(text.contains("the list of referrers is malformed"), "{text}");
}

#[tokio::test]
async fn a_link_to_another_host_is_refused() {
    let other = start(Authentication::None).await;
    for link in ["OTHER/next", "//registry.example/next", "http://[/next", "http://user:password@SELF/next"] {
        let link = format!("Link: <{}>; rel=\"next\"", link.replace("OTHER", &other.url()));
        let kind = format!("Content-Type: {INDEX}");
        let (address, heads) = server(move |head| {
            let host = head.split_once("host: ").unwrap().1.split_once("\r\n").unwrap().0;
            answer("200 OK", &[&kind, &link.replace("SELF", host)], "{}")
        })
        .await;
        let repository = repository(&address.to_string());
        let text = content(nobody().referrers(&repository, &Digest::new(DIGEST).unwrap(), MOST).await);
        assert!(text.contains("Link"), "{text}");
        assert_eq!(heads.lock().unwrap().len(), 1);
    }
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn pages_without_end_end() {
    let headers = [format!("Content-Type: {INDEX}"), "Link: </next>; rel=next".to_owned()];
    let (address, heads) = server(move |_| answer("200 OK", &[&headers[0], &headers[1]], "{}")).await;
    let text =
        content(nobody().referrers(&repository(&address.to_string()), &Digest::new(DIGEST).unwrap(), MOST).await);
    assert!(text.contains("more than 32 pages"), "{text}");
    assert_eq!(heads.lock().unwrap().len(), 32);
}

#[test]
fn the_next_page_is_found_among_links() {
    let next = |values: &[&str]| {
        let values = values.iter().map(|value| (header::LINK, HeaderValue::from_str(value).unwrap()));
        next_page(&HeaderMap::from_iter(values))
    };
    for values in [
        ["", r#"</n?a=b&c>; rel="next""#],
        ["", "</n?a=b&c>;rel=next"],
        ["", r#"</n?a=b&c> ; REL="Next""#],
        ["", r#"</p>; rel="prev", </n?a=b&c>; title="x"; rel="last next""#],
        [r#"</p>; rel="prev""#, r#"</n?a=b&c>; rel="next""#],
    ] {
        assert_eq!(next(&values).as_deref(), Some("/n?a=b&c"), "{values:?}");
    }
    for value in ["", "<", "</n", "</n>", "</n>; rel=", "</n>; rel=\"nextish\"", "</n>; title=\"next\"", "rel=next"] {
        assert_eq!(next(&[value]), None, "{value}");
    }
}

#[tokio::test]
async fn a_registry_of_a_private_ca_is_known_by_registry_ca() {
    let registry = tls().await;
    registry.push("team/app", Some("1"), &oci::image("amd64", "hello"));
    let url = Url::parse(&format!("{}/v2/team/app/manifests/1", registry.url())).unwrap();
    let text = unreachable(nobody().get_with(&url, MANIFESTS, None, 10_000).await);
    assert!(text.contains("a CA that this machine does not know") && text.contains("registry_ca"), "{text}");
    let registries = with(ClientOptions { authorities: authorities(&registry), ..options() }, &[]).unwrap();
    assert_eq!(registries.get_with(&url, MANIFESTS, None, 10_000).await.unwrap().status, StatusCode::OK);
    // The certificate is for other names.
    let other = Url::parse(url.as_str().replace("127.0.0.1", "127.0.0.2").as_str()).unwrap();
    unreachable(registries.get_with(&other, MANIFESTS, None, 10_000).await);
}

#[tokio::test]
async fn a_registry_without_tls_is_pointed_at_insecure_registries() {
    let registry = start(Authentication::None).await;
    let url = Url::parse(&format!("https://{}/", registry.host())).unwrap();
    let text = unreachable(nobody().get_with(&url, "*/*", None, 100).await);
    assert!(text.contains("does not speak TLS") && text.contains("insecure_registries"), "{text}");
}

#[tokio::test]
async fn a_machine_without_ca_certificates_can_be_configured() {
    let test = "a_machine_without_ca_certificates_can_be_configured";
    if !alone(test, &[("SSL_CERT_FILE", "/nonexistent/ca.pem")]) {
        return;
    }
    let (plain, registry) = (start(Authentication::None).await, tls().await);
    plain.push("team/app", Some("1"), &oci::image("amd64", "hello"));
    let registries = nobody();
    assert!(registries.manifest(&repository(&plain.host()), "1").await.unwrap().is_some());
    let url = Url::parse(&registry.url()).unwrap();
    let text = unreachable(registries.get_with(&url, "*/*", None, 100).await);
    assert!(text.contains("SSL_CERT_FILE") && text.contains("registry_ca"), "{text}");
    let registries = with(ClientOptions { authorities: authorities(&registry), ..options() }, &[]).unwrap();
    assert!(registries.get_with(&url, "*/*", None, 100).await.is_ok());
}

#[tokio::test]
async fn a_file_of_the_environment_is_a_ca_too() {
    let file = std::env::temp_dir().join(format!("docker-attestor-ca-{}.pem", std::process::id()));
    let test = "a_file_of_the_environment_is_a_ca_too";
    if !alone(test, &[("SSL_CERT_FILE", file.to_str().unwrap())]) {
        return;
    }
    let registry = tls().await;
    let file = std::env::var_os("SSL_CERT_FILE").unwrap();
    std::fs::write(&file, registry.ca_pem().unwrap()).unwrap();
    let registries = nobody();
    std::fs::remove_file(&file).unwrap();
    let url = Url::parse(&registry.url()).unwrap();
    assert!(registries.get_with(&url, "*/*", None, 100).await.is_ok());
}

#[tokio::test]
async fn each_certificate_of_registry_ca_is_checked_when_configured() {
    let registry = tls().await;
    let good = registry.ca_pem().unwrap();
    let no_certificate = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let no_base64 = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    for (pem, why) in [
        (String::new(), "/ca.pem: no certificate in PEM form"),
        ("hello".to_owned(), "/ca.pem: no certificate in PEM form"),
        (no_certificate.to_owned(), "/ca.pem: certificate 1 is malformed"),
        (format!("{good}{no_certificate}"), "/ca.pem: certificate 2 is malformed"),
        (format!("{good}{good}{no_base64}"), "/ca.pem: certificate 3 is malformed"),
    ] {
        let authorities = vec![(PathBuf::from("/ca.pem"), pem)];
        let error = with(ClientOptions { authorities, ..options() }, &[]).err().unwrap().to_string();
        assert!(error.starts_with("registry_ca: ") && error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn https_goes_through_the_proxy_except_to_this_machine() {
    let (proxy, heads) = server(|_| answer("407 Proxy Authentication Required", &[], "")).await;
    let registry = tls().await;
    let proxy = format!("http://user:{PASSWORD}@{proxy}");
    let through = |variables: &[(&str, &str)]| {
        with(ClientOptions { authorities: authorities(&registry), ..options() }, variables).unwrap()
    };
    let registries = through(&[("HTTPS_PROXY", &proxy), ("NO_PROXY", "direct.invalid")]);
    let text = unreachable(registries.manifest(&repository("registry.invalid"), "1").await);
    assert!(text.contains("https://registry.invalid/") && text.contains("(HTTPS_PROXY is set)"), "{text}");
    let seen = std::mem::take(&mut *heads.lock().unwrap());
    assert!(seen[0].starts_with("CONNECT registry.invalid:443 HTTP/1.1\r\n"), "{seen:?}");
    assert!(seen[0].to_ascii_lowercase().contains("proxy-authorization: basic "), "{seen:?}");
    // What NO_PROXY names, and this machine.
    unreachable(registries.manifest(&repository("direct.invalid"), "1").await);
    let url = Url::parse(&registry.url()).unwrap();
    assert!(registries.get_with(&url, "*/*", None, 100).await.is_ok());
    let localhost = Url::parse(&registry.url().replace("127.0.0.1", "localhost")).unwrap();
    assert!(registries.get_with(&localhost, "*/*", None, 100).await.is_ok());
    assert!(heads.lock().unwrap().is_empty());
    // The other spelling, without a scheme.
    let registries = through(&[("https_proxy", proxy.trim_start_matches("http://"))]);
    unreachable(registries.manifest(&repository("registry.invalid"), "1").await);
    assert!(heads.lock().unwrap()[0].starts_with("CONNECT registry.invalid:443 "));
}

#[tokio::test]
async fn the_other_proxies_of_the_environment_are_not_for_us() {
    let test = "the_other_proxies_of_the_environment_are_not_for_us";
    let nowhere = "http://127.0.0.1:1";
    if !alone(test, &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, nowhere))) {
        return;
    }
    let registry = start(Authentication::None).await;
    registry.push("team/app", Some("1"), &oci::image("amd64", "hello"));
    for registries in [nobody(), with(options(), &[("HTTPS_PROXY", "http://127.0.0.1:2")]).unwrap()] {
        assert!(registries.manifest(&repository(&registry.host()), "1").await.unwrap().is_some());
    }
    let text = unreachable(nobody().manifest(&repository("registry.invalid"), "1").await);
    assert!(!text.contains("refused"), "{text}");
}

#[test]
fn a_malformed_proxy_is_an_error_without_its_value() {
    for proxy in [
        "http://user:hunter2@",
        "http://user:hunter2@proxy:port",
        "http://user:hunter2@proxy:65536",
        "socks5://user:hunter2@proxy:1080",
        "user:hunter2@proxy:port",
        "http:// hunter2",
    ] {
        let error = with(options(), &[("HTTPS_PROXY", proxy)]).err().unwrap_or_else(|| panic!("{proxy}")).to_string();
        assert!(error.contains("HTTPS_PROXY is no URL of a proxy") && !error.contains(PASSWORD), "{error}");
    }
    assert!(with(options(), &[("HTTPS_PROXY", ""), ("https_proxy", "proxy:3128")]).is_ok());
}

#[tokio::test]
async fn a_registry_that_wants_a_login_can_be_reached_and_gets_none() {
    for (status, reached) in
        [("200 OK", true), ("401 Unauthorized", true), ("404 Not Found", true), ("502 Bad Gateway", false)]
    {
        let (address, heads) = server(move |_| answer(status, &["WWW-Authenticate: Basic realm=\"x\""], "")).await;
        let host = address.to_string();
        let outcome = somebody(&host, "secret").ping(&host).await;
        assert_eq!(outcome.is_ok(), reached, "{status}");
        let heads = heads.lock().unwrap();
        let asked_without_login = |head: &String| {
            head.starts_with("GET /v2/ HTTP/1.1\r\n") && !head.to_ascii_lowercase().contains("\r\nauthorization:")
        };
        assert!(!heads.is_empty() && heads.iter().all(asked_without_login), "{heads:?}");
    }
    assert!(unreachable(nobody().ping("127.0.0.1:1").await).contains("127.0.0.1:1"));
    assert!(nobody().ping("no host").await.is_err());
}
