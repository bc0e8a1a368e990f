//! The policy itself. Turns the answers of its imports into selectors.

use crate::component::docker_attestor::policy::docker::{Engine, ProvenContainer};
use crate::component::docker_attestor::policy::process::Cgroup;
use crate::component::docker_attestor::policy::sigstore::Verdict;
use crate::component::docker_attestor::policy::types::{Capabilities, Diagnostic, Fault, Settings, Severity};
use crate::locator;
use crate::matcher::Matchers;
use crate::selectors;

/// The imports of the contract: the questions that the policy may ask about the process under attestation.
pub trait Imports {
    /// `process.cgroups`
    fn cgroups(&self) -> Result<Vec<Cgroup>, Fault>;
    /// `job-objects.names`
    fn job_object_names(&self) -> Result<Vec<String>, Fault>;
    /// `docker.container`
    fn container(&self, engine: Engine, id: &str) -> Result<Option<ProvenContainer>, Fault>;
    /// `sigstore.verify`
    fn verify(&self) -> Result<Verdict, Fault>;
}

/// Checks the settings that only the policy understands, which are the matchers.
pub fn validate(settings: &Settings) -> Vec<Diagnostic> {
    if !uses_matchers(settings) {
        return Vec::new();
    }
    match Matchers::new(&settings.container_id_cgroup_matchers) {
        Ok(_) => Vec::new(),
        Err(unusable) => vec![Diagnostic { severity: Severity::Error, message: unusable.message() }],
    }
}

/// Returns the selectors of the workload, or an empty list if the workload is in no container of the configured engines.
pub fn attest(imports: &impl Imports, settings: &Settings) -> Result<Vec<String>, Fault> {
    let Some((engine, id)) = claim(imports, settings)? else { return Ok(Vec::new()) };
    let configured = settings.capabilities.contains(capability(&engine));
    let container = match imports.container(engine, &id) {
        // A container of an engine that is not configured is not ours. The host was still asked, so that `explain` shows the claim.
        Err(Fault::NotConfigured(_)) if !configured => None,
        answer => answer?,
    };
    let Some(container) = container else { return Ok(Vec::new()) };
    let mut selectors = selectors::of_container(container);
    if settings.capabilities.contains(Capabilities::SIGSTORE) {
        selectors::of_verdict(imports.verify()?, &mut selectors);
    }
    Ok(selectors)
}

/// Finds the container that the process claims to be in; `None` if the process claims none.
fn claim(imports: &impl Imports, settings: &Settings) -> Result<Option<(Engine, String)>, Fault> {
    if settings.capabilities.contains(Capabilities::JOB_OBJECTS) {
        let names = imports.job_object_names()?;
        return Ok(job_claim(&names)?.map(|id| (Engine::Docker, id)));
    }
    let cgroups = imports.cgroups()?;
    let paths = || cgroups.iter().map(|cgroup| cgroup.path.as_str());
    let id = if uses_matchers(settings) {
        match Matchers::new(&settings.container_id_cgroup_matchers) {
            Ok(matchers) => matched(&matchers, paths())?.map(str::to_owned),
            Err(unusable) => return Err(Fault::Policy(unusable.message())),
        }
    } else {
        locator::claim(paths()).map_err(conflict)?.map(str::to_owned)
    };
    Ok(id.map(|id| (engine(paths()), id)))
}

fn uses_matchers(settings: &Settings) -> bool {
    !settings.use_new_container_locator && !settings.container_id_cgroup_matchers.is_empty()
}

/// Finds the container id with the patterns. A match with an empty id is an error, because the pattern must be wrong.
fn matched<'a>(matchers: &Matchers<'_>, paths: impl Iterator<Item = &'a str>) -> Result<Option<&'a str>, Fault> {
    let mut claimed = None;
    for id in paths.filter_map(|path| matchers.find(path)) {
        match claimed {
            _ if id.is_empty() => {
                let message = "a pattern of container_id_cgroup_matchers matched, but no container id was found";
                return Err(Fault::Policy(message.to_owned()));
            }
            Some(before) if before != id => return Err(conflict((before, id))),
            _ => claimed = Some(id),
        }
    }
    Ok(claimed)
}

/// Finds the container in the names of job objects, `\Container_ID`.
fn job_claim(names: &[String]) -> Result<Option<String>, Fault> {
    let mut claimed: Option<&str> = None;
    for id in names.iter().filter_map(|name| name.strip_prefix("\\Container_")) {
        match claimed {
            Some(before) if before != id => return Err(conflict((before, id))),
            _ => claimed = Some(id),
        }
    }
    Ok(claimed.map(str::to_owned))
}

fn conflict((one, other): (&str, &str)) -> Fault {
    Fault::Workload(["multiple container ids found: \"", one, "\" and \"", other, "\""].concat())
}

/// The engine that made the cgroups. Podman names them `libpod-…` or puts them below `/libpod/`, and a user's into that user's slice.
fn engine<'a>(mut paths: impl Iterator<Item = &'a str>) -> Engine {
    match paths.find(|path| path.contains("libpod-") || path.contains("/libpod/")) {
        None => Engine::Docker,
        Some(path) => user_of_slice(path).map_or(Engine::Podman, Engine::RootlessPodman),
    }
}

/// The uid in the first `/user-UID.slice/` with a number.
fn user_of_slice(path: &str) -> Option<u32> {
    path.split("/user-").skip(1).find_map(|rest| {
        let (uid, _) = rest.split_once(".slice/")?;
        uid.bytes().all(|byte| byte.is_ascii_digit()).then(|| uid.parse().ok())?
    })
}

fn capability(engine: &Engine) -> Capabilities {
    match engine {
        Engine::Docker => Capabilities::DOCKER,
        Engine::Podman => Capabilities::PODMAN,
        Engine::RootlessPodman(_) => Capabilities::ROOTLESS_PODMAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

    #[derive(Default)]
    struct Recorded {
        cgroups: Vec<String>,
        jobs: Vec<String>,
        podman: bool,
    }

    impl Imports for Recorded {
        fn cgroups(&self) -> Result<Vec<Cgroup>, Fault> {
            let cgroup =
                |path: &String| Cgroup { hierarchy: "0".to_owned(), controllers: String::new(), path: path.clone() };
            Ok(self.cgroups.iter().map(cgroup).collect())
        }

        fn job_object_names(&self) -> Result<Vec<String>, Fault> {
            Ok(self.jobs.clone())
        }

        /// Knows one container, and names in its image the engine that was asked.
        fn container(&self, engine: Engine, id: &str) -> Result<Option<ProvenContainer>, Fault> {
            if engine != Engine::Docker && !self.podman {
                return Err(Fault::NotConfigured("podman is not configured".to_owned()));
            }
            Ok((id == ID).then(|| ProvenContainer {
                id: id.to_owned(),
                labels: Vec::new(),
                env: Vec::new(),
                image: format!("{engine:?}"),
                image_id: None,
                image_manifest_digest: None,
            }))
        }

        fn verify(&self) -> Result<Verdict, Fault> {
            Err(Fault::Unverified("no signature".to_owned()))
        }
    }

    fn machine(cgroups: &[&str]) -> Recorded {
        Recorded { cgroups: cgroups.iter().map(|&path| path.to_owned()).collect(), ..Recorded::default() }
    }

    fn settings(capabilities: Capabilities, matchers: &[&str]) -> Settings {
        Settings {
            capabilities,
            use_new_container_locator: matchers.is_empty(),
            container_id_cgroup_matchers: matchers.iter().map(|&pattern| pattern.to_owned()).collect(),
            extra: Vec::new(),
        }
    }

    fn linux() -> Capabilities {
        Capabilities::PROCESS | Capabilities::DOCKER
    }

    #[test]
    fn only_cgroup_paths_claim_a_container() {
        let docker = format!("/docker/{ID}");
        let other = format!("/docker/{OTHER}");
        let settings = settings(linux(), &[]);
        let asked = vec!["image_id:Engine::Docker".to_owned()];
        assert_eq!(attest(&machine(&[&docker]), &settings).unwrap(), asked);
        assert_eq!(attest(&machine(&["/", &docker]), &settings).unwrap(), asked);
        assert_eq!(attest(&machine(&["/"]), &settings).unwrap(), Vec::<String>::new());
        assert_eq!(attest(&machine(&[&other]), &settings).unwrap(), Vec::<String>::new());
        assert!(
            matches!(attest(&machine(&[&docker, &other]), &settings), Err(Fault::Workload(text)) if text.contains(OTHER))
        );
    }

    #[test]
    fn matchers_replace_the_locator() {
        let settings = settings(linux(), &["/box/<id>"]);
        let (boxed, docker, other) = (format!("/box/{ID}"), format!("/docker/{ID}"), format!("/box/{OTHER}"));
        assert_eq!(attest(&machine(&["/", &boxed]), &settings).unwrap().len(), 1);
        assert_eq!(attest(&machine(&[&docker]), &settings).unwrap(), Vec::<String>::new());
        assert!(matches!(attest(&machine(&[&boxed, &other]), &settings), Err(Fault::Workload(_))));
        assert!(matches!(attest(&machine(&["/box/"]), &settings), Err(Fault::Policy(_))));
    }

    #[test]
    fn the_engine_is_read_from_the_cgroup_path() {
        let all = linux() | Capabilities::PODMAN | Capabilities::ROOTLESS_PODMAN;
        for (path, engine) in [
            (format!("/machine.slice/libpod-{ID}.scope"), "Engine::Podman"),
            (format!("/libpod_parent/libpod-{ID}"), "Engine::Podman"),
            (format!("/libpod/{ID}"), "Engine::Podman"),
            (
                format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
                "Engine::RootlessPodman(1000)",
            ),
            (format!("/user.slice/user-99999999999.slice/x/libpod-{ID}.scope"), "Engine::Podman"),
            (format!("/user.slice/user-1x.slice/libpod-{ID}.scope"), "Engine::Podman"),
            (format!("/docker/{ID}"), "Engine::Docker"),
        ] {
            let machine = Recorded { podman: true, ..machine(&["/", &path]) };
            assert_eq!(attest(&machine, &settings(all, &[])).unwrap(), vec![format!("image_id:{engine}")], "{path}");
            let configured = usize::from(engine == "Engine::Docker");
            let machine = Recorded { podman: false, ..machine };
            assert_eq!(attest(&machine, &settings(linux(), &[])).unwrap().len(), configured, "{path}");
        }
    }

    #[test]
    fn on_windows_the_job_object_names_the_container() {
        let settings = settings(Capabilities::JOB_OBJECTS | Capabilities::DOCKER, &[]);
        let jobs = |names: &[&str]| Recorded {
            jobs: names.iter().map(|&name| name.to_owned()).collect(),
            ..Recorded::default()
        };
        let (ours, other) = (format!("\\Container_{ID}"), format!("\\Container_{OTHER}"));
        assert_eq!(attest(&jobs(&["\\x", &ours, &ours]), &settings).unwrap().len(), 1);
        assert_eq!(attest(&jobs(&["\\x"]), &settings).unwrap(), Vec::<String>::new());
        assert!(matches!(attest(&jobs(&[&ours, &other]), &settings), Err(Fault::Workload(_))));
    }

    #[test]
    fn a_verification_that_failed_fails_the_attestation() {
        let docker = format!("/docker/{ID}");
        let settings = settings(linux() | Capabilities::SIGSTORE, &[]);
        assert!(matches!(attest(&machine(&[&docker]), &settings), Err(Fault::Unverified(_))));
    }

    #[test]
    fn settings_are_judged_before_any_workload() {
        assert!(validate(&settings(linux(), &["/box/<id>"])).is_empty());
        assert!(validate(&settings(linux(), &[])).is_empty());
        let diagnostics = validate(&settings(linux(), &["/a/<id>", "/*/<id>"]));
        assert!(diagnostics.iter().any(|diagnostic| diagnostic.message.contains("\"/*/<id>\", \"/a/<id>\"")));
    }
}
