//! Every limit in one table, each with its reason.

use std::time::Duration;

/// Connecting to a registry or the log.
pub(crate) const REGISTRY_CONNECT: Duration = Duration::from_secs(2);
/// One request of a registry or the log, to the end of its body.
pub(crate) const REGISTRY_REQUEST: Duration = Duration::from_secs(5);
/// Redirects that one request follows.
pub(crate) const REDIRECTS: usize = 5;
/// A manifest (the distribution specification asks registries for 4 MiB at least), or a page of referrers.
pub(crate) const MANIFEST: usize = 8 << 20;
/// Pages of referrers.
pub(crate) const REFERRERS_PAGES: usize = 32;
/// The body of an error that a registry answers; nobody reads it.
pub(crate) const REGISTRY_ERROR: usize = 64 << 10;
/// A token service's answer.
pub(crate) const TOKEN_ANSWER: usize = 64 << 10;
/// How long a token or a login is used at most before it is asked for again.
pub(crate) const TOKEN: Duration = Duration::from_secs(3_600);
/// Tokens that are kept, one for each repository.
pub(crate) const TOKENS: usize = 1_024;
/// A file of logins.
pub(crate) const LOGIN_FILE: u64 = 1 << 20;
/// One call of a credential helper.
pub(crate) const HELPER: Duration = Duration::from_secs(5);
/// How long a credential helper that has ended is listened to while something that it started holds its output open.
pub(crate) const HELPER_REST: Duration = Duration::from_millis(100);
/// Bytes that a credential helper may print.
pub(crate) const HELPER_OUTPUT: u64 = 64 << 10;
