//! How go-plugin starts a plugin: the variables of the environment, and the one line on stdout.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::Path;

use crate::error::Refusal;
use crate::limits::{PORTS, SHOWN_VALUE};

/// The version of go-plugin's own protocol.
const CORE_PROTOCOL: &str = "1";
/// The version of the plugin protocol that SPIRE uses.
const PROTOCOL: &str = "1";

/// The variable with the first port that the plugin may listen on.
const MIN_PORT: &str = "PLUGIN_MIN_PORT";
/// The variable with the last port that the plugin may listen on.
const MAX_PORT: &str = "PLUGIN_MAX_PORT";

/// go-plugin's variables in the environment. None of them changes what a plugin answers.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The plugin's type, which is the magic cookie's value.
    kind: &'static str,
    /// The magic cookie: the variable that is named like the plugin's type.
    cookie: Option<OsString>,
    /// `PLUGIN_PROTOCOL_VERSIONS`: the versions that the client supports, separated by commas.
    protocol_versions: Option<OsString>,
    /// `PLUGIN_UNIX_SOCKET_DIR`: the directory in which the socket must be created.
    socket_dir: Option<OsString>,
    /// `PLUGIN_MIN_PORT`: the first port that the plugin may listen on.
    min_port: Option<OsString>,
    /// `PLUGIN_MAX_PORT`: the last port that the plugin may listen on.
    max_port: Option<OsString>,
    /// `PLUGIN_MULTIPLEX_GRPC`: whether all connections of the broker share one socket.
    multiplex: Option<OsString>,
    /// `PLUGIN_CLIENT_CERT`: the certificate of a client that wants AutoMTLS.
    client_cert: Option<OsString>,
}

impl Environment {
    /// Reads the variables that concern a plugin of this type, for example `WorkloadAttestor`. `variable` is
    /// [`std::env::var_os`], or reads a test's map.
    pub fn read(kind: &'static str, variable: impl Fn(&str) -> Option<OsString>) -> Environment {
        Environment {
            kind,
            cookie: variable(kind),
            protocol_versions: variable("PLUGIN_PROTOCOL_VERSIONS"),
            socket_dir: variable("PLUGIN_UNIX_SOCKET_DIR"),
            min_port: variable(MIN_PORT),
            max_port: variable(MAX_PORT),
            multiplex: variable("PLUGIN_MULTIPLEX_GRPC"),
            client_cert: variable("PLUGIN_CLIENT_CERT"),
        }
    }

    /// Whether SPIRE started the program, rather than a person.
    pub fn is_agent(&self) -> bool {
        self.cookie.as_deref().is_some_and(|value| value == self.kind)
    }

    /// The directory in which the client wants the socket. It is used on Unix only, as in go-plugin.
    ///
    /// # Errors
    /// The handshake cannot express the directory.
    pub fn socket_dir(&self) -> Result<Option<&Path>, Refusal> {
        let Some(directory) = self.socket_dir.as_deref().filter(|directory| !directory.is_empty()) else {
            return Ok(None);
        };
        let fits = |text: &str| !text.contains(|char: char| char.is_control() || char == '|');
        match directory.to_str().is_some_and(fits) {
            true => Ok(Some(Path::new(directory))),
            false => Err(Refusal::SocketDirectory(directory.to_owned())),
        }
    }

    /// The ports from which the plugin takes the first that is free. They are used on Windows only, as in go-plugin.
    ///
    /// # Errors
    /// A variable holds no port, or the first port is above the last.
    pub fn ports(&self) -> Result<RangeInclusive<u16>, Refusal> {
        let first = port(MIN_PORT, self.min_port.as_deref(), *PORTS.start())?;
        let last = port(MAX_PORT, self.max_port.as_deref(), *PORTS.end())?;
        match first <= last {
            true => Ok(first..=last),
            false => Err(Refusal::PortRange { first, last }),
        }
    }

    /// Refuses what the client asks for and this crate does not support on any system.
    ///
    /// # Errors
    /// [`Refusal`] names what the client asks for.
    pub fn check(&self) -> Result<(), Refusal> {
        let set = |value: &Option<OsString>| value.as_deref().is_some_and(|value| !value.is_empty());
        if let Some(versions) = &self.protocol_versions {
            let versions = versions.to_string_lossy();
            if !versions.is_empty() && !versions.split(',').any(|version| version.trim() == PROTOCOL) {
                return Err(Refusal::Protocol(versions.chars().take(SHOWN_VALUE).collect()));
            }
        }
        let multiplex = self.multiplex.as_deref().is_some_and(|value| value != "false" && value != "0");
        match (multiplex && set(&self.multiplex), set(&self.client_cert)) {
            (true, _) => Err(Refusal::Multiplex),
            (_, true) => Err(Refusal::AutoMtls),
            _ => Ok(()),
        }
    }
}

/// The port in a variable, or `default` if the variable is not set or is empty.
fn port(variable: &'static str, value: Option<&OsStr>, default: u16) -> Result<u16, Refusal> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(default) };
    let port = value.to_str().and_then(|value| value.parse().ok()).filter(|port| *port != 0);
    port.ok_or_else(|| Refusal::Port { variable, value: value.to_string_lossy().chars().take(SHOWN_VALUE).collect() })
}

/// Writes the handshake, the only line that is ever written to stdout.
pub(crate) fn announce(network: &str, address: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{CORE_PROTOCOL}|{PROTOCOL}|{network}|{address}|grpc")?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "WorkloadAttestor";

    fn environment(change: impl FnOnce(&mut Environment)) -> Environment {
        let mut environment = Environment::read(KIND, |_| None);
        environment.cookie = Some(KIND.into());
        change(&mut environment);
        environment
    }

    #[test]
    fn only_the_cookie_makes_it_a_plugin() {
        assert!(environment(|_| {}).is_agent());
        assert!(!environment(|environment| environment.cookie = None).is_agent());
        assert!(!environment(|environment| environment.cookie = Some("NodeAttestor".into())).is_agent());
    }

    #[test]
    fn what_is_not_spoken_is_refused_by_name() {
        assert_eq!(environment(|environment| environment.protocol_versions = Some("2,1".into())).check(), Ok(()));
        let other = environment(|environment| environment.protocol_versions = Some("2,11".into()));
        assert_eq!(other.check(), Err(Refusal::Protocol("2,11".to_owned())));
        assert_eq!(
            environment(|environment| environment.multiplex = Some("true".into())).check(),
            Err(Refusal::Multiplex)
        );
        assert_eq!(environment(|environment| environment.multiplex = Some("false".into())).check(), Ok(()));
        assert_eq!(
            environment(|environment| environment.client_cert = Some("x".into())).check(),
            Err(Refusal::AutoMtls)
        );
        for directory in ["/a\n1|1|unix|/b", "/a|b"] {
            let asked = environment(|environment| environment.socket_dir = Some(directory.into()));
            assert_eq!(asked.socket_dir(), Err(Refusal::SocketDirectory(directory.into())));
        }
    }

    #[test]
    fn the_ports_are_those_of_the_client_or_go_plugins() {
        let ports = |first: Option<&str>, last: Option<&str>| {
            let asked = environment(|environment| {
                (environment.min_port, environment.max_port) = (first.map(Into::into), last.map(Into::into));
            });
            asked.ports().map_err(|refused| refused.to_string())
        };
        assert_eq!(ports(None, None), Ok(10_000..=25_000));
        assert_eq!(ports(Some(""), Some("")), Ok(10_000..=25_000));
        assert_eq!(ports(Some("12000"), Some("12000")), Ok(12_000..=12_000));
        assert_eq!(ports(None, Some("65535")), Ok(10_000..=65_535));
        for junk in ["0", "-1", "65536", " 1", "1 ", "0x10", "ten", "10000-25000"] {
            let text = format!("is {junk:?}: it must be a port, a number from 1 to 65535");
            assert_eq!(ports(Some(junk), None), Err(format!("PLUGIN_MIN_PORT {text}")));
            assert_eq!(ports(None, Some(junk)), Err(format!("PLUGIN_MAX_PORT {text}")));
        }
        let text = "PLUGIN_MIN_PORT is 3 and PLUGIN_MAX_PORT is 2: the first port must not be above the last";
        assert_eq!(ports(Some("3"), Some("2")), Err(text.to_owned()));
        assert!(ports(Some("25001"), None).unwrap_err().contains("PLUGIN_MAX_PORT is 25000"), "its default");
    }
}
