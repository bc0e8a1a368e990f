//! A client of OCI registries that trusts none of them.
//!
//! [`Registries`] asks. Every answer is bounded in time and bytes, every digest is
//! checked, and credentials go to the host that they are for and to no other.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>

#![forbid(unsafe_code)]

mod challenge;
mod client;
mod credentials;
mod host;
mod limits;
mod reference;
mod transport;

pub use self::client::{Descriptor, Manifest, Registries, RegistryError, Settings};
pub use self::credentials::Credentials;
pub use self::host::{is_host, normalize_host};
pub use self::reference::{Digest, Repository, parse_reference};
