//! Targets: the manifests whose signatures count for an image.

use std::collections::HashSet;
use std::fmt;

use registry::{Digest, DigestError, Reference, ReferenceError, Repository};

use crate::limits;

/// The image that a container runs, as its engine describes it.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// `repository@sha256:…`, in the engine's order.
    pub repo_digests: &'a [String],
    /// The platform's manifest (`sha256:…`), where the engine names it.
    pub manifest: Option<&'a str>,
}

/// Why a repo digest is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The platform's manifest is no digest. Without it an index could not be checked.
    #[error("the platform's manifest: {0}")]
    Platform(DigestError),
    /// The repo digest cannot be parsed.
    #[error(transparent)]
    Reference(ReferenceError),
    /// Only so many repo digests are verified.
    #[error("of {count} repo digests the first {}", limits::REPO_DIGESTS)]
    TooManyDigests {
        /// The repo digests of the image.
        count: usize,
    },
}

/// One manifest in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) repository: Repository,
    pub(crate) digest: Digest,
    /// The manifest that the container runs: an index must list it.
    pub(crate) platform: Option<Digest>,
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.repository, self.digest)
    }
}

impl Image<'_> {
    /// The targets in the order in which they are verified: the repo digests, then the platform's manifest in each repository. Beside
    /// them the errors of those that are no target.
    pub(crate) fn targets(&self) -> (Vec<Target>, Vec<TargetError>) {
        let mut errors = Vec::new();
        let platform = match self.manifest.map(Digest::new).transpose() {
            Ok(platform) => platform,
            Err(why) => {
                // Without the platform's digest it would be unknown whether an index lists what the container runs.
                return (Vec::new(), vec![TargetError::Platform(why)]);
            }
        };
        let mut targets: Vec<Target> = Vec::new();
        for digest in self.repo_digests.iter().take(limits::REPO_DIGESTS) {
            match digest.parse() {
                Ok(Reference { repository, digest }) => {
                    targets.push(Target { repository, digest, platform: platform.clone() });
                }
                Err(why) => errors.push(TargetError::Reference(why)),
            }
        }
        if self.repo_digests.len() > limits::REPO_DIGESTS {
            errors.push(TargetError::TooManyDigests { count: self.repo_digests.len() });
        }
        if let Some(platform) = platform {
            let repositories: Vec<Repository> = targets.iter().map(|target| target.repository.clone()).collect();
            for repository in repositories {
                targets.push(Target { repository, digest: platform.clone(), platform: Some(platform.clone()) });
            }
        }
        let mut seen = HashSet::new();
        targets.retain(|target| seen.insert(target.clone()));
        (targets, errors)
    }

    /// Every name under which `skipped_images` may list the image.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let bare = self.repo_digests.iter().filter_map(|digest| digest.split_once('@').map(|(_, bare)| bare));
        self.repo_digests.iter().map(String::as_str).chain(bare).chain(self.manifest)
    }
}
