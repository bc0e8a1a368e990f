//! Places for sockets of tests on Unix, and the test of sockets of another user.

use std::path::PathBuf;
use std::time::Duration;

use spire_plugin::Account;

use super::super::Output;
use super::measured;

/// A folder for sockets.
pub(super) struct Place(tempfile::TempDir);

impl Place {
    pub(super) fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// The account of this process, and one that is neither that nor root.
pub(super) fn owners() -> [Account; 2] {
    let me = rustix::process::geteuid().as_raw();
    [Account::Uid(me), Account::Uid(me + 1)]
}

#[tokio::test]
async fn silent_sockets_of_another_user_are_waited_for_half_a_second_in_all() {
    let [_, other] = owners();
    let (out, took, _, failure) = measured(&other, 200, Output::Json).await;
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    let answers: serde_json::Value = serde_json::from_slice(&out.0).unwrap();
    assert_eq!((answers[0]["pid"].as_u64(), answers.as_array().unwrap().len()), (Some(7), 1));
    assert!(failure.ends_with("within 0.5 s; and 190 more"), "{failure}");
}
