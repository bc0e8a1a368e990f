//! A client of OCI registries that trusts none of them.
//!
//! [`Registries`] is the client, a [`Reference`] names what it is asked for. Every answer is bounded in time and bytes, every digest is
//! checked, and credentials go to the host that they are for and to no other.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>

#![forbid(unsafe_code)]

mod challenge;
mod client;
mod credentials;
mod error;
mod host;
mod limits;
mod reference;
mod transport;

pub use self::client::{ClientOptions, Descriptor, Manifest, Registries};
pub use self::credentials::Credentials;
pub use self::error::{
    ContentError, CredentialsError, Error, ForbiddenUrl, LoginError, SetupError, ShownUrl, Unreachable,
};
pub use self::host::{is_host, normalize_host};
pub use self::reference::{Digest, DigestError, Reference, ReferenceError, Repository};
