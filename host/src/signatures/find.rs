//! Finding: where in a registry there may be a signature or an attestation of an image, and fetching one such place.
//!
//! Places are listed first and fetched one by one: whoever can push to a repository can put 1,000 large blobs there.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use serde::Deserialize;
use sigstore_verify::types::bundle::MediaType;

use super::material::{self, Candidate, Purpose};
use super::registry::{Descriptor, Digest, Manifest, Registries, RegistryError, Repository};
use crate::limits;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const DSSE: &str = "application/vnd.dsse.envelope.v1+json";
const INDEX: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// A descriptor with this type says nothing of what it points to.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Everything that may be a signature or an attestation of an image.
#[derive(Default)]
pub(super) struct Places {
    pub(super) places: Vec<Place>,
    /// Where nothing could be listed, and why.
    pub(super) failed: Vec<(String, Option<Purpose>, RegistryError)>,
}

/// Where one may be.
pub(super) struct Place {
    /// For people.
    pub(super) source: String,
    digest: Digest,
    form: Form,
}

#[derive(Clone)]
enum Form {
    /// A manifest whose only layer is a bundle.
    Bundle,
    /// A layer of cosign's tags, with its annotations.
    Layer { purpose: Purpose, media_type: String, annotations: BTreeMap<String, String> },
}

/// What a place holds, not parsed yet.
pub(super) struct Fetched {
    bytes: Bytes,
    form: Form,
}

impl Fetched {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Parses it, which takes time in proportion to its size.
    pub(super) fn parse(self) -> Result<Candidate, String> {
        match self.form {
            Form::Layer { purpose: Purpose::Signature, annotations, .. } => {
                material::simple_signature(self.bytes, &annotations)
            }
            Form::Layer { purpose: Purpose::Attestation, annotations, .. } => {
                material::simple_attestation(self.bytes, &annotations)
            }
            Form::Bundle => {
                let candidate = material::bundle(&self.bytes)?;
                match candidate.bundle.media_type {
                    MediaType::Bundle0_3 => Ok(candidate),
                    // What proves a signature differs between them: nobody may relabel one to leave evidence out.
                    _ => {
                        Err("the bundle is older than v0.3, which no image has (cosign too passes it over)".to_owned())
                    }
                }
            }
        }
    }
}

/// A manifest, as far as it concerns us: an image's, an artifact's, or an index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parsed {
    #[serde(default)]
    media_type: String,
    manifests: Option<Vec<Descriptor>>,
    layers: Option<Vec<Descriptor>>,
}

fn parse(manifest: &Manifest) -> Result<Parsed, String> {
    let mut parsed: Parsed =
        serde_json::from_slice(&manifest.bytes).map_err(|error| format!("the manifest is malformed: {error}"))?;
    // The same bytes must mean one thing to everybody (CVE-2021-41190).
    if parsed.manifests.is_some() && parsed.layers.is_some() {
        return Err("the manifest has both layers and manifests".to_owned());
    }
    let generic = manifest.media_type.is_empty() || manifest.media_type == "application/json";
    if parsed.media_type.is_empty() {
        parsed.media_type.clone_from(&manifest.media_type);
    } else if !generic && parsed.media_type != manifest.media_type {
        return Err(format!(
            "the manifest says that it is {:?}, the registry {:?}",
            parsed.media_type, manifest.media_type
        ));
    }
    Ok(parsed)
}

/// At most as many as are looked at.
fn bounded<T>(list: Vec<T>, what: &str) -> Result<Vec<T>, RegistryError> {
    match list.len() > limits::SIGNATURES {
        true => Err(RegistryError::Content(format!("{} {what}: more than {}", list.len(), limits::SIGNATURES))),
        false => Ok(list),
    }
}

/// Whether the manifest is an index that lists `platform`; none when it is no index.
pub(super) fn lists(manifest: &Manifest, platform: &Digest) -> Result<Option<bool>, String> {
    let Parsed { media_type, manifests, .. } = parse(manifest)?;
    if !INDEX.contains(&media_type.as_str()) {
        return Ok(None);
    }
    Ok(Some(manifests.unwrap_or_default().iter().any(|descriptor| descriptor.digest == *platform)))
}

/// Lists everything about the image with this digest: signatures first, since there is no verdict without one.
pub(super) async fn find(
    registries: &Registries,
    repository: &Repository,
    digest: &Digest,
    attestations: bool,
) -> Places {
    let mut found = Places::default();
    match referrers(registries, repository, digest).await {
        Ok(places) => found.places.extend(places),
        Err(why) => found.failed.push((format!("{repository}, referrers of {digest}"), None, why)),
    }
    for (suffix, purpose) in [("sig", Purpose::Signature), ("att", Purpose::Attestation)] {
        if purpose == Purpose::Attestation && !attestations {
            continue;
        }
        let tag = format!("sha256-{}.{suffix}", digest.hex());
        match layers(registries, repository, &tag, purpose).await {
            Ok(places) => found.places.extend(places),
            Err(why) => found.failed.push((format!("{repository}:{tag}"), Some(purpose), why)),
        }
    }
    found
}

/// Bundles that refer to the image, through the API or its fallback, the tag of an index.
async fn referrers(
    registries: &Registries,
    repository: &Repository,
    digest: &Digest,
) -> Result<Vec<Place>, RegistryError> {
    let descriptors = match registries.referrers(repository, digest).await? {
        Some(descriptors) => descriptors,
        None => {
            let tag = format!("sha256-{}", digest.hex());
            let Some(index) = registries.manifest(repository, &tag).await? else { return Ok(Vec::new()) };
            parse(&index).map_err(RegistryError::Content)?.manifests.unwrap_or_default()
        }
    };
    let mut seen = HashSet::new();
    let places = descriptors.into_iter().filter(|descriptor| {
        let kind = descriptor.artifact_type.as_deref().unwrap_or_default();
        (kind.is_empty() || kind == EMPTY || kind.starts_with(BUNDLE)) && seen.insert(descriptor.digest.clone())
    });
    let places = places.map(|descriptor| Place {
        source: format!("{repository}@{}", descriptor.digest),
        digest: descriptor.digest,
        form: Form::Bundle,
    });
    bounded(places.collect(), "referrers")
}

/// The layers of one of cosign's tags.
async fn layers(
    registries: &Registries,
    repository: &Repository,
    tag: &str,
    purpose: Purpose,
) -> Result<Vec<Place>, RegistryError> {
    let Some(manifest) = registries.manifest(repository, tag).await? else { return Ok(Vec::new()) };
    let layers = bounded(parse(&manifest).map_err(RegistryError::Content)?.layers.unwrap_or_default(), "layers")?;
    let mut seen = HashSet::new();
    let places = layers.into_iter().enumerate().map(|(number, layer)| Place {
        source: format!("{repository}:{tag}, layer {} ({})", number + 1, layer.digest),
        digest: layer.digest,
        form: Form::Layer { purpose, media_type: layer.media_type, annotations: layer.annotations },
    });
    // Signatures of several signers share a payload, and differ in their annotations.
    Ok(places
        .filter(|place| match &place.form {
            Form::Layer { media_type, annotations, .. } => {
                seen.insert((place.digest.clone(), media_type.clone(), annotations.clone()))
            }
            Form::Bundle => true,
        })
        .collect())
}

impl Place {
    /// What is looked for there; none for a bundle, which says itself what it is.
    pub(super) fn purpose(&self) -> Option<Purpose> {
        match self.form {
            Form::Layer { purpose, .. } => Some(purpose),
            Form::Bundle => None,
        }
    }

    /// Fetches what is there; none when that is something else than was looked for.
    pub(super) async fn fetch(
        &self,
        registries: &Registries,
        repository: &Repository,
    ) -> Result<Option<Fetched>, RegistryError> {
        let (digest, limit) = match &self.form {
            Form::Layer { purpose, media_type, .. } => {
                let (expected, limit) = match purpose {
                    Purpose::Signature => (SIMPLE_SIGNING, limits::SIGNATURE_LAYER),
                    Purpose::Attestation => (DSSE, limits::ATTESTATION_LAYER),
                };
                if media_type != expected {
                    return Err(RegistryError::Content(format!("it is a {media_type:?}, not a {expected}")));
                }
                (self.digest.clone(), limit)
            }
            Form::Bundle => {
                let manifest = registries.manifest(repository, &self.digest.to_string()).await?;
                let Some(manifest) = manifest else { return Ok(None) };
                let layers = parse(&manifest).map_err(RegistryError::Content)?.layers.unwrap_or_default();
                match layers.as_slice() {
                    [layer] if layer.media_type.starts_with(BUNDLE) => {
                        (layer.digest.clone(), limits::ATTESTATION_LAYER)
                    }
                    _ => return Ok(None),
                }
            }
        };
        let bytes = registries.blob(repository, &digest, limit).await?;
        Ok(Some(Fetched { bytes, form: self.form.clone() }))
    }
}
