//! The description of a plugin.

/// The description of a plugin: its type and its name.
#[derive(Debug, Clone, Copy)]
pub struct Plugin {
    /// The type of the plugin, as SPIRE names it.
    pub(crate) kind: &'static str,
    /// The program's own name.
    pub(crate) name: &'static str,
    /// The names of further sockets in the directory of the plugin's socket.
    pub(crate) sockets: &'static [&'static str],
}

impl Plugin {
    /// Describes a plugin of one of SPIRE's types, for example `WorkloadAttestor`. The type is both the key and the
    /// value of go-plugin's magic cookie.
    ///
    /// `name` is the program's own name, of letters, digits and hyphens. The directories of the plugin's sockets are
    /// named after it, and a plugin cleans up all directories that begin with its name and a hyphen.
    pub const fn new(kind: &'static str, name: &'static str) -> Plugin {
        Plugin { kind, name, sockets: &[] }
    }

    /// Describes a workload attestor.
    pub const fn workload_attestor(name: &'static str) -> Plugin {
        Plugin::new("WorkloadAttestor", name)
    }

    /// Adds the names of sockets that the plugin makes in [`Started::directory`](crate::Started::directory). They are removed with the directory.
    pub const fn with_sockets(self, sockets: &'static [&'static str]) -> Plugin {
        Plugin { sockets, ..self }
    }
}
