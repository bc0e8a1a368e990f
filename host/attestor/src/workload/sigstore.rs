//! The interface `sigstore`: the verdict on the image of the proven container.

use std::sync::Arc;

use containers::{Container, Proven};
use image_signatures::Image;
use sandbox::{Fault, FaultKind};

use super::decision::{Decision, SignedImages};
use super::{Answer, Found, Workload};
use crate::error::fault;
use crate::limits;

/// The image of the proven container, and what decides on it.
struct RunningImage {
    signed_images: Arc<SignedImages>,
    id: String,
    /// The platform's manifest, where the engine names it.
    manifest: Option<String>,
    /// The repo digest that the container was started from, for an engine that has forgotten the image's.
    started_from: Option<String>,
}

impl RunningImage {
    /// The image with its repo digests, where its signatures may be.
    fn located<'a>(&'a self, repo_digests: &'a [String]) -> Image<'a> {
        let repo_digests = if repo_digests.is_empty() { self.started_from.as_slice() } else { repo_digests };
        Image { repo_digests, manifest: self.manifest.as_deref() }
    }
}

/// The repo digest that a container was started from. Docker 29's image store forgets the repo digests of an image when a pull moves
/// its tag, even while a container runs it. In that store an image's id is its digest in the registry. Elsewhere the engine names no
/// manifest, and the id is no such digest. A container that was started by an image id has no name here.
fn started_from(container: &Container) -> Option<String> {
    container.image_manifest_digest.as_ref()?;
    let id = container.image_id.as_deref()?;
    let name = container.image.split('@').next()?;
    let is_id = id.starts_with(name) || id.trim_start_matches("sha256:").starts_with(name);
    (!is_id).then(|| format!("{name}@{id}"))
}

impl Workload {
    /// `sigstore.verify` from what is cached. `None`: the engine or a registry must be asked.
    pub(super) fn cached_decision(&mut self) -> Option<Found> {
        let image = match self.image() {
            Ok(image) => image,
            Err(fault) => return Some(fault.into()),
        };
        let repo_digests = self.backends.docker.cached_repo_digests(&image.id)?;
        let (decision, note) = image.signed_images.cached(image.located(&repo_digests))?;
        Some(found(decision, note))
    }

    /// `sigstore.verify`, for which engine and registries are asked if need be.
    pub(super) async fn fetch_decision(&mut self) -> Found {
        let verified = async {
            let image = self.image()?;
            let claimant = self.claimant();
            let _waiting = self.backends.verifications.enter(claimant).map_err(|full| {
                let text = format!("{full} for image verifications: does a registry hang?");
                Fault::new(FaultKind::Exhausted, text)
            })?;
            let repo_digests = self.backends.docker.repo_digests(&image.id, claimant).await.map_err(fault)?;
            let deadline = self.started + limits::VERIFY_WAIT;
            Ok::<_, Fault>(image.signed_images.verify(image.located(&repo_digests), deadline).await)
        };
        match verified.await {
            Ok((decision, note)) => found(decision, note),
            Err(fault) => fault.into(),
        }
    }

    fn image(&self) -> Result<RunningImage, Fault> {
        let Some(signed_images) = &self.backends.sigstore else {
            return Err(Fault::new(FaultKind::NotConfigured, "sigstore is not configured"));
        };
        let Some(container) = self.transcript.container().map(Proven::container) else {
            return Err(Fault::new(FaultKind::Policy, "a policy asks for a verdict before it has a container"));
        };
        match &container.image_id {
            Some(id) => Ok(RunningImage {
                signed_images: Arc::clone(signed_images),
                id: id.clone(),
                manifest: container.image_manifest_digest.clone(),
                started_from: started_from(container),
            }),
            None => Err(Fault::new(FaultKind::Malformed, "the engine names no image id of the container")),
        }
    }
}

fn found(decision: Result<Decision, Fault>, note: String) -> Found {
    Found { answer: decision.map(Answer::Verify), note: note.into(), not_proven: None }
}
