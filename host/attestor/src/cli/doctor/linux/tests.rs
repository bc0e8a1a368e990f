use std::fs;

use super::super::Judgement::{self, Bad, Good, Skipped, Warning};
use super::*;

fn proc_mount(options: &str) -> String {
    format!("20 1 0:4 / / rw - ext4 /dev/x rw\n25 20 0:24 / /proc rw,nosuid shared:12 - proc proc rw{options}\n")
}

#[test]
fn hidepid_is_bad_unless_it_hides_nothing_from_the_agent() {
    let member = "Gid:\t7\t7\t7\t7\nGroups:\t5 998 \n";
    for (options, status, capable, judgement) in [
        ("", "", false, Good),
        (",hidepid=0", "", false, Good),
        (",hidepid=off", "", false, Good),
        (",hidepid=2", "", false, Bad),
        (",hidepid=2", "", true, Good),
        (",hidepid=invisible", "", false, Bad),
        (",gid=998,hidepid=invisible", member, false, Good),
        (",gid=7,hidepid=invisible", member, false, Good),
        (",gid=99,hidepid=invisible", member, false, Bad),
        (",gid=998,hidepid=ptraceable", member, false, Bad),
        (",hidepid=invisible,subset=pid", "", true, Bad),
    ] {
        let found = judge_proc(&proc_mount(options), status, capable);
        assert_eq!(found.judgement, judgement, "{options}: {found:?}");
        assert_eq!(found.remedy.is_some(), judgement == Bad, "{found:?}");
    }
    // systemd's ProtectProc= mounts a second one over the first.
    let twice = proc_mount("") + &proc_mount(",hidepid=2");
    assert_eq!(judge_proc(&twice, "", false).judgement, Bad);
    for nothing in ["", "nonsense", "25 20 0:24 / /proc rw - tmpfs none rw", " - ", "1 2 3 4 - "] {
        assert_eq!(judge_proc(nothing, "", true).judgement, Bad, "{nothing}");
    }
}

#[test]
fn the_version_of_cgroups_is_that_of_the_process() {
    for (text, seen) in [
        ("0::/system.slice/spire-agent.service\n", "version 2"),
        ("5:memory:/a\n1:name=systemd:/a\n", "version 1"),
        ("5:memory:/a\n0::/a\n", "hybrid"),
        ("", "in none"),
    ] {
        let found = Cgroups { text, mounts: "" }.judge_version();
        assert!(found.seen.contains(seen), "{found:?}");
    }
}

/// Files of a cgroup filesystem in a folder that `mountinfo` says is one.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Files(folder)
    }

    fn mounts(&self, root: &str, filesystem: &str) -> String {
        format!("30 20 0:26 {root} {} rw shared:4 - {filesystem}\n", self.0.path().display())
    }
}

#[test]
fn the_lowest_limit_up_to_the_mount_counts() {
    let files = Files::new(&[
        ("a.slice/memory.max", "536870912\n"),
        ("a.slice/b.service/memory.max", "max\n"),
        ("a.slice/c.service/memory.max", "134217728\n"),
        ("a.slice/b.service/pids.max", "64\n"),
        ("d/memory.max", "max\n"),
        ("e/memory.max", "nonsense\n"),
    ]);
    let mounts = files.mounts("/", "cgroup2 cgroup2 rw,nsdelegate");
    let judged = |path: &str, compiler: bool| -> (Judgement, Judgement, String) {
        let text = format!("0::{path}\n");
        let cgroups = Cgroups { text: &text, mounts: &mounts };
        let (memory, tasks) = (cgroups.judge_memory(compiler).unwrap(), cgroups.judge_tasks().unwrap());
        (memory.judgement, tasks.judgement, memory.seen)
    };
    assert_eq!(judged("/a.slice/b.service", false), (Good, Warning, "the cgroup may take 512 MiB".to_owned()));
    assert_eq!(judged("/a.slice/b.service", true).0, Warning, "the compiler needs room");
    assert_eq!(judged("/a.slice/c.service", false).0, Warning);
    assert_eq!(judged("/d", true), (Good, Skipped, "the cgroup has no limit".to_owned()));
    assert_eq!(judged("/e", true).0, Good);
    assert_eq!(judged("/", false).0, Good, "the uppermost cgroup has no file");
    for outside in ["/../a.slice", "/gone", "/a.slice/../../etc", "relative"] {
        assert_eq!(judged(outside, false).0, Skipped, "{outside}");
    }
    let below = files.mounts("/docker/x", "cgroup2 cgroup2 rw");
    let cgroups = Cgroups { text: "0::/docker/x/a.slice/c.service", mounts: &below };
    assert_eq!(cgroups.judge_memory(false).unwrap().judgement, Warning, "a mount shows a part of the hierarchy");
}

#[test]
fn a_v1_hierarchy_is_found_by_its_controller() {
    let files = Files::new(&[
        ("agent/memory.limit_in_bytes", "67108864\n"),
        ("free/memory.limit_in_bytes", "9223372036854771712\n"),
    ]);
    let mounts = files.mounts("/", "cgroup cgroup rw,memory");
    for (text, judgement) in [
        ("9:memory:/agent\n0::/agent\n", Warning),
        ("9:memory:/free\n", Good),
        ("9:cpu,memory:/agent\n", Warning),
        ("9:cpu:/agent\n0::/agent\n", Skipped),
    ] {
        assert_eq!(Cgroups { text, mounts: &mounts }.judge_memory(false).unwrap().judgement, judgement, "{text}");
    }
}

#[test]
fn too_few_descriptors_are_warned_of_with_what_they_cost() {
    let limits = |hard: &str| {
        format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max processes             1                    2                    processes \n\
             Max open files            1024                 {hard:20} files     \n"
        )
    };
    for (hard, judgement, seen) in [
        ("524288", Good, "1024 processes"),
        ("unlimited", Good, "1024 processes"),
        ("24576", Good, "1024 processes"),
        ("4096", Warning, "only 170 processes"),
        ("1", Warning, "only 0 processes"),
        ("x", Skipped, ""),
    ] {
        let found = judge_descriptors(&limits(hard));
        assert!(found.judgement == judgement && found.seen.contains(seen), "{hard}: {found:?}");
    }
    assert_eq!(judge_descriptors("").judgement, Skipped);
}

#[test]
fn a_socket_says_who_may_use_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let found = judge_socket(&path);
    assert!(found.judgement == Bad && found.seen.contains("No such file"), "{found:?}");
    fs::write(&path, "").unwrap();
    assert!(judge_socket(&path).seen.contains("is no socket"));
    fs::remove_file(&path).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    for (mode, judgement) in [(0o660, Good), (0o666, Warning)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let found = judge_socket(&path);
        assert_eq!(found.judgement, judgement, "{found:?}");
        assert!(found.seen.contains(&format!("mode {mode:04o}")), "{found:?}");
    }
    if rustix::process::geteuid().is_root() {
        println!("skipped: root may use every socket");
        return;
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(judge_socket(&path).judgement, Bad);
}

#[test]
fn the_rights_and_limits_of_this_process_are_judged_on_the_real_machine() {
    let found = judge_process(None, true, false);
    for check in ["capabilities", "proof", "/proc", "cgroups", "memory", "tasks", "descriptors"] {
        assert!(found.iter().any(|finding| finding.check == check), "{check}: {found:?}");
    }
    let [gone] = judge_process(Some(u32::MAX), true, false).try_into().unwrap();
    assert!(gone.judgement == Bad && gone.seen.contains("no such file"), "{gone:?}");
}
