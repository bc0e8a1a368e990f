//! How go-plugin starts a plugin: the variables of the environment, and the one line on stdout.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;

use crate::error::Refusal;
use crate::limits::SHOWN_VERSIONS;

/// The version of go-plugin's own protocol.
const CORE_PROTOCOL: &str = "1";
/// The version of the plugin protocol that SPIRE uses.
const PROTOCOL: &str = "1";

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
            multiplex: variable("PLUGIN_MULTIPLEX_GRPC"),
            client_cert: variable("PLUGIN_CLIENT_CERT"),
        }
    }

    /// Whether SPIRE started the program, rather than a person.
    pub fn is_agent(&self) -> bool {
        self.cookie.as_deref().is_some_and(|value| value == self.kind)
    }

    /// The directory in which the client wants the socket.
    pub(crate) fn socket_dir(&self) -> Option<&Path> {
        self.socket_dir.as_deref().filter(|directory| !directory.is_empty()).map(Path::new)
    }

    /// Refuses what the client asks for and this crate does not support.
    ///
    /// # Errors
    /// [`Refusal`] names what the client asks for.
    pub fn check(&self) -> Result<(), Refusal> {
        let set = |value: &Option<OsString>| value.as_deref().is_some_and(|value| !value.is_empty());
        if let Some(versions) = &self.protocol_versions {
            let versions = versions.to_string_lossy();
            if !versions.is_empty() && !versions.split(',').any(|version| version.trim() == PROTOCOL) {
                return Err(Refusal::Protocol(versions.chars().take(SHOWN_VERSIONS).collect()));
            }
        }
        if let Some(directory) = &self.socket_dir
            && directory
                .to_str()
                .is_none_or(|directory| directory.contains(|char: char| char.is_control() || char == '|'))
        {
            return Err(Refusal::SocketDirectory(directory.clone()));
        }
        let multiplex = self.multiplex.as_deref().is_some_and(|value| value != "false" && value != "0");
        match (multiplex && set(&self.multiplex), set(&self.client_cert)) {
            (true, _) => Err(Refusal::Multiplex),
            (_, true) => Err(Refusal::AutoMtls),
            _ => Ok(()),
        }
    }
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
            assert_eq!(asked.check(), Err(Refusal::SocketDirectory(directory.into())));
        }
    }
}
