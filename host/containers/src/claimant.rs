//! The claimant of a call: the part of a process's identity that the process cannot choose.
//!
//! Each claimant waits in a lane of its own (see [`bounded::lanes`]), so that a claimant with many calls delays only
//! its own calls.

use crate::process::{Origin, PidNamespace, Process};

/// The key by which calls share a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claimant {
    /// A process in a container, identified by the outermost pid namespace below the attestor's that the process is in.
    /// All processes of a container share that namespace, whatever namespaces they make themselves.
    Namespace(PidNamespace),
    /// Any other process, identified by its user (see [`Origin::user`]). Also covers a process in a pid namespace that
    /// neither root nor the engine's user made, because a user can make thousands of such namespaces.
    User(u32),
    /// The attestor itself.
    Attestor,
}

impl Claimant {
    /// The claimant that a process belongs to. `engine_uid` is the user of the engine's process, and that user makes
    /// the engine's containers.
    pub fn of(process: &dyn Process, engine_uid: u32) -> Claimant {
        match process.origin() {
            Ok(Origin { namespace: Some((namespace, maker)), .. }) => match maker {
                Some(uid) if uid != 0 && uid != engine_uid => Claimant::User(uid),
                _ => Claimant::Namespace(namespace),
            },
            Ok(Origin { user, .. }) => Claimant::User(user),
            Err(_) => Claimant::User(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::recorded::RecordedProcess;

    #[test]
    fn only_root_and_the_engine_make_namespaces_with_lanes_of_their_own() {
        let claimant = |maker: Option<u32>, engine_uid: u32| {
            let process = RecordedProcess {
                pid_namespaces: vec![9, 7, 1],
                pid_namespace_creator: maker,
                uid: 5,
                ..RecordedProcess::default()
            };
            Claimant::of(&process, engine_uid)
        };
        let container = Claimant::Namespace(PidNamespace { inode: 7 });
        for (maker, engine_uid) in [(None, 0), (Some(0), 0), (Some(1_000), 1_000)] {
            assert_eq!(claimant(maker, engine_uid), container);
        }
        // A user has one lane, however many namespaces the user makes.
        assert_eq!(claimant(Some(1_000), 0), Claimant::User(1_000));
        let of_host = RecordedProcess { pid_namespaces: vec![1], uid: 5, ..RecordedProcess::default() };
        assert_eq!(Claimant::of(&of_host, 0), Claimant::User(5));
    }
}
