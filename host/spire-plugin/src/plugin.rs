//! Which plugin a program is.

/// Which plugin a program is.
#[derive(Debug, Clone, Copy)]
pub struct Plugin {
    /// SPIRE's type of plugin.
    pub(crate) kind: &'static str,
    /// The program's own name.
    pub(crate) name: &'static str,
    /// The names of sockets beside the plugin's.
    pub(crate) sockets: &'static [&'static str],
}

impl Plugin {
    /// A plugin of one of SPIRE's types, for example `WorkloadAttestor`. The type is the key and the value of go-plugin's magic
    /// cookie.
    ///
    /// `name` is the program's own name, of letters, digits and hyphens. The directories of its sockets are named after it, and a
    /// plugin cleans up all directories that begin with its name and a hyphen.
    pub const fn new(kind: &'static str, name: &'static str) -> Plugin {
        Plugin { kind, name, sockets: &[] }
    }

    /// A workload attestor.
    pub const fn workload_attestor(name: &'static str) -> Plugin {
        Plugin::new("WorkloadAttestor", name)
    }

    /// The names of sockets that the plugin makes in [`Started::directory`](crate::Started::directory). They are removed with the directory.
    pub const fn with_sockets(self, sockets: &'static [&'static str]) -> Plugin {
        Plugin { sockets, ..self }
    }
}
