//! The configuration with every value checked, which happens before the first attestation.

use std::path::PathBuf;

use bounded::text::printable;
use containers::engine::{ApiVersion, Endpoint};
use containers::process::System;
use hcl1::{Document, Value};

use super::components::{self, Component, Extension};
use super::raw::Raw;
use super::report::{Invalid, Report, Section, ValueError};
use super::signatures::{self, Sigstore};
use crate::limits::{MATCHER, MATCHERS, MATCHERS_TOTAL, PIPE_NAME, SOCKET_PATH};

/// Where the Docker engine listens by default on Linux.
const DOCKER_SOCKET: &str = "unix:///var/run/docker.sock";
/// Where the Docker engine listens by default on Windows.
const DOCKER_PIPE: &str = "npipe:////./pipe/docker_engine";

/// A configuration without errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Where the Docker engine listens.
    pub docker: Endpoint,
    /// The version of the engine's API to speak; negotiated if `None`.
    pub docker_version: Option<ApiVersion>,
    /// The operator declares that the engine's pids are ours (decision 1b).
    pub engine_shares_pid_namespace: bool,
    /// Whether to find container ids anywhere in cgroup paths. If `false`, the matchers decide, if there are any.
    pub use_new_container_locator: bool,
    /// The cgroup matchers, which the policy parses and applies.
    pub container_id_cgroup_matchers: Vec<String>,
    /// Whether to log cgroup and mountinfo lines at debug.
    pub verbose_container_locator_logs: bool,
    /// How to verify the image's signatures; `None` to verify none.
    pub sigstore: Option<Sigstore>,
    /// The policy in a file; `None` for the built-in policy.
    pub policy: Option<Component>,
    /// The extensions, sorted by name.
    pub extensions: Vec<Extension>,
    /// The warnings and notes about this configuration.
    pub report: Report,
}

/// Checks everything but the trust domain, whatever else is wrong.
pub(super) fn validate(system: System, document: &Document) -> Result<Configuration, Invalid> {
    let (raw, findings) = Raw::decode(system, &Value::from(document));
    let mut report = Report::default();
    report.add_findings(&findings);
    for key in unsupported_keys(&raw) {
        report.error(&[key], format!("{key}: not supported yet"));
    }
    let docker = match system {
        System::Linux => report.keep(&["docker_socket_path"], linux_endpoint(&raw)),
        System::Windows => report.keep(&["docker_host"], windows_endpoint(&raw)),
    };
    let docker_version = match raw.docker_version.as_str() {
        "" => None,
        text => report.keep(&["docker_version"], api_version(text)),
    };
    let use_new_container_locator = raw.use_new_container_locator.unwrap_or(true);
    let matchers = raw.container_id_cgroup_matchers;
    report.keep(&["container_id_cgroup_matchers"], check_matchers(&matchers, use_new_container_locator));
    let note = match (system, matchers.is_empty()) {
        (System::Windows, _) => "Using the names of job objects to find containers",
        (System::Linux, true) => "Using the new container locator",
        (System::Linux, false) => "Using the legacy container locator with custom cgroup matchers",
    };
    report.note(Section::Locator, note);
    let sigstore = raw.sigstore.and_then(|raw| signatures::validate(raw, &mut report));
    report.warn_of_repeated(&findings);
    let policy = raw.policy.and_then(|raw| components::policy(raw, &mut report));
    let extensions = components::extensions(system, raw.extension.unwrap_or_default(), &mut report);
    report.locate(document);
    match docker {
        Some(docker) if report.errors.is_empty() => Ok(Configuration {
            docker,
            docker_version,
            engine_shares_pid_namespace: raw.engine_shares_pid_namespace,
            use_new_container_locator,
            container_id_cgroup_matchers: matchers,
            verbose_container_locator_logs: raw.verbose_container_locator_logs,
            sigstore,
            policy,
            extensions,
            report,
        }),
        _ => Err(Invalid { errors: report.errors }),
    }
}

/// The keys in the configuration that are known but not implemented yet.
fn unsupported_keys(raw: &Raw) -> Vec<&'static str> {
    [
        ("podman_socket_path", raw.podman_socket_path.is_some()),
        ("podman_socket_path_template", raw.podman_socket_path_template.is_some()),
        ("rootless_podman_uids", raw.rootless_podman_uids.is_some()),
        ("selectors", raw.selectors.is_some()),
        ("use_rootless_podman", raw.use_rootless_podman.is_some()),
    ]
    .into_iter()
    .filter_map(|(key, present)| present.then_some(key))
    .collect()
}

fn linux_endpoint(raw: &Raw) -> Result<Endpoint, ValueError> {
    const KEY: &str = "docker_socket_path";
    const WRITE: &str = "write unix:///path/to/docker.sock";
    let text = match raw.docker_socket_path.as_str() {
        "" => DOCKER_SOCKET,
        text => text,
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("{KEY}: {text:?} has no scheme: {WRITE}"))?;
    match scheme {
        "unix" if !rest.starts_with('/') => {
            Err(ValueError::from(format!("{KEY}: {text:?} is no absolute path: {WRITE}, with three slashes")))
        }
        "unix" if rest.len() > SOCKET_PATH || rest.contains('\0') => {
            Err(ValueError::from(format!("{KEY}: a socket's path may have {SOCKET_PATH} bytes, and no NUL")))
        }
        "unix" => Ok(Endpoint::Unix(PathBuf::from(rest))),
        "tcp" | "http" if !raw.engine_shares_pid_namespace => Err(ValueError::from(format!(
            "{KEY}: {text:?}: over TCP nothing tells whose process ids the engine speaks of: use a unix socket, or set \
             engine_shares_pid_namespace = true if the engine runs in the agent's pid namespace"
        ))),
        "tcp" | "http" => tcp(KEY, scheme, rest),
        "npipe" => Err(ValueError::from(format!("{KEY}: {text:?}: named pipes are Windows'"))),
        _ => Err(ValueError::from(format!("{KEY}: scheme {scheme:?} is not supported: {WRITE}"))),
    }
}

fn windows_endpoint(raw: &Raw) -> Result<Endpoint, ValueError> {
    const KEY: &str = "docker_host";
    const WRITE: &str = "write npipe:////./pipe/docker_engine";
    let text = match raw.docker_host.as_str() {
        "" => DOCKER_PIPE,
        text => text,
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("{KEY}: {text:?} has no scheme: {WRITE}"))?;
    match scheme {
        "npipe" => match rest.strip_prefix("//./pipe/") {
            None => Err(ValueError::from(format!("{KEY}: {text:?} names no pipe of this machine: {WRITE}"))),
            Some(name) if name.is_empty() || name.chars().any(|char| char.is_control() || "\\/".contains(char)) => {
                Err(ValueError::from(format!("{KEY}: {text:?}: a pipe's name has no slash and no control character")))
            }
            Some(name) if name.chars().count() > PIPE_NAME => {
                Err(ValueError::from(format!("{KEY}: a pipe's name may have {PIPE_NAME} characters")))
            }
            Some(name) => Ok(Endpoint::NamedPipe(format!("\\\\.\\pipe\\{name}"))),
        },
        "tcp" | "http" if !raw.engine_shares_pid_namespace => Err(ValueError::from(format!(
            "{KEY}: {text:?}: over TCP nothing tells whose process ids the engine speaks of: use a named pipe, or set \
             engine_shares_pid_namespace = true if the engine runs on this machine"
        ))),
        "tcp" | "http" => tcp(KEY, scheme, rest),
        "unix" => Err(ValueError::from(format!("{KEY}: {text:?}: the engine of Windows has no unix socket: {WRITE}"))),
        _ => Err(ValueError::from(format!("{KEY}: scheme {scheme:?} is not supported: {WRITE}"))),
    }
}

fn tcp(key: &str, scheme: &str, rest: &str) -> Result<Endpoint, ValueError> {
    let address = rest.trim_end_matches('/');
    let fits = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    match fits {
        true => Ok(Endpoint::Tcp(address.to_owned())),
        false => {
            Err(ValueError::from(format!("{key}: \"{scheme}://{}\": write {scheme}://HOST:PORT", printable(rest))))
        }
    }
}

fn api_version(text: &str) -> Result<ApiVersion, ValueError> {
    ApiVersion::parse(text).ok_or_else(|| {
        ValueError::from(format!(
            "docker_version: {text:?} is no version of the Docker Engine API: write one such as \"1.41\", or leave it out"
        ))
    })
}

fn check_matchers(matchers: &[String], use_new_container_locator: bool) -> Result<(), ValueError> {
    if !matchers.is_empty() && use_new_container_locator {
        return Err(ValueError::from("container_id_cgroup_matchers: the new container locator and custom cgroup matchers cannot both be used: to \
                    use the matchers set use_new_container_locator = false"
            .to_owned()));
    }
    if matchers.len() > MATCHERS || matchers.iter().any(|matcher| matcher.len() > MATCHER) {
        return Err(ValueError::from(format!(
            "container_id_cgroup_matchers: at most {MATCHERS} patterns of {MATCHER} bytes"
        )));
    }
    let total: usize = matchers.iter().map(String::len).sum();
    if total > MATCHERS_TOTAL {
        return Err(ValueError::from(format!(
            "container_id_cgroup_matchers: {total} bytes in all, more than {MATCHERS_TOTAL}: write fewer patterns, or shorter ones"
        )));
    }
    Ok(())
}

/// Checks the trust domain of a request (SPIFFE-ID, section 2.1).
pub(super) fn trust_domain(name: Option<&str>) -> Result<(), ValueError> {
    let Some(name) = name else { return Err(ValueError::from("server core configuration is required".to_owned())) };
    if name.is_empty() {
        return Err(ValueError::from("server core configuration must contain trust_domain".to_owned()));
    }
    let name = name.strip_prefix("spiffe://").unwrap_or(name);
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    match !name.is_empty() && name.len() <= 255 && name.bytes().all(fits) {
        true => Ok(()),
        false => Err(ValueError::from(
            "server core configuration trust_domain is malformed: lowercase letters, digits, dots, dashes and \
                      underscores, 255 at most"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::load_for;
    use super::*;

    fn load(trust_domain: Option<&str>, text: &str) -> Result<Configuration, Invalid> {
        load_for(System::Linux, trust_domain, text)
    }

    fn notes(text: &str) -> Vec<String> {
        load(Some("example.org"), text).unwrap_err().lines()
    }

    #[test]
    fn nothing_written_means_the_defaults() {
        let configuration = load(Some("example.org"), "").unwrap();
        assert_eq!(configuration.docker, Endpoint::Unix("/var/run/docker.sock".into()));
        assert_eq!(configuration.docker_version, None);
        assert!(configuration.use_new_container_locator && !configuration.engine_shares_pid_namespace);
        assert_eq!(
            configuration,
            load(Some("example.org"), "docker_socket_path = \"\"\ncontainer_id_cgroup_matchers = []").unwrap()
        );
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            docker_socket_path = "unix:///run/x.sock"
            docker_version = "1.41"
            use_new_container_locator = false
            container_id_cgroup_matchers = ["/docker/<id>"]
            verbose_container_locator_logs = true
            engine_shares_pid_namespace = true
        "#;
        let configuration = load(Some("example.org"), text).unwrap();
        assert_eq!(configuration.docker, Endpoint::Unix("/run/x.sock".into()));
        assert_eq!(configuration.docker_version, Some(ApiVersion { major: 1, minor: 41 }));
        assert_eq!(configuration.container_id_cgroup_matchers, ["/docker/<id>"]);
        assert!(!configuration.use_new_container_locator);
        assert!(configuration.verbose_container_locator_logs && configuration.engine_shares_pid_namespace);
    }

    #[test]
    fn matchers_are_bounded_one_by_one_and_all_together() {
        let matchers = |number: usize, bytes: usize| {
            let list: Vec<String> = (0..number).map(|index| format!("{index:0>bytes$}")).collect();
            let text = format!("use_new_container_locator = false\ncontainer_id_cgroup_matchers = {list:?}");
            load(Some("example.org"), &text).map_err(|invalid| invalid.to_string()).map(|_| ())
        };
        assert_eq!(matchers(256, 32), Ok(()));
        assert_eq!(matchers(2, 4_096), Ok(()));
        for (number, bytes) in [(257, 3), (1, 4_097)] {
            assert!(matchers(number, bytes).unwrap_err().contains("at most 256 patterns of 4096 bytes"));
        }
        let large = matchers(256, 33).unwrap_err();
        assert!(large.contains("container_id_cgroup_matchers: 8448 bytes in all, more than 8192"), "{large}");
    }

    #[test]
    fn unknown_keys_are_named_nested_and_quoted_ones_too() {
        assert_eq!(
            notes("b = 1\n\"a\" = {}\ndocker_host = \"x\""),
            ["unknown configurations detected: a,b,docker_host"]
        );
        let nested = notes("sigstore { foo = 1\n cache { bar = 1 } }\nextension \"x\" { baz = 1 }");
        assert_eq!(nested[0], "unknown configurations detected: extension.x.baz,sigstore.cache.bar,sigstore.foo");
        assert_eq!(notes("{\"nope\": {\"x\": 1}}")[0], "unknown configurations detected: nope");
    }

    /// The warnings about keys that are written more than once.
    fn repeated(text: &str) -> Vec<String> {
        let warnings = load(Some("example.org"), text).unwrap().report.warnings;
        warnings.into_iter().map(|warning| warning.text).filter(|text| text.contains("written")).collect()
    }

    #[test]
    fn a_key_that_is_written_twice_is_named() {
        let last = "the last one counts";
        for (text, warning) in [
            (
                "docker_version = \"1.40\"\n\ndocker_version = \"1.41\"",
                format!("docker_version is written twice (line 1 and line 3): {last}"),
            ),
            (
                "docker_version = \"1.40\"\n\"Docker_Version\" = \"1.41\"",
                format!("docker_version is written twice (line 1 and line 2): {last}"),
            ),
            (
                "verbose_container_locator_logs = true\n verbose_container_locator_logs = true\nverbose_container_locator_logs = false",
                format!("verbose_container_locator_logs is written 3 times (first in line 1, last in line 3): {last}"),
            ),
            (
                "sigstore {\n rekor_url = \"https://a\"\n rekor_url = \"https://b\"\n}",
                format!("sigstore.rekor_url is written twice (line 2 and line 3): {last}"),
            ),
            (
                "sigstore { rekor_url = \"https://a\" }\nsigstore { rekor_url = \"https://b\" }",
                format!("sigstore.rekor_url is written twice (line 1 and line 2): {last}"),
            ),
            (
                "sigstore { cache { ttl = \"1h\" }\n cache { ttl = \"2h\" } }",
                format!("sigstore.cache.ttl is written twice (line 1 and line 2): {last}"),
            ),
            (
                "policy { path = \"/p\" unpinned = true settings { tier = \"hunter2\"\n tier = \"hunter3\" } }",
                format!("policy.settings.tier is written twice (line 1 and line 2): {last}"),
            ),
            (
                "extension \"a\" { path = \"/p\" unpinned = true }\nextension \"a\" { path = \"/q\" }",
                format!("extension.a.path is written twice (line 1 and line 2): {last}"),
            ),
            (
                "use_new_container_locator = false\ncontainer_id_cgroup_matchers = [\"/a/<id>\"]\ncontainer_id_cgroup_matchers = [\"/b/<id>\"]",
                "container_id_cgroup_matchers is written twice (line 2 and line 3): the lists are joined".to_owned(),
            ),
            (
                "{\"docker_version\": \"1.40\",\n\"docker_version\": \"1.41\"}",
                format!("docker_version is written twice (line 1 and line 2): {last}"),
            ),
        ] {
            assert_eq!(repeated(text), [warning], "{text}");
        }
        let digest = "a".repeat(64);
        let pins = format!("policy {{ path = \"/p\" sha256 = \"{digest}\"\n sha256 = [\"{digest}\"] }}");
        assert_eq!(repeated(&pins), ["policy.sha256 is written twice (line 1 and line 2): the lists are joined"]);
    }

    #[test]
    fn the_last_of_two_counts_and_lists_are_joined() {
        let text = "use_new_container_locator = true\nuse_new_container_locator = false\n\
                    container_id_cgroup_matchers = [\"/a/<id>\"]\ncontainer_id_cgroup_matchers = [\"/b/<id>\"]";
        let configuration = load(Some("example.org"), text).unwrap();
        assert!(!configuration.use_new_container_locator);
        assert_eq!(configuration.container_id_cgroup_matchers, ["/a/<id>", "/b/<id>"]);
    }

    #[test]
    fn repeated_blocks_are_no_repeated_keys() {
        for text in [
            "sigstore { ignore_tlog = true }\nsigstore { rekor_url = \"https://r\" }",
            "sigstore { allowed_identities { \"https://a\" = [\"x\"] }\n allowed_identities { \"https://b\" = [\"y\"] } }",
            "extension \"a\" { path = \"/p\" unpinned = true }\nextension \"b\" { path = \"/p\" unpinned = true }",
            "{\"sigstore\": [{\"ignore_tlog\": true}, {\"rekor_url\": \"https://r\"}]}",
            "{\"extension\": [{\"a\": {\"path\": \"/p\", \"unpinned\": true}}, {\"b\": {\"path\": \"/p\", \"unpinned\": true}}]}",
            "use_new_container_locator = false\ncontainer_id_cgroup_matchers = [\"/a/<id>\", \"/b/<id>\"]",
        ] {
            assert_eq!(repeated(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn warnings_of_repeated_keys_are_bounded() {
        let long = "k".repeat(2_000);
        let settings: String =
            (0..100).map(|number| format!("{long}{number} = \"\"\n{long}{number} = \"\"\n")).collect();
        let warnings = repeated(&format!("policy {{ path = \"/p\" unpinned = true settings {{ {settings} }} }}"));
        assert_eq!((warnings.len(), warnings[32].as_str()), (33, "68 more keys are written more than once"));
        let (first, rest) = warnings[0].split_at(256);
        assert!(
            first.starts_with("policy.settings.kkk") && rest.starts_with(" is written twice (line 1 and"),
            "{rest}"
        );
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        let text = "selectors {}\npodman_socket_path = \"unix:///x\"";
        assert_eq!(notes(text), ["podman_socket_path: not supported yet", "selectors: not supported yet"]);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let text =
            "docker_socket_path = \"x\"\ndocker_version = \"v1\"\ncontainer_id_cgroup_matchers = [\"/<id>\"]\nx = 1";
        let notes = load(None, text).unwrap_err().lines();
        for part in ["core configuration is required", "unknown", "no scheme", "docker_version", "cannot both be used"]
        {
            assert!(notes.iter().any(|note| note.contains(part)), "{part}: {notes:?}");
        }
    }

    #[test]
    fn values_of_a_wrong_type_hide_no_other_error_and_bring_none_along() {
        let text = "docker_version = true\nuse_new_container_locator = \"no\"\ndocker_socket_path = \"x\"\n\
                    policy { path = [] sha256 = true }\nextension = { x = 1 }\npolicy_path = 1\ndocker_verison = \"1.41\"";
        assert_eq!(
            notes(text),
            [
                "unable to decode configuration: line 1, column 18: docker_version: expected a string; \
                 line 2, column 29: use_new_container_locator: expected true or false, without quotes; \
                 line 4, column 17: policy.path: expected a string; line 4, column 29: policy.sha256: expected a string or a list [ … ]; \
                 line 5, column 19: extension.x: expected an object { … }",
                "unknown configurations detected: docker_verison (did you mean docker_version?),policy_path",
                "docker_socket_path: \"x\" has no scheme: write unix:///path/to/docker.sock",
            ]
        );
    }

    #[test]
    fn every_error_about_a_value_has_the_position_of_the_value() {
        for (text, line, column) in [
            ("docker_version = \"v1\"", 1, 18),
            ("docker_version = \"1.41\"\ndocker_version = \"v1\"", 2, 18),
            ("selectors {}", 1, 1),
            ("container_id_cgroup_matchers = [\"/<id>\"]", 1, 32),
            ("sigstore {\n on_failure = \"x\" }", 2, 15),
            ("sigstore {\n insecure_registries = [\"r\",\n \"http://r\"] }", 3, 2),
            ("sigstore { cache {\n ttl = \"soon\" } }", 2, 8),
            ("sigstore { registry_credentials = {\n \"r.example\" = { username = \"u\" } } }", 2, 2),
            ("sigstore { public_keys = [\"/a\",\n\"\"] }", 2, 1),
            ("policy {}", 1, 1),
            ("policy { path = \"p\" unpinned = true }", 1, 17),
            ("policy { path = \"/p\" sha256 = [\n\"x\"] }", 2, 1),
            ("extension \"a.b\" {\n path = \"/p\" unpinned = true on_failure = 1 }", 2, 43),
            ("extension \"Q\" { path = \"/p\" unpinned = true }", 1, 11),
            ("extension \"q\" { path = \"/p\" unpinned = true grants = [\"env\",\n\"x\"] }", 2, 1),
        ] {
            let errors = load(Some("example.org"), text).unwrap_err().errors;
            let position = hcl1::Position { line, column };
            assert!(errors.iter().all(|error| error.position == Some(position)), "{text}: {errors:?}");
        }
    }

    #[test]
    fn errors_are_bounded_in_number_and_bytes() {
        let keys: String = (0..9_000).map(|number| format!("k{number} = 1\n")).collect();
        let text = format!("{keys}docker_version = {:?}", "x".repeat(1 << 19));
        let text = load(Some("example.org"), &text).unwrap_err().to_string();
        assert!(text.contains(",and 8900 more") && text.len() < 8_000, "{}", text.len());
    }

    #[test]
    fn endpoints_are_held_to_their_form() {
        let endpoint =
            |path: &str| load(Some("example.org"), &format!("docker_socket_path = {path:?}")).map(|it| it.docker);
        for (path, part) in [
            ("/var/run/docker.sock", "no scheme"),
            ("unix://run/docker.sock", "three slashes"),
            ("ssh://host", "not supported"),
            ("npipe:////./pipe/docker_engine", "Windows"),
            ("tcp://127.0.0.1:2375", "engine_shares_pid_namespace"),
            (&format!("unix:///{}", "x".repeat(107)), "107"),
        ] {
            let invalid = endpoint(path).unwrap_err().to_string();
            assert!(invalid.contains(part), "{path}: {invalid}");
        }
        let tcp = |address: &str| {
            load(Some("example.org"), &format!("engine_shares_pid_namespace = true\ndocker_socket_path = {address:?}"))
                .map(|it| it.docker)
        };
        assert_eq!(tcp("tcp://127.0.0.1:2375").unwrap(), Endpoint::Tcp("127.0.0.1:2375".to_owned()));
        for address in ["tcp://127.0.0.1", "tcp://:2375", "tcp://a b:1", "tcp://a:0", "tcp://a:99999", "http://a/b:1"] {
            assert!(tcp(address).is_err(), "{address}");
        }
    }

    #[test]
    fn on_windows_the_engine_listens_on_a_pipe_of_this_machine() {
        let endpoint = |host: &str| {
            load_for(System::Windows, Some("example.org"), &format!("docker_host = {host:?}")).map(|it| it.docker)
        };
        let default = load_for(System::Windows, Some("example.org"), "").unwrap().docker;
        assert_eq!(default, Endpoint::NamedPipe(r"\\.\pipe\docker_engine".to_owned()));
        assert_eq!(default.to_string(), DOCKER_PIPE);
        assert_eq!(endpoint(DOCKER_PIPE).unwrap(), default);
        for (host, part) in [
            (r"\\.\pipe\docker_engine", "no scheme"),
            ("npipe:////server/pipe/docker_engine", "no pipe of this machine"),
            ("npipe:////./pipe/", "no slash"),
            ("npipe:////./pipe/../x", "no slash"),
            ("npipe:////./pipe/x\\y", "no slash"),
            (&format!("npipe:////./pipe/{}", "x".repeat(257)), "256 characters"),
            ("unix:///var/run/docker.sock", "no unix socket"),
            ("tcp://127.0.0.1:2375", "engine_shares_pid_namespace"),
            ("ssh://host", "not supported"),
        ] {
            let invalid = endpoint(host).unwrap_err().to_string();
            assert!(invalid.contains("docker_host: ") && invalid.contains(part), "{host}: {invalid}");
        }
        let declared = "engine_shares_pid_namespace = true\ndocker_host = \"tcp://127.0.0.1:2375\"";
        let declared = load_for(System::Windows, Some("example.org"), declared).unwrap().docker;
        assert_eq!(declared, Endpoint::Tcp("127.0.0.1:2375".to_owned()));
    }

    #[test]
    fn a_key_of_the_other_system_is_unknown() {
        let unknown = |system: System, text: &str| load_for(system, Some("example.org"), text).unwrap_err().lines();
        assert_eq!(unknown(System::Linux, "docker_host = \"x\""), ["unknown configurations detected: docker_host"]);
        let keys = "docker_socket_path = \"x\"\ncontainer_id_cgroup_matchers = []\npodman_socket_path = \"x\"";
        assert_eq!(
            unknown(System::Windows, keys),
            ["unknown configurations detected: container_id_cgroup_matchers,docker_socket_path,podman_socket_path"]
        );
    }

    #[test]
    fn trust_domains_are_held_to_their_form() {
        for (name, part) in [
            (None, "required"),
            (Some(""), "must contain"),
            (Some("Example"), "malformed"),
            (Some("spiffe://"), "malformed"),
        ] {
            let invalid = load(name, "").unwrap_err().to_string();
            assert!(invalid.contains(part), "{name:?}: {invalid}");
        }
        assert!(load(Some("spiffe://example.org"), "").is_ok());
    }

    #[test]
    fn a_secret_is_in_no_message() {
        for text in [
            "sigstore { registry_credentials = { \"r\" = { username = \"u\", password \"hunter2\" } } }",
            "sigstore { registry_credentials = { \"r\" = { username = \"u\", password = [\"hunter2\"] } } }",
            "sigstore { registry_credentials { \"r\" { username = \"u\" password = \"hunter2\" nope = 1 } } }",
            "sigstore { registry_credentials { \"r\" { password = \"hunter2\n\" } } }",
        ] {
            let notes = notes(text).join(";");
            assert!(!notes.contains("hunter2"), "{notes}");
        }
    }
}
