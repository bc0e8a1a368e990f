//! The cache of `cosign initialize` and the refresh from its mirror, with repositories that python-tuf makes
//! (`fixtures/tuf/repository.py`) and a server of plain files.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};

use serde_json::json;
use sigstore_fixtures::TestBed;
use sigstore_trust_root::TrustedRoot;
use sigstore_tuf::MetadataStore as _;
use tempfile::TempDir;

use super::super::tests::{Machine, TEST_BED, UNREADABLE, material, refused};
use super::super::{PARTS, Part, Trust};
use super::{Refresh, directory_name, mirror};

/// Every repository of these tests. `first` is what clients know unless they say otherwise; `next` is newer, with other trust.
const REPOSITORIES: [&str; 27] = [
    "first:trusted_root=first.json",
    "next:trusted_root=next.json,root=2,version=2,client=first",
    "next-itself:trusted_root=next.json,root=2,version=2",
    "rolling:trusted_root=next.json,root=2,version=2,client=first",
    "expired-root:trusted_root=first.json,expired=root",
    "expired-timestamp:trusted_root=first.json,expired=timestamp",
    "expired-snapshot:trusted_root=first.json,expired=snapshot",
    "expired-targets:trusted_root=first.json,expired=targets",
    "expired:trusted_root=first.json,expired=root+timestamp+snapshot+targets",
    "renewed:trusted_root=next.json,root=2,version=2,client=expired",
    "forged-root:trusted_root=next.json,root=2,version=2,forged=root,client=first",
    "forged-timestamp:trusted_root=next.json,version=2,forged=timestamp,client=first",
    "forged-snapshot:trusted_root=next.json,version=2,forged=snapshot,client=first",
    "forged-targets:trusted_root=next.json,version=2,forged=targets,client=first",
    "altered:trusted_root=next.json,version=2,altered=yes,client=first",
    "older-timestamp:trusted_root=first.json,root=2,version=1,client=next-itself",
    "older-snapshot:trusted_root=first.json,root=2,version=3,snapshot=1,targets=1,client=next-itself",
    "older-targets:trusted_root=first.json,root=2,version=3,targets=1,client=next-itself",
    "stale:trusted_root=next.json,version=2,expired=timestamp,client=first",
    "twice:trusted_root=twice.json,version=2,client=first",
    "endless:trusted_root=next.json,version=2,client=first",
    "elsewhere:trusted_root=next.json,version=2,client=first",
    "failing:trusted_root=next.json,version=2,client=first",
    "cut:trusted_root=next.json,version=2,client=first",
    "endless-target:trusted_root=next.json,version=2,client=first",
    "delegated:trusted_root=first.json,delegated=yes",
    "empty:trusted_root=next.json,version=2,client=first",
];

/// The repositories, served on a loopback address.
struct Mirrors {
    directory: TempDir,
    address: String,
    /// What was asked for: the Host, and the request's target.
    requests: Arc<Mutex<Vec<String>>>,
    next: TrustedRoot,
}

static MIRRORS: LazyLock<Option<Mirrors>> = LazyLock::new(Mirrors::start);

fn mirrors() -> Option<&'static Mirrors> {
    if MIRRORS.is_none() {
        println!("skipped: python3 has no tuf (pip install tuf 'securesystemslib[crypto]')");
    }
    MIRRORS.as_ref()
}

impl Mirrors {
    fn start() -> Option<Mirrors> {
        let directory = tempfile::tempdir().unwrap();
        let next = TestBed::new().trusted_root();
        let write = |name: &str, content: String| fs::write(directory.path().join(name), content).unwrap();
        write("first.json", TEST_BED.trusted_root().to_string());
        write("next.json", next.to_string());
        write("twice.json", next.to_string().replacen('{', r#"{"tlogs":[],"#, 1));

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tuf/repository.py");
        let made = Command::new("python3")
            .arg(script)
            .args([".", "--url", &format!("http://{address}")])
            .args(REPOSITORIES)
            .current_dir(&directory)
            .output();
        match made.as_ref().map(|made| made.status.code()) {
            Err(_) | Ok(Some(3)) => return None,
            Ok(Some(0)) => {}
            Ok(_) => panic!("{}", String::from_utf8_lossy(&made.unwrap().stderr)),
        }
        let requests = Arc::new(Mutex::default());
        let server = Server { listener, files: directory.path().to_owned(), requests: Arc::clone(&requests) };
        std::thread::Builder::new().spawn(move || server.run()).unwrap();
        Some(Mirrors { directory, address, requests, next: serde_json::from_value(next).unwrap() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A machine on which `cosign initialize` ran with that repository.
    fn machine(&self, repository: &str) -> Machine {
        Machine::new().with("TUF_ROOT", self.path(&format!("{repository}.client")))
    }

    fn load(&self, repository: &str) -> Trust {
        self.machine(repository).load().unwrap()
    }

    /// Refreshes what that client has.
    fn refresh(&self, repository: &str) -> Result<TrustedRoot, String> {
        run(&self.load(repository).refresh.unwrap(), client())
    }

    /// The client's folder below `name` of a machine, to be changed.
    fn copy_client(&self, repository: &str, machine: &Machine, name: &str) -> PathBuf {
        let metadata = directory_name(&format!("http://{}/{repository}", self.address));
        let client = self.path(&format!("{repository}.client"));
        for file in ["root.json", "timestamp.json", "snapshot.json", "targets.json", "targets/trusted_root.json"] {
            machine.write(&format!("{name}/{metadata}/{file}"), fs::read(client.join(&metadata).join(file)).unwrap());
        }
        machine.write(&format!("{name}/remote.json"), fs::read(client.join("remote.json")).unwrap());
        machine.path(&format!("{name}/{metadata}"))
    }
}

/// Serves files; the first folder of a path says how.
struct Server {
    listener: TcpListener,
    files: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn run(&self) {
        for stream in self.listener.incoming() {
            // A client that leaves is none of our business.
            let _ = self.answer(&stream.unwrap());
        }
    }

    fn answer(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut head = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        let request = head.next().unwrap_or_default();
        let host = head.find_map(|line| line.to_lowercase().strip_prefix("host: ").map(str::to_owned));
        head.for_each(drop);
        let (method, target) = request.split_once(' ').unwrap_or_default();
        let target = target.split(' ').next().unwrap_or_default();
        self.requests.lock().unwrap().push(format!("{} {target}", host.unwrap_or_default()));

        // As a proxy is asked: with the whole URL.
        let path = target.strip_prefix("http://").and_then(|url| Some(url.split_once('/')?.1)).unwrap_or(target);
        let path = path.trim_start_matches('/');
        let file = fs::read(self.files.join(path));
        let mut answer = |status: &str, body: &[u8]| {
            stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n").as_bytes())?;
            stream.write_all(body)
        };
        let way = match path.split_once('/') {
            Some(("endless-target", file)) if file.starts_with("targets/") => "endless",
            Some((way, _)) => way,
            None => "",
        };
        match (method, way, file) {
            ("GET", "endless", Ok(_)) => {
                answer("200 OK", b"{")?;
                loop {
                    stream.write_all(&[b' '; 1 << 16])?;
                }
            }
            ("GET", "elsewhere", Ok(_)) => {
                let port = self.listener.local_addr()?.port();
                answer(
                    &format!("302 Found\r\nLocation: http://localhost:{port}/{}", path.replace("elsewhere", "next")),
                    b"",
                )
            }
            ("GET", "failing", Ok(_)) => answer("500 Internal Server Error", b""),
            ("GET", "cut", Ok(body)) => answer(&format!("200 OK\r\nContent-Length: {}", body.len() + 1), &body),
            ("GET", "empty", Ok(_)) => answer("200 OK", b""),
            ("GET", _, Ok(body)) => answer("200 OK", &body),
            _ => answer("404 Not Found", b""),
        }
    }
}

/// A client as the registry's is: it follows no redirects.
fn client() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

fn run(refresh: &Refresh, client: reqwest::Client) -> Result<TrustedRoot, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(refresh.run(client))
        .map_err(|error| error.to_string())
}

fn first() -> TrustedRoot {
    serde_json::from_value(TEST_BED.trusted_root()).unwrap()
}

fn assert_same(one: &TrustedRoot, other: &TrustedRoot) {
    for part in PARTS {
        assert_eq!(material(one, part), material(other, part), "{}", part.name());
    }
}

#[test]
fn what_cosign_initialize_left_gives_all_parts() {
    let Some(mirrors) = mirrors() else { return };
    let trust = mirrors.load("first");
    assert_same(&trust.root, &first());
    assert_eq!(trust.warnings, Vec::<String>::new());
    let directory = mirrors.path("first.client");
    for (_, source) in &trust.sources {
        let mirror = format!("http://{}/first", mirrors.address);
        assert_eq!(*source, format!("TUF_ROOT {} (mirror {mirror})", directory.display()));
    }
}

#[test]
fn a_trusted_root_of_a_delegated_role_is_found() {
    let Some(mirrors) = mirrors() else { return };
    assert_same(&mirrors.load("delegated").root, &first());
    assert_same(&mirrors.refresh("delegated").unwrap(), &first());
}

#[test]
fn without_tuf_root_the_cache_is_in_the_home() {
    let Some(mirrors) = mirrors() else { return };
    let machine = Machine::new().with_home("x", "");
    mirrors.copy_client("first", &machine, "home/.sigstore/root");
    let trust = machine.load().unwrap();
    assert_same(&trust.root, &first());
    assert!(trust.sources[0].1.starts_with("cosign initialize "), "{:?}", trust.sources);
    // And it comes after what TUF_ROOT names.
    let machine = machine.with("TUF_ROOT", "/nowhere");
    let error = machine.load().unwrap_err();
    assert!(error.starts_with("TUF_ROOT /nowhere: holds no remote.json: run `cosign initialize` (v3)"), "{error}");
}

#[test]
fn expired_metadata_are_used_and_said() {
    let Some(mirrors) = mirrors() else { return };
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let trust = mirrors.load(&format!("expired-{role}"));
        assert_same(&trust.root, &first());
        let [warning] = trust.warnings.as_slice() else { panic!("{:?}", trust.warnings) };
        assert!(warning.contains(&format!("{role} metadata expired at 20")), "{warning}");
        assert!(warning.contains(&format!("http://{}/expired-{role}", mirrors.address)), "{warning}");
    }
    // Nobody was asked.
    assert!(!mirrors.requests.lock().unwrap().iter().any(|request| request.contains("/expired-")));
}

#[test]
fn a_cache_that_is_not_whole_is_an_error() {
    let Some(mirrors) = mirrors() else { return };
    for file in ["root.json", "timestamp.json", "snapshot.json", "targets.json", "targets/trusted_root.json"] {
        for (reason, make) in UNREADABLE {
            let machine = Machine::new();
            let path = mirrors.copy_client("first", &machine, "tuf").join(file);
            fs::remove_file(&path).unwrap();
            make(&path);
            let directory = machine.path("tuf");
            let error = machine.with("TUF_ROOT", &directory).load().unwrap_err();
            // Bytes that are not UTF-8 are for the parser to refuse.
            assert!(error.contains(&format!("{file}: {reason}")) || reason == "not UTF-8", "{error}");
            assert!(error.starts_with(&format!("TUF_ROOT {}: cache of http://", directory.display())), "{error}");
            assert!(error.contains("run `cosign initialize` (v3) again"), "{error}");
        }
    }
}

#[test]
fn a_cache_that_was_altered_is_an_error() {
    let Some(mirrors) = mirrors() else { return };
    // In each file something that a thief would want changed, of the same length.
    for (file, from, to, reason) in [
        ("root.json", "\"threshold\":1", "\"threshold\":0", "threshold"),
        ("timestamp.json", "\"version\":1", "\"version\":9", "signature threshold not met for role timestamp"),
        ("snapshot.json", "\"version\":1", "\"version\":9", "snapshot.json: sha256 mismatch"),
        ("targets.json", "\"sha256\":\"", "\"sha512\":\"", "targets.json: sha256 mismatch"),
        ("targets/trusted_root.json", "world.test", "thief.test", "trusted_root.json: sha256 mismatch"),
    ] {
        let machine = Machine::new();
        let path = mirrors.copy_client("first", &machine, "tuf").join(file);
        let altered = fs::read_to_string(&path).unwrap().replacen(from, to, 1);
        fs::write(&path, altered).unwrap();
        let directory = machine.path("tuf");
        let error = machine.with("TUF_ROOT", directory).load().unwrap_err();
        assert!(error.contains(reason), "{file}: {error}");
    }
}

#[test]
fn a_cache_that_mixes_two_repositories_is_an_error() {
    let Some(mirrors) = mirrors() else { return };
    for file in ["timestamp.json", "snapshot.json", "targets.json", "targets/trusted_root.json"] {
        let machine = Machine::new();
        let newer = mirrors.copy_client("next-itself", &machine, "newer").join(file);
        let path = mirrors.copy_client("first", &machine, "tuf").join(file);
        fs::copy(newer, path).unwrap();
        let directory = machine.path("tuf");
        let error = refused(machine.with("TUF_ROOT", directory).load(), file);
        assert!(error.contains("mismatch") || error.contains("pinned"), "{error}");
    }
}

#[test]
fn an_expired_cache_is_verified_like_any_other() {
    let Some(mirrors) = mirrors() else { return };
    let machine = Machine::new();
    let path = mirrors.copy_client("expired", &machine, "tuf").join("targets/trusted_root.json");
    fs::write(&path, fs::read_to_string(&path).unwrap().replacen("world.test", "thief.test", 1)).unwrap();
    let directory = machine.path("tuf");
    let error = machine.with("TUF_ROOT", directory).load().unwrap_err();
    assert!(error.contains("trusted_root.json: sha256 mismatch"), "{error}");
}

#[test]
fn the_older_form_is_answered_with_what_to_run() {
    // With remote.json and without: both were written.
    let bare = Machine::new().with_home(".sigstore/root/tuf.db/CURRENT", "MANIFEST-000000");
    let with_remote = Machine::new()
        .with_home(".sigstore/root/tuf.db/CURRENT", "MANIFEST-000000")
        .with_home(".sigstore/root/remote.json", r#"{"mirror": "https://tuf.example.org"}"#);
    for machine in [bare, with_remote] {
        let error = machine.load().unwrap_err();
        assert!(error.contains("tuf.db, a LevelDB") && error.contains("run `cosign initialize` (v3) again"), "{error}");
    }
}

#[test]
fn what_only_cosign_verify_left_decides_nothing() {
    let machine = Machine::new().with_home(".sigstore/root/tuf-repo-cdn.sigstore.dev/root.json", "{}");
    let trust = machine.load().unwrap();
    assert_eq!(trust.sources[0].1, "public-good root of this program");
    assert!(trust.warnings[0].contains("`cosign initialize` did not make it"), "{:?}", trust.warnings);
}

#[test]
fn a_cache_that_cannot_be_followed_is_an_error() {
    let linked = Machine::new().with_home("x", "");
    symlink("/nowhere", linked.path("home/.sigstore")).unwrap();
    let below = Machine::new().with_home(".sigstore/x", "");
    symlink("/nowhere", below.path("home/.sigstore/root")).unwrap();
    let looped = Machine::new().with_home(".sigstore/x", "");
    symlink("root", looped.path("home/.sigstore/root")).unwrap();
    let file = Machine::new().with_home(".sigstore/root", "");
    for (reason, machine) in [
        ("link to nothing", linked),
        ("link to nothing", below),
        ("link to nothing", looped),
        ("not a directory", file),
    ] {
        let error = refused(machine.load(), reason);
        assert!(error.contains(reason) && error.contains("run `cosign initialize` (v3) again"), "{error}");
    }
}

#[test]
fn a_remote_json_that_is_broken_is_an_error() {
    for (reason, make) in UNREADABLE.into_iter().filter(|(reason, _)| *reason != "no such file") {
        let machine = Machine::new().with_home(".sigstore/root/x", "");
        make(&machine.path("home/.sigstore/root/remote.json"));
        let error = machine.load().unwrap_err();
        assert!(error.contains(&format!("remote.json: {reason}")), "{error}");
    }
    let mirror = r#""mirror": "https://tuf.example.org""#;
    for (reason, content) in [
        ("EOF", String::new()),
        ("missing field `mirror`", "{}".to_owned()),
        ("invalid type", r#"{"mirror": 1}"#.to_owned()),
        ("duplicate field `mirror`", format!("{{{mirror}, {mirror}}}")),
        ("trailing characters", format!("{{{mirror}}} {{}}")),
        ("no URL", r#"{"mirror": ""}"#.to_owned()),
        ("no URL", r#"{"mirror": "tuf.example.org"}"#.to_owned()),
        ("without a host", r#"{"mirror": "file:///srv/tuf"}"#.to_owned()),
        ("no such directory", format!("{{{mirror}}}")),
    ] {
        let error = refused(Machine::new().with_home(".sigstore/root/remote.json", content).load(), reason);
        assert!(error.contains(reason) && error.contains("run `cosign initialize` (v3) again"), "{reason}: {error}");
    }
}

#[test]
fn a_mirror_that_may_not_be_asked_is_said_and_not_refreshed() {
    let Some(mirrors) = mirrors() else { return };
    for (mirror, reason) in [
        ("http://tuf.example.org", "plain http is for loopback only"),
        ("http://127.0.0.1.example.org", "plain http is for loopback only"),
        ("ftp://tuf.example.org", "scheme ftp is not supported"),
        ("https://tuf.example.org/?token=secret", "queries"),
        ("https://agent:secret@tuf.example.org", "passwords"),
    ] {
        let machine = Machine::new();
        let metadata = mirrors.copy_client("first", &machine, "tuf");
        machine.write("tuf/remote.json", json!({ "mirror": mirror }).to_string());
        let renamed = machine.path("tuf").join(directory_name(mirror));
        fs::rename(metadata, &renamed).unwrap();
        let directory = machine.path("tuf");
        let machine = machine.with("TUF_ROOT", directory);

        let trust = machine.load().unwrap();
        assert_same(&trust.root, &first());
        let [warning] = trust.warnings.as_slice() else { panic!("{:?}", trust.warnings) };
        assert!(warning.contains("will not be refreshed") && warning.contains(reason), "{warning}");
        assert!(trust.refresh.is_none());
        // No password is shown, whatever is wrong.
        fs::remove_file(renamed.join("root.json")).unwrap();
        let error = machine.load().unwrap_err();
        assert!(!format!("{error}{:?}{warning}", trust.sources).contains("secret"), "{error}");
    }
}

#[test]
fn mirrors_have_the_names_that_sigstore_go_gives_them() {
    for (mirror, name) in [
        ("https://tuf-repo-cdn.sigstore.dev", "tuf-repo-cdn.sigstore.dev"),
        ("https://TUF.example.org/prod/", "tuf.example.org-prod-"),
        ("http://127.0.0.1:8080/tuf", "127.0.0.1-8080-tuf"),
    ] {
        assert_eq!(directory_name(mirror), name);
    }
}

#[test]
fn plain_http_is_for_loopback() {
    for allowed in ["https://tuf.example.org", "http://localhost:8080", "http://127.1.2.3/tuf", "http://[::1]:80"] {
        assert!(mirror(allowed).is_ok_and(|url| url.path().ends_with('/')), "{allowed}");
    }
    for refused in ["http://10.0.0.1", "http://localhost.example.org", "http://[::ffff:10.0.0.1]", "http://0.0.0.0"] {
        assert!(mirror(refused).is_err(), "{refused}");
    }
}

#[test]
fn a_refresh_brings_the_next_trusted_root_over_a_new_root() {
    let Some(mirrors) = mirrors() else { return };
    let trust = mirrors.load("next");
    assert_same(&trust.root, &first());
    let refresh = trust.refresh.unwrap();
    for _ in 0..2 {
        assert_same(&run(&refresh, client()).unwrap(), &mirrors.next);
    }
    // What is kept does not grow with every snapshot.
    assert!(refresh.seed.verified.load("snapshot.json").unwrap().is_some());
    assert!(refresh.seed.verified.load("2.snapshot.json").unwrap().is_none());
}

#[test]
fn a_refresh_leaves_parts_of_variables_as_they_were_loaded() {
    let Some(mirrors) = mirrors() else { return };
    let machine = mirrors.machine("next");
    let path = machine.path("trust/rekor.pub");
    let trust = machine.with(Part::Rekor.variable(), path).load().unwrap();
    let refreshed = run(&trust.refresh.unwrap(), client()).unwrap();
    for part in PARTS {
        let expected = if part == Part::Rekor { &trust.root } else { &mirrors.next };
        assert_eq!(material(&refreshed, part), material(expected, part), "{}", part.name());
    }
}

#[test]
fn an_expired_cache_is_refreshed_from_its_own_mirror_and_no_other() {
    let Some(mirrors) = mirrors() else { return };
    let trust = mirrors.load("renewed");
    assert!(trust.warnings[0].contains("expired"), "{:?}", trust.warnings);
    // Whoever would be asked is asked through this server.
    let proxy = reqwest::Proxy::all(format!("http://{}", mirrors.address)).unwrap();
    let through_proxy = reqwest::Client::builder().proxy(proxy).build().unwrap();
    assert_same(&run(&trust.refresh.unwrap(), through_proxy).unwrap(), &mirrors.next);
    let asked: BTreeSet<String> = mirrors
        .requests
        .lock()
        .unwrap()
        .iter()
        .filter(|request| request.contains(" http://"))
        .map(|request| request.rsplit_once('/').unwrap().0.to_owned())
        .collect();
    let mirror = format!("{0} http://{0}/renewed", mirrors.address);
    assert_eq!(asked, BTreeSet::from([mirror.clone(), format!("{mirror}/targets")]));
}

#[test]
fn the_public_good_root_is_refreshed_from_the_public_good_mirror() {
    let Some(mirrors) = mirrors() else { return };
    let proxy = reqwest::Proxy::all(format!("http://{}", mirrors.address)).unwrap();
    let through_proxy = reqwest::Client::builder().proxy(proxy).build().unwrap();
    let refresh = Machine::new().load().unwrap().refresh.unwrap();
    let error = run(&refresh, through_proxy).unwrap_err();
    assert!(error.contains("GET https://tuf-repo-cdn.sigstore.dev/"), "{error}");
    let requests = mirrors.requests.lock().unwrap();
    let tunnels: BTreeSet<&String> = requests.iter().filter(|request| request.ends_with(":443")).collect();
    assert_eq!(tunnels.len(), 1, "{tunnels:?}");
    assert!(tunnels.first().unwrap().ends_with(" tuf-repo-cdn.sigstore.dev:443"), "{tunnels:?}");
}

#[test]
fn what_a_mirror_may_not_serve_is_refused() {
    let Some(mirrors) = mirrors() else { return };
    for (repository, reason) in [
        ("forged-root", "signature threshold not met for role root"),
        ("forged-timestamp", "signature threshold not met for role timestamp"),
        ("forged-snapshot", "signature threshold not met for role snapshot"),
        ("forged-targets", "signature threshold not met for role targets"),
        ("altered", "trusted_root.json: sha256 mismatch"),
        ("older-timestamp", "rollback detected for timestamp"),
        ("older-snapshot", "rollback detected for snapshot"),
        ("older-targets", "rollback detected for targets.json"),
        ("stale", "timestamp metadata expired"),
        ("twice", "duplicate field `tlogs`"),
        ("endless", "timestamp.json: larger than 16384 bytes"),
        ("endless-target", "trusted_root.json: larger than"),
        ("elsewhere", "302 Found"),
        ("failing", "500 Internal Server Error"),
        ("cut", "GET http://"),
        ("empty", "failed to parse JSON"),
    ] {
        let error = refused(mirrors.refresh(repository), repository);
        assert!(error.contains(reason), "{repository}: {error}");
        assert!(error.contains(": not refreshed: "), "{error}");
    }
}

#[test]
fn a_mirror_cannot_go_back_behind_what_a_refresh_has_seen() {
    let Some(mirrors) = mirrors() else { return };
    let refresh = mirrors.load("rolling").refresh.unwrap();
    run(&refresh, client()).unwrap();
    // The mirror is back at the first version. The new root that the client has stays.
    fs::copy(mirrors.path("first/timestamp.json"), mirrors.path("rolling/timestamp.json")).unwrap();
    let error = run(&refresh, client()).unwrap_err();
    assert!(error.contains("rollback detected for timestamp: trusted version 2 > new version 1"), "{error}");
}

#[test]
fn a_redirect_to_another_host_is_not_followed() {
    let Some(mirrors) = mirrors() else { return };
    assert!(mirrors.refresh("elsewhere").is_err());
    let asked_elsewhere = || mirrors.requests.lock().unwrap().iter().any(|request| request.starts_with("localhost"));
    assert!(!asked_elsewhere());
    // Even if the client did, its answer would not count.
    let follows = reqwest::Client::builder().no_proxy().build().unwrap();
    let error = run(&mirrors.load("elsewhere").refresh.unwrap(), follows).unwrap_err();
    assert!(error.contains("which is not its mirror"), "{error}");
    assert!(asked_elsewhere());
}

#[test]
fn a_mirror_that_is_away_is_an_error_and_no_more() {
    let Some(mirrors) = mirrors() else { return };
    let machine = Machine::new();
    let metadata = mirrors.copy_client("first", &machine, "tuf");
    machine.write("tuf/remote.json", r#"{"mirror": "http://127.0.0.1:1/tuf"}"#);
    fs::rename(metadata, machine.path("tuf/127.0.0.1-1-tuf")).unwrap();
    let directory = machine.path("tuf");
    let trust = machine.with("TUF_ROOT", directory).load().unwrap();
    let error = run(&trust.refresh.unwrap(), client()).unwrap_err();
    assert!(error.contains("not refreshed") && error.contains("http://127.0.0.1:1/tuf"), "{error}");
    assert_same(&trust.root, &first());
}
