//! The id and the facts of a container, and how many facts there may be.

use std::fmt;

use bounded::text::is_sha256_hex;

use crate::limits;

/// A container's id: 64 lowercase hex digits. Only such a text may reach an engine, because ids are spliced into URLs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContainerId(String);

impl ContainerId {
    /// `None` for anything but 64 lowercase hex digits.
    pub fn new(text: &str) -> Option<ContainerId> {
        is_sha256_hex(text).then(|| ContainerId(text.to_owned()))
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The facts of a container as its engine states them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The id: 64 lowercase hex digits.
    pub id: String,
    /// The labels as key and value, sorted by key.
    pub labels: Vec<(String, String)>,
    /// The environment that the container was configured with, `NAME=VALUE` each, in the engine's order.
    pub env: Vec<String>,
    /// The image as the container's creator named it; empty if the engine does not say.
    pub image: String,
    /// The image's id, `sha256:…`.
    pub image_id: Option<String>,
    /// The digest of the platform's image manifest, `sha256:…`, where the engine states it.
    pub image_manifest_digest: Option<String>,
}

impl Container {
    /// How many bytes of memory the facts take, approximately.
    pub fn bytes(&self) -> usize {
        let Container { id, labels, env, image, image_id, image_manifest_digest } = self;
        let text = |text: &String| size_of::<String>() + text.capacity();
        text(id)
            + labels.iter().map(|(key, value)| text(key) + text(value)).sum::<usize>()
            + env.iter().map(text).sum::<usize>()
            + text(image)
            + image_id.as_ref().map_or(0, text)
            + image_manifest_digest.as_ref().map_or(0, text)
    }
}

/// A container that has more labels and env values than one answer may have selectors. No policy gets to see any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has {labels} labels and {env} env values of {bytes} bytes in all: an answer may have {} selectors of {} bytes in all; \
     start it with fewer",
    limits::VALUES,
    limits::VALUES_TOTAL
)]
pub struct TooLarge {
    /// The number of labels.
    pub labels: usize,
    /// The number of env values.
    pub env: usize,
    /// The bytes of labels and env values together.
    pub bytes: usize,
}

impl TooLarge {
    /// Counts the labels and the env values.
    ///
    /// # Errors
    /// The counts, if there is more than [`limits::VALUES`] or [`limits::VALUES_TOTAL`].
    pub(crate) fn check(container: &Container) -> Result<(), TooLarge> {
        let Container { labels, env, .. } = container;
        let of_labels: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        let of_env: usize = env.iter().map(String::len).sum();
        let counted = TooLarge { labels: labels.len(), env: env.len(), bytes: of_labels + of_env };
        match counted.labels + counted.env > limits::VALUES || counted.bytes > limits::VALUES_TOTAL {
            true => Err(counted),
            false => Ok(()),
        }
    }
}
