//! The clauses on Linux: cgroups and pid namespaces. The table of clauses stands in [`super`].

use std::io;
use std::sync::Arc;

use super::{Clause, InitFailure, NotProven, ProofContext};
use crate::container::ContainerId;
use crate::engine::Inspected;
use crate::limits;
use crate::process::{CgroupLine, PidNamespace, Process, Processes, parse_cgroup};

/// The cgroups of a container, and the pid namespace of its init process.
pub(super) struct Cgroups {
    /// The cgroup hierarchies in which the path of init contains the container's id.
    hierarchies: Vec<Hierarchy>,
    /// `None` where the kernel does not let us read it. Clause f is then skipped.
    namespace: Option<PidNamespace>,
    /// The text of init's /proc/PID/cgroup, if clauses d and e hold for it. They then hold for each process with the same text.
    proven: Option<Arc<[u8]>>,
}

/// One hierarchy of cgroups, and the container's cgroup in it.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    unified: bool,
    controllers: Box<[u8]>,
    container: Box<[u8]>,
}

impl Cgroups {
    /// Checks clause c and init's side of clause d. Returns `Ok(None)` if the process started after the engine was asked.
    pub(super) fn of_init(
        processes: &dyn Processes,
        process: &dyn Process,
        id: &ContainerId,
        inspected: &Inspected,
        asked_at: u64,
        context: ProofContext,
    ) -> Result<Option<Cgroups>, InitFailure> {
        let cgroup = process.cgroup()?;
        if process.stat()?.start_time >= asked_at {
            return Ok(None);
        }
        let namespace = match process.pid_namespace() {
            Ok(namespace) => Some(namespace),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) if !context.reads_namespaces => None,
            Err(error) => return Err(error.into()),
        };
        let hierarchies = Hierarchy::of_init(id, &cgroup, context, || Above::of(processes, inspected))?;
        let cgroups = Cgroups::new(id, hierarchies, namespace, cgroup);
        if inspected.pid_mode.is_empty() || inspected.pid_mode == "private" {
            cgroups.check_first_of_trusted_namespace(process, id, inspected, context)?;
        }
        Ok(Some(cgroups))
    }

    fn new(id: &ContainerId, hierarchies: Vec<Hierarchy>, namespace: Option<PidNamespace>, init: Arc<[u8]>) -> Cgroups {
        let mut cgroups = Cgroups { hierarchies, namespace, proven: None };
        let holds = init.len() <= limits::CGROUP_TEXT_KEPT && cgroups.check_text(id, &init, false).is_ok();
        cgroups.proven = holds.then_some(init);
        cgroups
    }

    /// Checks that a process, whose /proc/PID/cgroup is `cgroup`, is in the container (clauses d to f).
    pub(super) fn check_claimant(
        &self,
        id: &ContainerId,
        process: &dyn Process,
        cgroup: &[u8],
        context: ProofContext,
    ) -> Result<(), NotProven> {
        let nested = within_namespace(self.namespace, process, context, id)?;
        // Most processes are in the very cgroups that init is in.
        match self.proven.as_deref() == Some(cgroup) {
            true => Ok(()),
            false => self.check_text(id, cgroup, nested),
        }
    }

    /// Checks clauses d and e.
    fn check_text(&self, id: &ContainerId, cgroup: &[u8], nested: bool) -> Result<(), NotProven> {
        let claimant = parse_cgroup(cgroup).map_err(|_| malformed())?;
        below_container(id, &self.hierarchies, &claimant, |rest| no_container_between(id, rest, nested))
    }

    /// Checks that init is pid 1 of a trusted pid namespace (clause c). A trusted namespace lies directly below ours,
    /// which is the engine's by clause b, and belongs to our user namespace or to one that the engine's user or root
    /// created.
    ///
    /// `NSpid` lists one pid for each pid namespace from that of /proc, which is ours, down to the process's own
    /// (proc_pid_status(5)). Two pids mean that the parent of init's namespace is ours. NS_GET_PARENT would say the
    /// same, but only with CAP_SYS_PTRACE. A namespace that a process in another container made lies at least one level
    /// further down.
    fn check_first_of_trusted_namespace(
        &self,
        process: &dyn Process,
        id: &ContainerId,
        inspected: &Inspected,
        context: ProofContext,
    ) -> Result<(), InitFailure> {
        let pid = inspected.pid;
        let untrusted = |seen: String| NotProven {
            clause: Clause::Init,
            seen,
            remedy: "the engine's answer does not fit the processes of this machine: is it an engine of another machine or pid namespace?",
        };
        let pids = process.namespace_pids()?;
        if pids.len() < 2 || pids.last() != Some(&1) {
            let seen = format!("process {} is not pid 1 of a pid namespace of container {id}", pid);
            return Err(untrusted(seen).into());
        }
        if pids.len() > 2 && !context.declared {
            let seen = format!(
                "the pid namespace of process {} lies {} levels below the engine's: container {id}'s lies directly below it",
                pid,
                pids.len() - 1
            );
            return Err(NotProven {
                clause: Clause::Init,
                seen,
                remedy: "the engine lost track of the container: restart the container, or the engine",
            }
            .into());
        }
        if self.namespace.is_some() {
            match process.pid_namespace_creator() {
                Ok(None) => {}
                Ok(Some(uid)) if uid == inspected.engine.uid || uid == 0 => {}
                Ok(Some(uid)) => {
                    let seen = format!("the pid namespace of process {} was made by uid {uid}, not by the engine", pid);
                    return Err(untrusted(seen).into());
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !context.reads_namespaces => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn malformed() -> NotProven {
    NotProven {
        clause: Clause::Membership,
        seen: "a line of /proc/PID/cgroup cannot be parsed".to_owned(),
        remedy: "report it with the kernel's version",
    }
}

/// Checks that the claimant's pid namespace is init's or a descendant of it (clause f). Returns whether it is a strict
/// descendant.
fn within_namespace(
    namespace: Option<PidNamespace>,
    process: &dyn Process,
    context: ProofContext,
    id: &ContainerId,
) -> Result<bool, NotProven> {
    let Some(namespace) = namespace else { return Ok(false) };
    let unproven = |seen: String| NotProven {
        clause: Clause::PidNamespace,
        seen,
        remedy: "being in a container's cgroup is not being in the container: look at who moved the process there",
    };
    match process.pid_namespace() {
        Ok(own) if own == namespace => Ok(false),
        Ok(_) => match process.is_within(&namespace) {
            Ok(true) => Ok(true),
            Ok(false) => {
                Err(unproven(format!("the process is not in the pid namespace of container {id} or below it")))
            }
            Err(error) => Err(unproven(format!("the pid namespaces of the process cannot be followed: {error}"))),
        },
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !context.reads_namespaces => Ok(false),
        Err(error) => Err(unproven(format!("the pid namespace of the process cannot be read: {error}"))),
    }
}

impl Hierarchy {
    /// Checks init's side of clause d, and returns the container's cgroup in each hierarchy where init's path contains
    /// the id. There must be at least one, because `/` proves nothing. No such cgroup may lie in the cgroup of another
    /// container or user, since its owner could make a cgroup named like this container, unless `above` explains it.
    /// `above` is called only where one lies there.
    fn of_init(
        id: &ContainerId,
        cgroup: &[u8],
        context: ProofContext,
        above: impl FnOnce() -> io::Result<Above>,
    ) -> Result<Vec<Hierarchy>, InitFailure> {
        let lines = parse_cgroup(cgroup).map_err(|_| malformed())?;
        let named: Vec<(&CgroupLine<'_>, &[u8])> =
            lines.iter().filter_map(|line| Some((line, container_cgroup(id, line.path)?))).collect();
        if named.is_empty() {
            return Err(outside(format!("no cgroup of the init process of container {id} names the container")).into());
        }
        let is_anothers = |name: &&[u8]| holds_other_id(name, id) || (!context.declared && is_user_manager(name));
        let in_anothers: Vec<_> = named
            .iter()
            .filter(|(_, container)| components(container).iter().rev().skip(1).any(&is_anothers))
            .collect();
        if !in_anothers.is_empty() {
            let above = above().map_err(|error| io::Error::other(format!("cgroups: {error}")))?;
            let foreign =
                in_anothers.into_iter().find(|(line, container)| !above.explains(line, container, is_anothers));
            if let Some((_, container)) = foreign {
                return Err(outside(format!(
                    "the cgroup of the init process of container {id} lies in another container's or user's: \"{}\"",
                    container.escape_ascii()
                ))
                .into());
            }
        }
        let hierarchy = |(line, container): (&CgroupLine<'_>, &[u8])| Hierarchy {
            unified: line.is_unified(),
            controllers: line.controllers.into(),
            container: container.into(),
        };
        Ok(named.into_iter().map(hierarchy).collect())
    }
}

/// Whether a path component is the cgroup of a user's service manager (systemd's user@.service), in which that user
/// makes cgroups.
fn is_user_manager(name: &[u8]) -> bool {
    let uid = name.strip_prefix(b"user@").and_then(|rest| rest.strip_suffix(b".service"));
    uid.is_some_and(|uid| uid.iter().all(u8::is_ascii_digit))
}

/// What explains that a container's cgroup lies in the cgroup of another container or of a user (clause d). Either we
/// or the engine's process are in that cgroup too (Docker inside Docker, rootless Docker), or `HostConfig.CgroupParent`
/// names it.
struct Above {
    /// The texts of /proc/PID/cgroup of our process and of the engine's.
    inside: Vec<Arc<[u8]>>,
    /// `CgroupParent` read as a path, and as the path that systemd makes of a slice's name.
    parents: Vec<Vec<Vec<u8>>>,
}

impl Above {
    fn of(processes: &dyn Processes, inspected: &Inspected) -> io::Result<Above> {
        let mut inside = vec![processes.own_cgroup()?.into()];
        if let Some(engine) = &inspected.engine.process {
            match engine.cgroup() {
                // The pidfd shows that the engine's process lives after the read, so the text is that of the engine.
                Ok(cgroup) if engine.alive() => inside.push(cgroup),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let parent = inspected.cgroup_parent.as_bytes();
        let parents = match parent {
            b"" => Vec::new(),
            parent => [Some(path_of_parent(parent)), slice_path(parent)].into_iter().flatten().collect(),
        };
        Ok(Above { inside, parents })
    }

    /// Whether every ancestor of the container's own component that belongs to another container or user is explained.
    fn explains(&self, line: &CgroupLine<'_>, container: &[u8], is_anothers: impl Fn(&&[u8]) -> bool) -> bool {
        let path = components(container);
        let Some((_, before)) = path.split_last() else { return true };
        // The number of leading components that are also those of a cgroup which we or the engine are in.
        let shared = self.inside.iter().map(|text| {
            let lines = parse_cgroup(text).unwrap_or_default();
            let own = lines.iter().find(|own| own.same_hierarchy(line)).map(|own| components(own.path));
            own.map_or(0, |own| before.iter().zip(&own).take_while(|(one, other)| one == other).count())
        });
        let shared = shared.max().unwrap_or(0);
        // A cgroup parent is relative to the root, which a cgroup namespace shows as some `..`, or to such a shared
        // cgroup.
        let root = before.iter().take_while(|name| **name == b"..").count();
        let named = |base: usize, until: usize| {
            let below = before.get(base..=until).unwrap_or_default();
            let begins = |parent: &&Vec<Vec<u8>>| parent.iter().zip(below).all(|(one, other)| one == other);
            self.parents.iter().filter(|parent| parent.len() >= below.len()).any(|parent| begins(&parent))
        };
        let mut anothers = before.iter().enumerate().filter(|(_, name)| is_anothers(name));
        anothers.all(|(index, _)| index < shared || (0..=shared.max(root)).any(|base| named(base, index)))
    }
}

/// Splits a cgroup's path into its components. `/` has none.
fn components(path: &[u8]) -> Vec<&[u8]> {
    match path.strip_prefix(b"/").unwrap_or(path) {
        b"" => Vec::new(),
        path => path.split(|&byte| byte == b'/').collect(),
    }
}

/// Splits a `CgroupParent` into its components. It is a user's text, so repeated slashes count as one.
fn path_of_parent(parent: &[u8]) -> Vec<Vec<u8>> {
    parent.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

/// The path of a slice: `a-b.slice` lies in `a.slice` (systemd.slice(5)). `None` if the name is not that of a slice.
fn slice_path(name: &[u8]) -> Option<Vec<Vec<u8>>> {
    let stem = name.strip_suffix(b".slice").filter(|stem| !stem.contains(&b'/'))?;
    let dashes = stem.iter().enumerate().filter(|(_, byte)| **byte == b'-').map(|(index, _)| index);
    let slices = dashes.chain([stem.len()]).map(|end| [stem.get(..end).unwrap_or_default(), b".slice"].concat());
    Some(slices.collect())
}

fn outside(seen: String) -> NotProven {
    NotProven {
        clause: Clause::Membership,
        seen,
        remedy: "look at who can write to the container's cgroup, and at --cgroup-parent",
    }
}

/// Checks the claimant's side of clause d: in each of these hierarchies its path is the container's cgroup or lies
/// below it. Hierarchies are matched by their controllers, and paths are compared as bytes, component by component. The
/// rest of each path, below the container's cgroup, is passed to `below`.
fn below_container(
    id: &ContainerId,
    hierarchies: &[Hierarchy],
    claimant: &[CgroupLine<'_>],
    below: impl Fn(&[u8]) -> Result<(), NotProven>,
) -> Result<(), NotProven> {
    for Hierarchy { unified, controllers, container } in hierarchies {
        let same = claimant.iter().find(|line| *line.controllers == **controllers && line.is_unified() == *unified);
        match same.and_then(|line| line.path.strip_prefix(&**container)) {
            Some(rest @ ([] | [b'/', ..])) => below(rest)?,
            _ => {
                return Err(outside(format!(
                    "the process is not below cgroup \"{}\" of container {id} in hierarchy \"{}\" but in \"{}\"",
                    container.escape_ascii(),
                    controllers.escape_ascii(),
                    same.map_or(&b""[..], |line| line.path).escape_ascii(),
                )));
            }
        }
    }
    Ok(())
}

/// Cuts init's path after the first component that contains the id. Init's whole path would be wrong: with systemd or
/// dind inside the container, init sits in a child of the container's cgroup.
fn container_cgroup<'a>(id: &ContainerId, path: &'a [u8]) -> Option<&'a [u8]> {
    let id = id.as_str().as_bytes();
    let start = path.windows(id.len()).position(|window| window == id)? + id.len();
    let end = path.get(start..)?.iter().position(|&byte| byte == b'/').map_or(path.len(), |slash| start + slash);
    path.get(..end)
}

/// Checks that no component below the container's cgroup holds another container's id (clause e). A claimant in a pid
/// namespace below the container's is exempt, because it is what the container itself runs inside.
fn no_container_between(id: &ContainerId, rest: &[u8], nested: bool) -> Result<(), NotProven> {
    if nested {
        return Ok(());
    }
    match rest.split(|&byte| byte == b'/').find(|component| holds_other_id(component, id)) {
        None => Ok(()),
        Some(component) => Err(NotProven {
            clause: Clause::NothingBetween,
            seen: format!(
                "below the cgroup of container {id} the process is in \"{}\", another container's",
                component.escape_ascii()
            ),
            remedy: "the inner container's engine is not this one; give it an agent of its own",
        }),
    }
}

/// Whether a path component holds a run of 64 or more hex digits that is not this container's id.
fn holds_other_id(component: &[u8], id: &ContainerId) -> bool {
    component.split(|byte| !byte.is_ascii_hexdigit()).any(|run| run.len() >= 64 && run != id.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::string_slice, reason = "the ids are ASCII")]

    use proptest::prelude::*;

    use super::*;
    use crate::process::recorded::RecordedProcess;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

    fn process(cgroup: &[String], namespaces: &[u64]) -> RecordedProcess {
        RecordedProcess {
            cgroup: cgroup.to_vec(),
            start_time: 1,
            pid_namespaces: namespaces.to_vec(),
            nspid: vec![100, 1],
            ..RecordedProcess::default()
        }
    }

    fn id() -> ContainerId {
        ContainerId::new(ID).unwrap()
    }

    fn running(init: &[String], above: Above) -> Result<Cgroups, InitFailure> {
        let process = process(init, &[2, 1]);
        let cgroup = process.cgroup().unwrap();
        let hierarchies = Hierarchy::of_init(&id(), &cgroup, ProofContext::ALL, || Ok(above))?;
        Ok(Cgroups::new(&id(), hierarchies, process.pid_namespace().ok(), cgroup))
    }

    /// The explanations when we are in `own`, the engine's process is in `engine`, and the container was started with
    /// this cgroup parent.
    fn above(own: &str, engine: &str, parent: &str) -> Above {
        let parent = parent.as_bytes();
        let parents = [Some(path_of_parent(parent)), slice_path(parent)].into_iter().flatten();
        let parents = if parent.is_empty() { Vec::new() } else { parents.collect() };
        let inside = [own, engine].map(|path| format!("0::{path}").into_bytes());
        Above { inside: inside.into_iter().filter(|text| text != b"0::").map(Arc::from).collect(), parents }
    }

    fn clause(init: &[String], cgroup: &[String], namespaces: &[u64]) -> Option<Clause> {
        let claimant = process(cgroup, namespaces);
        let text = claimant.cgroup().unwrap();
        match running(init, above("/agent", "", "")) {
            Ok(running) => {
                let checked = running.check_claimant(&id(), &claimant, &text, ProofContext::ALL);
                checked.err().map(|not_proven| not_proven.clause)
            }
            Err(InitFailure::NotProven(not_proven)) => Some(not_proven.clause),
            Err(InitFailure::Io(error)) => panic!("{error}"),
        }
    }

    fn one(path: &str) -> Vec<String> {
        vec![format!("0::{path}")]
    }

    #[test]
    fn only_whole_ids_are_claims() {
        assert!(ContainerId::new(ID).is_some());
        for claim in
            ["", "../x", "web", &ID[1..], &ID.to_uppercase(), &format!("{ID}0"), &ID.replacen('0', "\u{0660}", 1)]
        {
            assert_eq!(ContainerId::new(claim), None, "{claim}");
        }
    }

    #[test]
    fn the_root_proves_nothing() {
        assert_eq!(clause(&one("/"), &one("/"), &[2, 1]), Some(Clause::Membership));
        assert_eq!(clause(&one("/system.slice"), &one("/system.slice"), &[2, 1]), Some(Clause::Membership));
    }

    #[test]
    fn every_hierarchy_that_names_the_container_must_hold_the_process() {
        let line = |hierarchy: u32, controllers: &str, path: &str| format!("{hierarchy}:{controllers}:{path}");
        let container = format!("/docker/{ID}");
        let init = [line(2, "pids", &container), line(1, "name=systemd", &container), line(0, "", "/")];
        let moved_in_one = [line(2, "pids", "/"), line(1, "name=systemd", &container), line(0, "", "/")];
        let swapped = [line(2, "name=systemd", &container), line(1, "cpu", &container), line(0, "", &container)];
        let missing = [line(1, "name=systemd", &container)];
        assert_eq!(clause(&init, &init, &[2, 1]), None);
        // Hierarchies are matched by their controllers. Their numbers cannot be chosen, but may differ.
        let renumbered = [line(7, "pids", &container), line(9, "name=systemd", &container)];
        assert_eq!(clause(&init, &renumbered, &[2, 1]), None);
        for claimant in [&moved_in_one[..], &swapped[..], &missing[..]] {
            assert_eq!(clause(&init, claimant, &[2, 1]), Some(Clause::Membership));
        }
        // A v1 hierarchy without controllers cannot stand in for the unified one.
        assert_eq!(clause(&[line(0, "", &container)], &[line(3, "", &container)], &[2, 1]), Some(Clause::Membership));
    }

    #[test]
    fn another_container_below_is_only_what_runs_inside() {
        let init = one(&format!("/docker/{ID}"));
        let inner = one(&format!("/docker/{ID}/docker/{OTHER}"));
        assert_eq!(clause(&init, &inner, &[2, 1]), Some(Clause::NothingBetween));
        assert_eq!(clause(&init, &inner, &[3, 2, 1]), None);
        assert_eq!(
            clause(&init, &one(&format!("/docker/{ID}/docker-{OTHER}.scope/x")), &[2, 1]),
            Some(Clause::NothingBetween)
        );
        assert_eq!(
            clause(&init, &one(&format!("/docker/{ID}/{}", OTHER.to_uppercase())), &[2, 1]),
            Some(Clause::NothingBetween)
        );
    }

    #[test]
    fn a_process_outside_the_pid_namespace_is_not_in_the_container() {
        let init = one(&format!("/docker/{ID}"));
        assert_eq!(clause(&init, &init, &[1]), Some(Clause::PidNamespace));
        assert_eq!(clause(&init, &init, &[3, 1]), Some(Clause::PidNamespace));
    }

    #[test]
    fn a_container_lies_in_another_ones_cgroup_only_where_the_engine_may_put_it() {
        let accepted = |init: &str, above: Above| running(&one(init), above).is_ok();
        let dind = format!("/docker/{OTHER}");
        let inner = format!("{dind}/docker/{ID}");
        // Docker inside Docker: the agent runs beside the inner engine, or only the engine's process is known.
        assert!(accepted(&inner, above(&dind, "", "")));
        assert!(accepted(&inner, above(&format!("{dind}/agent"), "", "")));
        assert!(accepted(&inner, above("/system.slice/agent.service", &format!("{dind}/init"), "")));
        // The same as seen from a cgroup namespace.
        assert!(accepted(&format!("/../{OTHER}/docker/{ID}"), above("/", &format!("/../{OTHER}/init"), "")));
        // The other container has no relation to us or to the engine, or its name only begins with that of one which
        // has.
        let host = || above("/system.slice/agent.service", "/system.slice/docker.service", "");
        assert!(!accepted(&format!("{dind}/{ID}"), host()));
        assert!(!accepted(&inner, host()));
        assert!(!accepted(&format!("/system.slice/docker.service/{OTHER}/{ID}"), host()));
        assert!(!accepted(&format!("{dind}-x/docker/{ID}"), above(&dind, "", "")));
        assert!(!accepted(&format!("{dind}/{}/{ID}", OTHER.replace('f', "e")), above(&dind, "", "")));
        // Named by --cgroup-parent, as a path or as a slice, below the root or below the engine's own cgroup.
        let parent = |parent: &str| above("/system.slice/agent.service", "/system.slice/docker.service", parent);
        assert!(accepted(&format!("/pods/{OTHER}/{ID}"), parent(&format!("/pods/{OTHER}"))));
        assert!(accepted(&format!("/pods/{OTHER}/{ID}"), parent(&format!("pods//{OTHER}/"))));
        assert!(accepted(&format!("/../../pods/{OTHER}/{ID}"), above("/", "", &format!("/pods/{OTHER}"))));
        assert!(!accepted(&format!("/pods/{OTHER}/{ID}"), parent("/pods")));
        assert!(!accepted(&format!("{dind}/pods/{OTHER}/{ID}"), parent(&format!("/pods/{OTHER}"))));
        let slice = format!("machine-pod_{OTHER}.slice");
        assert!(accepted(&format!("/machine.slice/{slice}/libpod-{ID}.scope"), parent(&slice)));
        assert!(accepted(
            &format!("/machine.slice/{slice}/libpod-{ID}.scope"),
            parent(&format!("machine.slice/{slice}"))
        ));
        assert!(!accepted(&format!("/other.slice/{slice}/libpod-{ID}.scope"), parent(&slice)));
        let inside = above("/", &format!("{dind}/init"), &format!("/pods/{OTHER}"));
        assert!(accepted(&format!("{dind}/pods/{OTHER}/{ID}"), inside));
    }

    #[test]
    fn a_users_own_cgroups_hold_only_the_containers_of_an_engine_that_is_there_too() {
        let manager = "/user.slice/user-1000.slice/user@1000.service";
        let container = format!("{manager}/user.slice/docker-{ID}.scope");
        let accepted = |above: Above| running(&one(&container), above).is_ok();
        assert!(!accepted(above("/system.slice/agent.service", "/system.slice/docker.service", "")));
        assert!(accepted(above("/system.slice/agent.service", &format!("{manager}/app.slice/docker.service"), "")));
        let declared = ProofContext { declared: true, ..ProofContext::ALL };
        let id = ContainerId::new(ID).unwrap();
        let text = format!("0::{container}");
        assert!(
            Hierarchy::of_init(&id, text.as_bytes(), declared, || panic!("the engine's place is not known")).is_ok()
        );
    }

    #[test]
    fn a_cgroup_counts_in_its_own_hierarchy_only() {
        let init = [format!("2:pids:/docker/{OTHER}/docker/{ID}"), "0::/".to_owned()];
        let inside = |text: String| Above { inside: vec![text.into_bytes().into()], parents: Vec::new() };
        assert!(running(&init, inside(format!("7:pids:/docker/{OTHER}\n0::/"))).is_ok());
        assert!(running(&init, inside(format!("2:cpu:/docker/{OTHER}\n0::/docker/{OTHER}"))).is_err());
    }

    #[test]
    fn a_slice_lies_in_the_slices_of_its_name() {
        let path = |name: &str| slice_path(name.as_bytes()).map(|path| String::from_utf8(path.join(&b'/')).unwrap());
        assert_eq!(path("a-b-c.slice").unwrap(), "a.slice/a-b.slice/a-b-c.slice");
        assert_eq!(path("a.slice").unwrap(), "a.slice");
        assert_eq!(path("a.slice/b.slice"), None);
        assert_eq!(path("docker"), None);
    }

    /// Pieces from which an attacker would build cgroup names.
    fn name() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop_oneof![
                Just(ID.to_owned()),
                Just(OTHER.to_owned()),
                Just(ID[..63].to_owned()),
                Just(ID.to_uppercase()),
                Just("docker".to_owned()),
                Just("docker-".to_owned()),
                Just(".scope".to_owned()),
                Just("..".to_owned()),
                Just(".".to_owned()),
                Just(":".to_owned()),
                Just(" ".to_owned()),
                Just("\u{e9}".to_owned()),
                "[a-z]{1,3}",
            ],
            1..4,
        )
        .prop_map(|pieces| pieces.concat())
    }

    fn path() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(name(), 0..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        /// A process outside the container's cgroup cannot meet the proof, however it names its own cgroups and
        /// wherever it makes them. The test compares components, where the proof compares bytes.
        #[test]
        fn no_path_that_a_process_can_choose_meets_the_proof(parent in path(), scope in name(), below in path(), own in path()) {
            let init_components: Vec<String> = parent.iter().chain([&scope]).chain(&below).cloned().collect();
            let cut = init_components.iter().position(|name| name.contains(ID)).map(|index| &init_components[..=index]);
            let inside = cut.is_some_and(|container| own.starts_with(container));
            let init = one(&format!("/{}", init_components.join("/")));
            let claimant = one(&format!("/{}", own.join("/")));
            let failed = clause(&init, &claimant, &[2, 1]);
            let names_other =
                |name: &String| name.split(|char: char| !char.is_ascii_hexdigit()).any(|run| run.len() >= 64 && run != ID);
            let in_another = cut.is_some_and(|container| container.iter().rev().skip(1).any(names_other));
            if !inside || in_another {
                prop_assert_eq!(failed, Some(Clause::Membership));
            }
            if failed.is_none() {
                prop_assert!(inside);
                let container = cut.map_or(0, <[String]>::len);
                prop_assert!(!own.iter().skip(container).any(names_other));
            }
        }

        /// The parser of /proc/PID/stat ignores everything before the last `)`.
        #[test]
        fn a_name_cannot_forge_the_start_time(name in "[ -~\n)(]{0,40}", start in 0_u64..u64::MAX) {
            let text = format!("4242 ({name}) S 1 1 1 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 1 0 {start} 1 1\n");
            let stat = crate::process::parse_stat(text.as_bytes()).unwrap();
            prop_assert_eq!((stat.state, stat.start_time), (b'S', start));
        }
    }
}
