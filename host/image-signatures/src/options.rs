//! What a verifier is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use registry::Credentials;

use crate::Identities;

/// Where an entry is looked up when a signature carries none.
const REKOR: &str = "https://rekor.sigstore.dev";
const TTL: Duration = Duration::from_secs(3_600);
const ENTRIES: usize = 1_000;

/// The options of signature verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Who may sign; none: anybody whose certificate chains to the trust root.
    pub identities: Identities,
    /// Repo digests (`repository@sha256:…`) or manifest digests (`sha256:…`) that are not verified.
    pub skipped_images: Vec<String>,
    /// Where a log entry is looked up when a signature carries none.
    pub rekor_url: String,
    /// Without the transparency log.
    pub ignore_tlog: bool,
    /// Without attestations.
    pub ignore_attestations: bool,
    /// Without certificate timestamps.
    pub ignore_sct: bool,
    /// An image without a good attestation fails.
    pub require_attestations: bool,
    /// Credentials by registry host, `docker.io` for Docker Hub.
    pub registry_credentials: BTreeMap<String, Credentials>,
    /// Registries that are spoken to in plain http.
    pub insecure_registries: BTreeSet<String>,
    /// Files of CA certificates (PEM) for registries, beside the system's.
    pub registry_ca: Vec<PathBuf>,
    /// A trusted_root.json.
    pub trusted_root: Option<PathBuf>,
    /// Files of public keys (PEM) whose signatures count.
    pub public_keys: Vec<PathBuf>,
    /// How long a good verdict lives.
    pub ttl: Duration,
    /// Verdicts that are kept.
    pub max_entries: usize,
}

impl Default for Options {
    /// What nothing written means.
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
