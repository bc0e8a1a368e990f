//! The description of a plugin.

/// The description of a plugin: its type and its name.
#[derive(Debug, Clone, Copy)]
pub struct Plugin {
    /// The type of the plugin, as SPIRE names it.
    pub(crate) kind: &'static str,
    /// The program's own name.
    pub(crate) name: &'static str,
    /// The names of the plugin's local sockets.
    pub(crate) local_sockets: &'static [&'static str],
}

impl Plugin {
    /// Describes a plugin of one of SPIRE's types, for example `WorkloadAttestor`. The type is both the key and the
    /// value of go-plugin's magic cookie.
    ///
    /// `name` is the program's own name, of letters, digits and hyphens. The directories of the plugin's sockets are
    /// named after it on Unix, and a plugin cleans up all directories that begin with its name and a hyphen. On Windows the
    /// pipes of its local sockets are.
    pub const fn new(kind: &'static str, name: &'static str) -> Plugin {
        Plugin { kind, name, local_sockets: &[] }
    }

    /// Describes a workload attestor.
    pub const fn workload_attestor(name: &'static str) -> Plugin {
        Plugin::new("WorkloadAttestor", name)
    }

    /// Adds the names of local sockets, on which the plugin may [listen](crate::Started::listen). On Unix they are removed with the
    /// directory of the plugin's own socket.
    pub const fn with_local_sockets(self, local_sockets: &'static [&'static str]) -> Plugin {
        Plugin { local_sockets, ..self }
    }
}
