//! The container that a person names on the command line.

use containers::ContainerId;
use containers::engine::{Engine, ListedContainer};

use super::{Failure, engine_failure};

/// Digits of an id that are printed, as `docker ps` prints them.
const SHORT: usize = 12;
/// Containers that are named in an error.
const NAMED: usize = 5;

/// How a container is called in messages.
pub(super) fn title(id: &str, name: &str) -> String {
    let short = id.get(..SHORT).unwrap_or(id);
    if name.is_empty() { format!("container {short}") } else { format!("container {name} ({short})") }
}

/// A running container that a person named.
#[derive(Debug)]
pub(super) struct FoundContainer {
    pub(super) id: ContainerId,
    /// How the container is called in messages.
    pub(super) title: String,
    /// The pid of its init process.
    pub(super) init: i32,
}

/// Finds a running container by its name, its id, or the beginning of its id.
///
/// # Errors
/// The engine cannot be asked, no such container runs, or several do.
pub(super) async fn find_init(engine: &dyn Engine, wanted: &str) -> Result<FoundContainer, Failure> {
    let running = engine.list(false).await.map_err(engine_failure)?;
    let Some(found) = find(&running, wanted)? else {
        // The engine may know a container that does not run. If it cannot be asked for all, the name is unknown.
        let all = engine.list(true).await.unwrap_or_default();
        return Err(Failure::NotThere(match find(&all, wanted)? {
            Some(stopped) => format!("{} does not run", title(stopped.id.as_str(), &stopped.name)),
            None => format!("no container has the name or id {wanted:?}: `docker ps` lists those that run"),
        }));
    };
    let title = title(found.id.as_str(), &found.name);
    let inspected = engine.inspect(&found.id).await.map_err(engine_failure)?;
    match inspected.map(|inspected| inspected.pid).filter(|pid| *pid > 0) {
        Some(init) => Ok(FoundContainer { id: found.id.clone(), title, init }),
        None => Err(Failure::NotThere(format!("{title} does not run"))),
    }
}

/// The container with this id, else the one with this name, else the one whose id begins so: Docker's own order.
fn find<'a>(containers: &'a [ListedContainer], wanted: &str) -> Result<Option<&'a ListedContainer>, Failure> {
    let name = wanted.strip_prefix('/').unwrap_or(wanted);
    if name.is_empty() {
        return Ok(None);
    }
    let whole = containers.iter().find(|container| container.id.as_str() == wanted);
    if let Some(found) = whole.or_else(|| containers.iter().find(|container| container.name == name)) {
        return Ok(Some(found));
    }
    let mut begin_so = containers.iter().filter(|container| container.id.as_str().starts_with(wanted));
    let first = begin_so.clone().next();
    if begin_so.nth(1).is_none() {
        return Ok(first);
    }
    let titles = containers.iter().filter(|container| container.id.as_str().starts_with(wanted));
    let mut titles: Vec<String> = titles.map(|container| title(container.id.as_str(), &container.name)).collect();
    let count = titles.len();
    titles.truncate(NAMED);
    if count > NAMED {
        titles.push(format!("{} more", count - NAMED));
    }
    Err(Failure::NotThere(format!("{wanted:?} is the beginning of {count} ids: {}", titles.join(", "))))
}

#[cfg(test)]
mod tests {
    use containers::engine::recorded::RecordedContainer;

    use super::*;
    use crate::cli::stage::{id, node, pid};

    #[tokio::test]
    async fn a_container_is_found_by_name_id_and_beginning_and_every_other_way_is_a_clear_error() {
        let stopped = RecordedContainer { pid: -1, ..RecordedContainer::default() };
        let mut containers = vec![RecordedContainer::default(); 18];
        containers.push(stopped);
        let engine = &node(containers).engine;
        for wanted in ["svc1", "/svc1", &id(1), "00010001"] {
            let FoundContainer { init: found, title, .. } = find_init(&**engine, wanted).await.unwrap();
            assert_eq!((found, &*title), (pid(1), "container svc1 (000100010001)"));
        }
        for (wanted, error) in [
            ("", "no container has the name or id \"\""),
            ("svc", "no container has the name or id \"svc\""),
            ("SVC1", "no container has"),
            ("svc18", "container svc18 (001200120012) does not run"),
            ("0012", "container svc18 (001200120012) does not run"),
            (
                "001",
                "\"001\" is the beginning of 2 ids: container svc16 (001000100010), container svc17 (001100110011)",
            ),
            ("000", "container svc4 (000400040004), 11 more"),
            ("a\u{1b}b", "no container has the name or id \"a\\u{1b}b\""),
        ] {
            let failure = find_init(&**engine, wanted).await.unwrap_err();
            assert!(failure.to_string().contains(error), "{failure}");
            assert_eq!(failure.exit_code(), std::process::ExitCode::from(1));
        }
    }
}
