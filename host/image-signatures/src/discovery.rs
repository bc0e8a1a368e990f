//! Discovery: where a registry may have a signature or an attestation of an image, and fetching one of them.
//!
//! References are listed first and fetched one by one, because whoever can push to a repository can put 1,000 large blobs there.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use registry::{Descriptor, Digest, Manifest, Registries, Repository, Unreachable};
use serde::Deserialize;
use sigstore_verify::types::bundle::MediaType;

use crate::candidate::{self, Candidate, CandidateError, Purpose};
use crate::limits;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const DSSE: &str = "application/vnd.dsse.envelope.v1+json";
const INDEX: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// The artifact type of a descriptor that does not say what it points to.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Why a place that may have a signature gives none.
#[derive(Debug)]
pub(crate) enum DiscoveryError {
    /// The registry or the log is unreachable: no verdict.
    Unreachable(Arc<UnreachableError>),
    /// The content is wrong: rule 1.
    Content(ContentError),
}

/// Why a source of signatures cannot be asked just now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnreachableError {
    /// The registry.
    #[error(transparent)]
    Registry(Unreachable),
    /// The transparency log.
    #[error("the log (rekor_url): {0}")]
    Log(Unreachable),
    /// The log was asked often enough in this verification.
    #[error("the log was asked for {} entries of this image already", limits::LOG_LOOKUPS)]
    TooManyLookups,
    /// The judging thread broke.
    #[error("the verification was given up")]
    GivenUp,
}

/// What is wrong with the content of a registry or of the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// The registry's answer.
    #[error(transparent)]
    Registry(registry::Error),
    /// The log's answer.
    #[error("the log (rekor_url): {0}")]
    Log(registry::Error),
    /// The log's entries.
    #[error(transparent)]
    Entries(CandidateError),
    /// A manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// More layers or referrers than are judged.
    #[error("{count} {what}: more than {}", limits::SIGNATURES)]
    TooMany {
        /// How many there are.
        count: usize,
        /// `layers` or `referrers`.
        what: &'static str,
    },
    /// A layer of another media type.
    #[error("it is a {found:?}, not a {expected}")]
    MediaType {
        /// The layer's media type.
        found: String,
        /// The media type of signatures, or of attestations.
        expected: &'static str,
    },
}

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The manifest cannot be parsed.
    #[error("the manifest is malformed: {0}")]
    Malformed(serde_json::Error),
    /// The manifest is an image's and an index at the same time.
    #[error("the manifest has both layers and manifests")]
    Ambiguous,
    /// The manifest and the registry disagree about what it is.
    #[error("the manifest says that it is {manifest:?}, the registry {registry:?}")]
    MediaType {
        /// The media type in the manifest.
        manifest: String,
        /// The Content-Type.
        registry: String,
    },
}

impl From<registry::Error> for DiscoveryError {
    fn from(error: registry::Error) -> DiscoveryError {
        match error {
            registry::Error::Unreachable(why) => DiscoveryError::Unreachable(Arc::new(UnreachableError::Registry(why))),
            error => DiscoveryError::Content(ContentError::Registry(error)),
        }
    }
}

impl From<ContentError> for DiscoveryError {
    fn from(error: ContentError) -> DiscoveryError {
        DiscoveryError::Content(error)
    }
}

impl From<ManifestError> for DiscoveryError {
    fn from(error: ManifestError) -> DiscoveryError {
        DiscoveryError::Content(error.into())
    }
}

/// The references to everything that may be a signature or an attestation of an image.
#[derive(Default)]
pub(crate) struct Discovered {
    pub(crate) references: Vec<SignatureRef>,
    /// The places that could not be listed.
    pub(crate) failed: Vec<FailedPlace>,
}

/// A place that could not be listed.
pub(crate) struct FailedPlace {
    /// The place, for operators.
    pub(crate) source: String,
    pub(crate) purpose: Option<Purpose>,
    pub(crate) why: DiscoveryError,
}

/// A reference to one possible signature or attestation.
pub(crate) struct SignatureRef {
    /// The place, for operators.
    pub(crate) source: String,
    digest: Digest,
    encoding: Encoding,
}

/// How a registry holds a signature.
#[derive(Clone)]
enum Encoding {
    /// A manifest whose only layer is a bundle.
    Bundle,
    /// A layer of a tag of cosign's, with its annotations.
    Layer { purpose: Purpose, media_type: String, annotations: BTreeMap<String, String> },
}

/// The bytes of a possible signature, not parsed yet.
pub(crate) struct Encoded {
    bytes: Bytes,
    encoding: Encoding,
}

impl Encoded {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Parses the bytes, which takes time in proportion to their number.
    pub(crate) fn candidate(self) -> Result<Candidate, CandidateError> {
        match self.encoding {
            Encoding::Layer { purpose: Purpose::Signature, annotations, .. } => {
                candidate::simple_signature(self.bytes, &annotations)
            }
            Encoding::Layer { purpose: Purpose::Attestation, annotations, .. } => {
                candidate::simple_attestation(self.bytes, &annotations)
            }
            Encoding::Bundle => {
                let candidate = candidate::bundle(&self.bytes)?;
                match candidate.bundle.media_type {
                    MediaType::Bundle0_3 => Ok(candidate),
                    // The versions require different evidence: nobody may relabel a bundle to leave evidence out.
                    _ => Err(CandidateError::OldBundle),
                }
            }
        }
    }
}

/// The parts of a manifest that matter here. It may be an image's, an artifact's, or an index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parsed {
    #[serde(default)]
    media_type: String,
    manifests: Option<Vec<Descriptor>>,
    layers: Option<Vec<Descriptor>>,
}

fn parse(manifest: &Manifest) -> Result<Parsed, ManifestError> {
    let mut parsed: Parsed = serde_json::from_slice(&manifest.bytes).map_err(ManifestError::Malformed)?;
    // The same bytes must mean one thing to every client (CVE-2021-41190).
    if parsed.manifests.is_some() && parsed.layers.is_some() {
        return Err(ManifestError::Ambiguous);
    }
    let generic = manifest.media_type.is_empty() || manifest.media_type == "application/json";
    if parsed.media_type.is_empty() {
        parsed.media_type.clone_from(&manifest.media_type);
    } else if !generic && parsed.media_type != manifest.media_type {
        let registry = manifest.media_type.clone();
        return Err(ManifestError::MediaType { manifest: parsed.media_type, registry });
    }
    Ok(parsed)
}

/// Refuses a list that is longer than is judged.
fn bounded<T>(list: Vec<T>, what: &'static str) -> Result<Vec<T>, ContentError> {
    match list.len() > limits::SIGNATURES {
        true => Err(ContentError::TooMany { count: list.len(), what }),
        false => Ok(list),
    }
}

/// Whether the manifest is an index that lists `platform`; `None` when it is no index.
pub(crate) fn lists(manifest: &Manifest, platform: &Digest) -> Result<Option<bool>, ManifestError> {
    let Parsed { media_type, manifests, .. } = parse(manifest)?;
    if !INDEX.contains(&media_type.as_str()) {
        return Ok(None);
    }
    Ok(Some(manifests.unwrap_or_default().iter().any(|descriptor| descriptor.digest == *platform)))
}

/// Lists everything that may be a signature of the image, then what may be an attestation if those count: there is no verdict without a
/// signature. A place that cannot be listed does not stop the others.
pub(crate) async fn discover(
    registries: &Registries,
    repository: &Repository,
    digest: &Digest,
    attestations: bool,
) -> Discovered {
    let mut found = Discovered::default();
    match referrers(registries, repository, digest).await {
        Ok(references) => found.references.extend(references),
        Err(why) => {
            let source = format!("{repository}, referrers of {digest}");
            found.failed.push(FailedPlace { source, purpose: None, why });
        }
    }
    for (suffix, purpose) in [("sig", Purpose::Signature), ("att", Purpose::Attestation)] {
        if purpose == Purpose::Attestation && !attestations {
            continue;
        }
        let tag = format!("sha256-{}.{suffix}", digest.hex());
        match layers(registries, repository, &tag, purpose).await {
            Ok(references) => found.references.extend(references),
            Err(why) => {
                let source = format!("{repository}:{tag}");
                found.failed.push(FailedPlace { source, purpose: Some(purpose), why });
            }
        }
    }
    found
}

/// Lists the bundles that refer to the image, through the referrers API or its fallback: the tag of an index.
async fn referrers(
    registries: &Registries,
    repository: &Repository,
    digest: &Digest,
) -> Result<Vec<SignatureRef>, DiscoveryError> {
    let descriptors = match registries.referrers(repository, digest, limits::SIGNATURES).await? {
        Some(descriptors) => descriptors,
        None => {
            let tag = format!("sha256-{}", digest.hex());
            let Some(index) = registries.manifest(repository, &tag).await? else { return Ok(Vec::new()) };
            parse(&index)?.manifests.unwrap_or_default()
        }
    };
    let mut seen = HashSet::new();
    let places = descriptors.into_iter().filter(|descriptor| {
        let kind = descriptor.artifact_type.as_deref().unwrap_or_default();
        (kind.is_empty() || kind == EMPTY || kind.starts_with(BUNDLE)) && seen.insert(descriptor.digest.clone())
    });
    let places = places.map(|descriptor| SignatureRef {
        source: format!("{repository}@{}", descriptor.digest),
        digest: descriptor.digest,
        encoding: Encoding::Bundle,
    });
    Ok(bounded(places.collect(), "referrers")?)
}

/// Lists the layers of one of cosign's tags.
async fn layers(
    registries: &Registries,
    repository: &Repository,
    tag: &str,
    purpose: Purpose,
) -> Result<Vec<SignatureRef>, DiscoveryError> {
    let Some(manifest) = registries.manifest(repository, tag).await? else { return Ok(Vec::new()) };
    let layers = bounded(parse(&manifest)?.layers.unwrap_or_default(), "layers")?;
    let mut seen = HashSet::new();
    let places = layers.into_iter().enumerate().map(|(number, layer)| SignatureRef {
        source: format!("{repository}:{tag}, layer {} ({})", number + 1, layer.digest),
        digest: layer.digest,
        encoding: Encoding::Layer { purpose, media_type: layer.media_type, annotations: layer.annotations },
    });
    // Signatures of several signers share a payload and differ in their annotations.
    Ok(places
        .filter(|place| match &place.encoding {
            Encoding::Layer { media_type, annotations, .. } => {
                seen.insert((place.digest.clone(), media_type.clone(), annotations.clone()))
            }
            Encoding::Bundle => true,
        })
        .collect())
}

impl SignatureRef {
    /// The purpose of a layer's tag; `None` for a bundle, which says itself what it is.
    pub(crate) fn purpose(&self) -> Option<Purpose> {
        match self.encoding {
            Encoding::Layer { purpose, .. } => Some(purpose),
            Encoding::Bundle => None,
        }
    }

    /// Fetches the bytes; `None` for a referrer that is no bundle.
    pub(crate) async fn fetch(
        &self,
        registries: &Registries,
        repository: &Repository,
    ) -> Result<Option<Encoded>, DiscoveryError> {
        let (digest, limit) = match &self.encoding {
            Encoding::Layer { purpose, media_type, .. } => {
                let (expected, limit) = match purpose {
                    Purpose::Signature => (SIMPLE_SIGNING, limits::SIGNATURE_LAYER),
                    Purpose::Attestation => (DSSE, limits::ATTESTATION_LAYER),
                };
                if media_type != expected {
                    return Err(ContentError::MediaType { found: media_type.clone(), expected }.into());
                }
                (self.digest.clone(), limit)
            }
            Encoding::Bundle => {
                let manifest = registries.manifest(repository, &self.digest.to_string()).await?;
                let Some(manifest) = manifest else { return Ok(None) };
                let layers = parse(&manifest)?.layers.unwrap_or_default();
                match layers.as_slice() {
                    [layer] if layer.media_type.starts_with(BUNDLE) => {
                        (layer.digest.clone(), limits::ATTESTATION_LAYER)
                    }
                    _ => return Ok(None),
                }
            }
        };
        let bytes = registries.blob(repository, &digest, limit).await?;
        Ok(Some(Encoded { bytes, encoding: self.encoding.clone() }))
    }
}
