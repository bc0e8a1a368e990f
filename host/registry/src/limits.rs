//! Every limit in one table, each with its reason.

use std::time::Duration;

/// Connecting to a host. A host that takes longer is down or far away.
pub(crate) const CONNECT: Duration = Duration::from_secs(2);
/// One request, to the end of its body. An attestation waits for several of them and has 10 s.
pub(crate) const REQUEST: Duration = Duration::from_secs(5);
/// The pause before a request is tried once more. A server that restarts may answer then.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Idle connections to one host. A verification sends one request at a time, and four run for one registry.
pub(crate) const IDLE_CONNECTIONS: usize = 4;
/// Redirects that one request follows. Registries send once, to where their blobs are.
pub(crate) const REDIRECTS: usize = 5;
/// Bytes of a manifest (the distribution specification asks registries for 4 MiB at least), or of a page of referrers.
pub(crate) const MANIFEST: usize = 8 << 20;
/// Pages of referrers. Registries list some hundred on a page.
pub(crate) const REFERRERS_PAGES: usize = 32;
/// Bytes of an error's body. Only its status is used.
pub(crate) const ERROR_BODY: usize = 64 << 10;
/// Bytes of one header with challenges. A realm, a service and a scope take some 200.
pub(crate) const CHALLENGE: usize = 4_096;
/// Bytes of a token service's answer. A token has some KiB.
pub(crate) const TOKEN_ANSWER: usize = 64 << 10;
/// The longest use of a token or a login before it is asked for again. What was revoked must end.
pub(crate) const TOKEN: Duration = Duration::from_secs(3_600);
/// Tokens that are cached, one for each repository. Each has some KiB.
pub(crate) const TOKENS: usize = 1_024;
/// Bytes of a file of logins. An entry has some 200.
pub(crate) const LOGIN_FILE: u64 = 1 << 20;
/// One call of a credential helper. Helpers ask a service of the cloud, within a second or two.
pub(crate) const HELPER: Duration = Duration::from_secs(5);
/// How long the output of a helper that has ended is read on. Something that the helper started may hold it open for ever.
pub(crate) const HELPER_REST: Duration = Duration::from_millis(100);
/// Bytes that a credential helper may print. A token has some KiB.
pub(crate) const HELPER_OUTPUT: u64 = 64 << 10;
/// Bytes of a repository's path, as the distribution specification recommends.
pub(crate) const REPOSITORY_PATH: usize = 255;
