//! Options: what a verifier is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use registry::Credentials;

use crate::Identities;

/// The public-good instance's log.
const REKOR: &str = "https://rekor.sigstore.dev";
/// How long a good verdict is cached by default.
const TTL: Duration = Duration::from_secs(3_600);
/// The verdicts that are cached by default. Each takes some KiB.
const ENTRIES: usize = 1_000;

/// How images are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The identities that may sign. Without any, every signer may whose certificate chains to the trust root.
    pub identities: Identities,
    /// Repo digests (`repository@sha256:…`) or manifest digests (`sha256:…`) that are not verified.
    pub skipped_images: Vec<String>,
    /// The log that is searched for the entry of a signature that carries none.
    pub rekor_url: String,
    /// Log entries are not required, and those that are present are ignored.
    pub ignore_tlog: bool,
    /// Attestations are ignored.
    pub ignore_attestations: bool,
    /// Certificate timestamps are not required, and those that are present are ignored.
    pub ignore_sct: bool,
    /// An image without a good attestation does not verify.
    pub require_attestations: bool,
    /// Credentials by registry host, `docker.io` for Docker Hub.
    pub registry_credentials: BTreeMap<String, Credentials>,
    /// Registries that are spoken to in plain http.
    pub insecure_registries: BTreeSet<String>,
    /// Files of CA certificates (PEM) for registries, beside the system's.
    pub registry_ca: Vec<PathBuf>,
    /// The file of the trust root (trusted_root.json). `None`: the environment's trust material.
    pub trusted_root: Option<PathBuf>,
    /// Files of public keys (PEM) whose signatures count.
    pub public_keys: Vec<PathBuf>,
    /// How long a good verdict is cached.
    pub ttl: Duration,
    /// The verdicts that are cached.
    pub max_entries: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            identities: Identities::default(),
            skipped_images: Vec::new(),
            rekor_url: REKOR.to_owned(),
            ignore_tlog: false,
            ignore_attestations: false,
            ignore_sct: false,
            require_attestations: true,
            registry_credentials: BTreeMap::new(),
            insecure_registries: BTreeSet::new(),
            registry_ca: Vec::new(),
            trusted_root: None,
            public_keys: Vec::new(),
            ttl: TTL,
            max_entries: ENTRIES,
        }
    }
}
