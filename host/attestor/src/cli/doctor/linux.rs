//! What doctor checks on Linux alone: capabilities, /proc, cgroups, limits, and the engine's socket.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use bounded::file;
use containers::ProofContext;
use containers::limits::{PROC_FILE, PROCESSES_KEPT};
use containers::process::Processes;
use containers::process::linux::{has_cap_sys_ptrace, processes_kept};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use sandbox::limits::COMPILER_MEMORY;

use super::{Finding, judge_proof};
use crate::limits::{AGENT_MEMORY, AGENT_TASKS};

/// What a v1 hierarchy shows where memory is not limited: the largest multiple of a page.
const UNLIMITED: u64 = 1 << 62;

/// Judges the rights and limits of the process with this pid, or of this process.
pub(super) fn judge_process(pid: Option<u32>, components_from_files: bool, declared: bool) -> Vec<Finding> {
    let folder = match pid {
        Some(pid) => PathBuf::from(format!("/proc/{pid}")),
        None => PathBuf::from("/proc/self"),
    };
    // The kernel shows the cgroup paths of any process as this process sees them, so they fit this process's mounts.
    let (process, mounts) = match (ProcessTexts::read(&folder), read(Path::new("/proc/self/mountinfo"))) {
        (Ok(process), Ok(mounts)) => (process, mounts),
        (Err(error), _) | (_, Err(error)) => {
            return vec![Finding::bad(
                "processes",
                error,
                "run this as the agent's user or as root, with the host's /proc",
            )];
        }
    };
    let reads_namespaces = has_cap_sys_ptrace(&process.status);
    let cgroups = Cgroups { text: &process.cgroup, mounts: &mounts };
    let mut findings = vec![
        judge_capabilities(reads_namespaces),
        judge_proof(ProofContext { reads_namespaces, declared }),
        judge_proc(&process.mountinfo, &process.status, reads_namespaces),
        cgroups.judge_version(),
    ];
    findings.extend(cgroups.judge_memory(components_from_files));
    findings.extend(cgroups.judge_tasks());
    findings.push(judge_descriptors(&process.limits));
    findings
}

/// [`judge_process`] has judged what Linux can refuse.
pub(super) fn judge_processes(_: &dyn Processes) -> Vec<Finding> {
    Vec::new()
}

/// Texts of one process, from its folder in /proc.
struct ProcessTexts {
    status: String,
    limits: String,
    cgroup: String,
    mountinfo: String,
}

impl ProcessTexts {
    fn read(folder: &Path) -> Result<ProcessTexts, String> {
        let text = |name: &str| read(&folder.join(name));
        Ok(ProcessTexts {
            status: text("status")?,
            limits: text("limits")?,
            cgroup: text("cgroup")?,
            mountinfo: text("mountinfo")?,
        })
    }
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = file::read(path, PROC_FILE as u64).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// No other capability is needed: what the proof reads is open to every user, and the socket is judged by itself.
fn judge_capabilities(reads_namespaces: bool) -> Finding {
    match reads_namespaces {
        true => Finding::good("capabilities", "CAP_SYS_PTRACE is effective"),
        false => Finding::warning(
            "capabilities",
            "CAP_SYS_PTRACE is missing, so that namespaces of other users' processes cannot be read",
            "run the agent as root, or set AmbientCapabilities=CAP_SYS_PTRACE in its unit",
        ),
    }
}

/// Judges how /proc is mounted for the process (proc(5)): `hidepid` hides the processes of other users, and `subset=pid` hides
/// /proc/uptime.
fn judge_proc(mountinfo: &str, status: &str, reads_namespaces: bool) -> Finding {
    const CHECK: &str = "/proc";
    let mut mounts = mountinfo.lines().filter_map(Mount::parse);
    // A later mount lies above an earlier one.
    let Some(proc) = mounts.rfind(|mount| mount.point == "/proc" && mount.kind == "proc") else {
        return Finding::bad(CHECK, "no proc filesystem is mounted there", "mount the host's /proc for the agent");
    };
    let option = |name: &str| proc.options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
    if option("subset").is_some() {
        let remedy = "remove ProcSubset=pid from the agent's unit";
        return Finding::bad(CHECK, "mounted with subset=pid, so that /proc/uptime is missing", remedy);
    }
    let hidepid = match option("hidepid") {
        None | Some("0" | "off") => return Finding::good(CHECK, "shows every process"),
        Some(hidepid) => hidepid,
    };
    // The group may see all, except with hidepid=ptraceable.
    let group = option("gid").filter(|_| !matches!(hidepid, "4" | "ptraceable"));
    let in_group = group.is_some_and(|group| {
        let mut groups =
            status.lines().filter_map(|line| line.strip_prefix("Groups:").or_else(|| line.strip_prefix("Gid:")));
        groups.any(|groups| groups.split_ascii_whitespace().any(|gid| gid == group))
    });
    match reads_namespaces || in_group {
        true => {
            Finding::good(CHECK, format!("mounted with hidepid={hidepid}, which does not hide processes from this one"))
        }
        false => Finding::bad(
            CHECK,
            format!("mounted with hidepid={hidepid}, which hides the processes of other users"),
            "give the agent CAP_SYS_PTRACE, or remove hidepid= from the mount and ProtectProc= from the agent's unit",
        ),
    }
}

/// A line of mountinfo (proc_pid_mountinfo(5)). Names that the kernel escapes are left as they are, and match nothing.
struct Mount<'a> {
    /// The folder of the filesystem that is mounted.
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    /// The options of the filesystem.
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Mount<'a>> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut filesystem = filesystem.split(' ');
        Some(Mount { root: mount.next()?, point: mount.next()?, kind: filesystem.next()?, options: filesystem.nth(1)? })
    }
}

/// The cgroups of a process, and the mounts through which their files are read.
struct Cgroups<'a> {
    /// The text of /proc/PID/cgroup.
    text: &'a str,
    /// The text of /proc/self/mountinfo.
    mounts: &'a str,
}

impl Cgroups<'_> {
    /// The proof reads both versions (cgroups(7)).
    fn judge_version(&self) -> Finding {
        let (v2, v1): (Vec<&str>, Vec<&str>) =
            self.text.lines().filter(|line| !line.is_empty()).partition(|line| line.starts_with("0::"));
        match (v1.is_empty(), v2.is_empty()) {
            (true, true) => Finding::bad("cgroups", "this process is in none", "use a kernel with cgroups"),
            (true, false) => Finding::good("cgroups", "version 2"),
            (false, true) => Finding::good("cgroups", "version 1"),
            (false, false) => Finding::good("cgroups", "hybrid: version 1, and version 2 beside it"),
        }
    }

    fn judge_memory(&self, components_from_files: bool) -> Option<Finding> {
        const CHECK: &str = "memory";
        let wanted = AGENT_MEMORY + if components_from_files { COMPILER_MEMORY } else { 0 };
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        Some(match self.limit("memory", "memory.max", "memory.limit_in_bytes") {
            None => Finding::skipped(CHECK, "the cgroup's limit cannot be read here"),
            Some(None) => Finding::good(CHECK, "the cgroup has no limit"),
            Some(Some(limit)) if limit >= wanted => Finding::good(CHECK, format!("the cgroup may take {}", mib(limit))),
            Some(Some(limit)) => Finding::warning(
                CHECK,
                format!("the cgroup may take {}, and {} leave room for everything", mib(limit), mib(wanted)),
                "raise MemoryMax= of the agent's unit, or its container's limit; OOMPolicy=continue keeps the agent",
            ),
        })
    }

    fn judge_tasks(&self) -> Option<Finding> {
        const CHECK: &str = "tasks";
        Some(match self.limit("pids", "pids.max", "pids.max") {
            None => Finding::skipped(CHECK, "the cgroup's limit cannot be read here"),
            Some(None) => Finding::good(CHECK, "the cgroup has no limit"),
            Some(Some(limit)) if limit >= AGENT_TASKS => Finding::good(CHECK, format!("the cgroup may have {limit}")),
            Some(Some(limit)) => Finding::warning(
                CHECK,
                format!("the cgroup may have {limit}, and agent and plugin may need {AGENT_TASKS}"),
                "raise TasksMax= of the agent's unit, or its container's limit of pids",
            ),
        })
    }

    /// The lowest limit of the process's cgroup and of those above it, in the hierarchy that has this controller. `Some(None)` if none of
    /// them has a limit, and `None` if no file could be read.
    fn limit(&self, controller: &str, v2: &str, v1: &str) -> Option<Option<u64>> {
        let of_v1 = self.text.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|name| name == controller).then_some(path)
        });
        let (path, kind, file) = match of_v1 {
            Some(path) => (path, "cgroup", v1),
            None => (self.text.lines().find_map(|line| line.strip_prefix("0::"))?, "cgroup2", v2),
        };
        let mut mounts = self.mounts.lines().filter_map(Mount::parse);
        let mount = mounts.find(|mount| {
            mount.kind == kind && (kind == "cgroup2" || mount.options.split(',').any(|option| option == controller))
        })?;
        // A cgroup above the mounted one has no file here.
        let below = Path::new(path).strip_prefix(mount.root).ok()?;
        if below.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return None;
        }
        let (mut lowest, mut found) = (None, false);
        let folder = Path::new(mount.point).join(below);
        for folder in folder.ancestors().take_while(|folder| folder.starts_with(mount.point)) {
            // The uppermost cgroup has no such file.
            let Ok(text) = read(&folder.join(file)) else { continue };
            found = true;
            let limit = text.trim().parse::<u64>().ok().filter(|limit| *limit < UNLIMITED);
            lowest = lowest.into_iter().chain(limit).min();
        }
        // In the uppermost cgroup itself nothing is limited.
        (found || below.as_os_str().is_empty()).then_some(lowest)
    }
}

/// Judges the hard limit of descriptors in the text of /proc/PID/limits: the plugin raises its soft limit to it.
fn judge_descriptors(limits: &str) -> Finding {
    const CHECK: &str = "descriptors";
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let hard = line.and_then(|line| line.split_ascii_whitespace().nth(1));
    let hard = hard.and_then(|hard| if hard == "unlimited" { Some(u64::MAX) } else { hard.parse().ok() });
    match hard.map(|hard| (hard, processes_kept(hard))) {
        None => Finding::skipped(CHECK, "/proc/PID/limits does not say how many files may be open"),
        Some((hard, kept)) if kept >= PROCESSES_KEPT => {
            Finding::good(CHECK, format!("{hard} may be open, so that {kept} processes are kept open"))
        }
        Some((hard, kept)) => Finding::warning(
            CHECK,
            format!("{hard} may be open, so that only {kept} processes are kept open, of {PROCESSES_KEPT}"),
            "raise LimitNOFILE= of the agent's unit",
        ),
    }
}

/// Judges whether this process may use the engine's socket, and says who else may. Whoever may use it is root on this machine.
pub(super) fn judge_socket(path: &Path) -> Finding {
    const CHECK: &str = "socket";
    let name = path.display();
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) => {
            let remedy = "see that the engine runs, and that docker_socket_path names its socket";
            return Finding::bad(CHECK, format!("{name}: {error}"), remedy);
        }
    };
    if !metadata.file_type().is_socket() {
        return Finding::bad(CHECK, format!("{name} is no socket"), "name the engine's socket in docker_socket_path");
    }
    let (mode, owner, group) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    let seen = format!("{name}: mode {mode:04o}, user {owner}, group {group}");
    let own = rustix::process::geteuid().as_raw();
    if let Err(error) = accessat(CWD, path, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS) {
        return Finding::bad(
            CHECK,
            format!("{seen}: user {own} may not use it: {error}"),
            format!("run the agent as root or in group {group}, or run this as the agent's user"),
        );
    }
    match mode & 0o002 == 0 {
        true => Finding::good(CHECK, format!("{seen}: user {own} may use it")),
        false => Finding::warning(
            CHECK,
            format!("{seen}: every user of this machine may use it, and so is root"),
            format!("chmod o-rwx {name}"),
        ),
    }
}

#[cfg(test)]
mod tests;
