//! Finding: everything in a registry that may be a signature or an attestation of an image.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

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

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    /// Where each is, and the candidate or why it is none.
    pub(super) candidates: Vec<(String, Purpose, Result<Candidate, String>)>,
    /// Places that could not be looked at: the registry's own faults.
    pub(super) away: Vec<String>,
}

/// A manifest, as far as it concerns us: an image's, an artifact's, or an index.
#[derive(Deserialize)]
struct Parsed {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

fn parse(manifest: &Manifest) -> Result<Parsed, String> {
    let parsed: Parsed =
        serde_json::from_slice(&manifest.bytes).map_err(|error| format!("the manifest is malformed: {error}"))?;
    match parsed.layers.len().max(parsed.manifests.len()) > limits::SIGNATURES {
        true => Err(format!("it holds more than {} layers", limits::SIGNATURES)),
        false => Ok(parsed),
    }
}

/// Whether the manifest is an index that lists `platform`; none when it is no index.
pub(super) fn lists(manifest: &Manifest, platform: &Digest) -> Result<Option<bool>, String> {
    if !INDEX.contains(&manifest.media_type.as_str()) {
        return Ok(None);
    }
    Ok(Some(parse(manifest)?.manifests.iter().any(|descriptor| descriptor.digest == *platform)))
}

/// Finds everything about the image with this digest.
pub(super) async fn find(
    registries: &Registries,
    repository: &Repository,
    digest: &Digest,
    attestations: bool,
) -> Found {
    let mut found = Found::default();
    let hex = digest.hex();
    if let Err(why) = referrers(registries, repository, digest, &mut found).await {
        found.failed(format!("{repository}, referrers of {digest}"), Purpose::Signature, why);
    }
    let simple_signature = Layers {
        purpose: Purpose::Signature,
        media_type: SIMPLE_SIGNING,
        limit: limits::SIGNATURE_LAYER,
        parse: material::simple_signature,
    };
    let simple_attestation = Layers {
        purpose: Purpose::Attestation,
        media_type: DSSE,
        limit: limits::ATTESTATION_LAYER,
        parse: material::simple_attestation,
    };
    for (suffix, layers) in [("sig", simple_signature), ("att", simple_attestation)] {
        if layers.purpose == Purpose::Attestation && !attestations {
            continue;
        }
        let tag = format!("sha256-{hex}.{suffix}");
        if let Err(why) = layers.of_tag(registries, repository, &tag, &mut found).await {
            found.failed(format!("{repository}:{tag}"), layers.purpose, why);
        }
    }
    found
}

impl Found {
    /// A place that gives nothing: its content is wrong, or the registry is away.
    fn failed(&mut self, place: String, purpose: Purpose, why: RegistryError) {
        match why {
            RegistryError::Unavailable(why) => self.away.push(format!("{place}: {why}")),
            RegistryError::Content(why) => self.candidates.push((place, purpose, Err(why))),
        }
    }
}

/// Bundles that refer to the image, through the API or its fallback, the tag of an index.
async fn referrers(
    registries: &Registries,
    repository: &Repository,
    digest: &Digest,
    found: &mut Found,
) -> Result<(), RegistryError> {
    let descriptors = match registries.referrers(repository, digest).await? {
        Some(descriptors) => descriptors,
        None => {
            let tag = format!("sha256-{}", digest.hex());
            let Some(index) = registries.manifest(repository, &tag).await? else { return Ok(()) };
            parse(&index).map_err(RegistryError::Content)?.manifests
        }
    };
    if descriptors.len() > limits::SIGNATURES {
        return Err(RegistryError::Content(format!("more than {} referrers", limits::SIGNATURES)));
    }
    for descriptor in descriptors {
        let kind = descriptor.artifact_type.as_deref().unwrap_or_default();
        if !kind.is_empty() && kind != EMPTY && !kind.starts_with(BUNDLE) {
            continue;
        }
        let place = format!("{repository}@{}", descriptor.digest);
        match bundle(registries, repository, &descriptor.digest).await {
            Ok(Some(candidate)) => {
                let purpose = candidate.as_ref().map_or(Purpose::Signature, |candidate| candidate.purpose);
                found.candidates.push((place, purpose, candidate));
            }
            Ok(None) => {}
            Err(why) => found.failed(place, Purpose::Signature, why),
        }
    }
    Ok(())
}

/// The bundle in a manifest's only layer; none when the manifest holds something else.
async fn bundle(
    registries: &Registries,
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<Result<Candidate, String>>, RegistryError> {
    let Some(manifest) = registries.manifest(repository, &digest.to_string()).await? else { return Ok(None) };
    let parsed = parse(&manifest).map_err(RegistryError::Content)?;
    let [layer] = parsed.layers.as_slice() else { return Ok(None) };
    if !layer.media_type.starts_with(BUNDLE) {
        return Ok(None);
    }
    let text = registries.blob(repository, &layer.digest, limits::ATTESTATION_LAYER).await?;
    Ok(Some(material::bundle(&text)))
}

/// The layers of cosign's tags.
struct Layers {
    purpose: Purpose,
    media_type: &'static str,
    limit: usize,
    parse: fn(Bytes, &BTreeMap<String, String>) -> Result<Candidate, String>,
}

impl Layers {
    async fn of_tag(
        &self,
        registries: &Registries,
        repository: &Repository,
        tag: &str,
        found: &mut Found,
    ) -> Result<(), RegistryError> {
        let Some(manifest) = registries.manifest(repository, tag).await? else { return Ok(()) };
        let layers = parse(&manifest).map_err(RegistryError::Content)?.layers;
        for (number, layer) in layers.iter().enumerate() {
            let place = format!("{repository}:{tag}, layer {} ({})", number + 1, layer.digest);
            if layer.media_type != self.media_type {
                let why = format!("it is a {:?}, not a {}", layer.media_type, self.media_type);
                found.candidates.push((place, self.purpose, Err(why)));
                continue;
            }
            match registries.blob(repository, &layer.digest, self.limit).await {
                Ok(text) => {
                    let candidate = (self.parse)(text, &layer.annotations);
                    found.candidates.push((place, self.purpose, candidate));
                }
                Err(why) => found.failed(place, self.purpose, why),
            }
        }
        Ok(())
    }
}
