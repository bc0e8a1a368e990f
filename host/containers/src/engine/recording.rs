//! An engine whose answers are recorded, for a scenario.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::recorded::RecordedContainer;
use super::{Engine, InspectFuture, ListFuture, RepoDigestsFuture};
use crate::container::ContainerId;

/// Forwards every question to another engine and records the containers that it describes.
pub struct RecordingEngine {
    engine: Arc<dyn Engine>,
    containers: Arc<Mutex<BTreeMap<String, RecordedContainer>>>,
}

impl RecordingEngine {
    /// Records the answers of `engine`.
    pub fn new(engine: Arc<dyn Engine>) -> RecordingEngine {
        RecordingEngine { engine, containers: Arc::default() }
    }

    /// The containers that were described so far, by id.
    pub fn recorded(&self) -> BTreeMap<String, RecordedContainer> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Engine for RecordingEngine {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> InspectFuture<'a> {
        Box::pin(async move {
            let answer = self.engine.inspect(id).await?;
            if let Some(inspected) = &answer {
                let mut containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
                containers.insert(id.as_str().to_owned(), RecordedContainer::of(inspected));
            }
            Ok(answer)
        })
    }

    fn repo_digests<'a>(&'a self, image: &'a str) -> RepoDigestsFuture<'a> {
        self.engine.repo_digests(image)
    }

    fn list(&self, all: bool) -> ListFuture<'_> {
        self.engine.list(all)
    }
}
