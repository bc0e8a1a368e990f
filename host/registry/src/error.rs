//! Why a registry gives no answer that can be used.
//!
//! No text of an error holds a secret. URLs are shown as [`ShownUrl`]s, and what a credential helper printed or a file of logins
//! holds is never repeated.

use std::fmt;
use std::io;
use std::path::PathBuf;

use bounded::file::FileError;
use bounded::text::printable;
use url::Url;

use crate::reference::Digest;

/// A request that brought no answer, or none that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry is unreachable, or does not let us in. What it holds is unknown, and another try may do better.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The registry's answer is not what it must be.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// Why what a registry holds cannot be known just now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unreachable {
    /// The connection was not made in time.
    #[error("{url} cannot be connected to within {seconds} s{}", proxy_note(*proxied))]
    ConnectTimeout {
        /// What was asked.
        url: ShownUrl,
        /// The limit.
        seconds: u64,
        /// The request may have gone through a proxy.
        proxied: bool,
    },
    /// The answer did not come to its end in time.
    #[error("{url} does not answer within {seconds} s{}", proxy_note(*proxied))]
    ResponseTimeout {
        /// What was asked.
        url: ShownUrl,
        /// The limit.
        seconds: u64,
        /// The request may have gone through a proxy.
        proxied: bool,
    },
    /// The host's certificate is of a CA that is not trusted.
    #[error(
        "{url}: its certificate is from a CA that this machine does not know: name a file with the CA's certificate in \
         registry_ca or SSL_CERT_FILE{}", proxy_note(*proxied)
    )]
    UnknownIssuer {
        /// What was asked.
        url: ShownUrl,
        /// The request may have gone through a proxy.
        proxied: bool,
    },
    /// The host answers something else than TLS.
    #[error(
        "{url} does not speak TLS: a registry that speaks plain http is named in insecure_registries{}",
        proxy_note(*proxied)
    )]
    NoTls {
        /// What was asked.
        url: ShownUrl,
        /// The request may have gone through a proxy.
        proxied: bool,
    },
    /// The connection failed otherwise.
    #[error("{url}: {cause}{}", proxy_note(*proxied))]
    Connection {
        /// What was asked.
        url: ShownUrl,
        /// The innermost error of the HTTP client, printable and without a URL.
        cause: String,
        /// The request may have gone through a proxy.
        proxied: bool,
    },
    /// A status of a server that fails, is busy, or wants a login.
    #[error("{url} answers status {status}")]
    Status {
        /// What was asked.
        url: ShownUrl,
        /// The HTTP status.
        status: u16,
    },
    /// A redirect leads to a host that wants a login of its own.
    #[error(
        "{from} redirects to {to}, which does not let us in (status {status}): the registry's credentials are not for it"
    )]
    RedirectDenied {
        /// What was asked.
        from: ShownUrl,
        /// Where the redirect leads.
        to: ShownUrl,
        /// The HTTP status.
        status: u16,
    },
    /// The registry does not let us read the repository.
    #[error(
        "the registry {registry} does not let us read {path} {} (status {status}): see registry_credentials",
        match authenticated { true => "with the credentials that there are for it", false => "without credentials" }
    )]
    Denied {
        /// The registry.
        registry: String,
        /// The repository's path.
        path: String,
        /// Credentials were sent.
        authenticated: bool,
        /// The HTTP status.
        status: u16,
    },
    /// The registry asks for a login that fails.
    #[error("the registry {registry} asks for a login, {why}")]
    Login {
        /// The registry.
        registry: String,
        /// Why the login fails.
        why: LoginError,
    },
    /// The credentials for the registry cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

fn proxy_note(proxied: bool) -> &'static str {
    if proxied { " (HTTPS_PROXY is set)" } else { "" }
}

/// Why a registry's challenge cannot be answered. The text completes a sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// Neither Basic nor Bearer.
    #[error("of a kind that is not supported")]
    Unsupported,
    /// No credentials answer the challenge.
    #[error("and there are no credentials of that kind for it: see registry_credentials")]
    NoCredentials,
    /// The realm is no URL.
    #[error("at a realm that is no URL")]
    InvalidRealm,
    /// The realm is no place for credentials.
    #[error("at the realm {realm}, {why}")]
    ForbiddenRealm {
        /// The realm.
        realm: ShownUrl,
        /// Why it is not asked.
        why: ForbiddenUrl,
    },
    /// The realm refuses the credentials.
    #[error(
        "and {realm} refuses {} (status {status})",
        match authenticated { true => "the credentials", false => "no credentials" }
    )]
    Refused {
        /// The realm.
        realm: ShownUrl,
        /// Credentials were sent.
        authenticated: bool,
        /// The HTTP status.
        status: u16,
    },
    /// The realm answers something else than a token.
    #[error("and {realm} answers no token")]
    NoToken {
        /// The realm.
        realm: ShownUrl,
    },
    /// A stored token that no header can hold.
    #[error("and the token for it is not one line")]
    InvalidToken,
}

/// Why a registry may not send us to a URL. The text completes a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForbiddenUrl {
    /// Plain http, or another scheme.
    #[error("which is not https")]
    Insecure,
    /// The loopback of this machine.
    #[error("which is this machine itself")]
    Loopback,
    /// User information in the URL.
    #[error("with a login in it")]
    UserInfo,
}

/// What is wrong with a registry's answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// A request that HTTP cannot write.
    #[error("a request for it cannot be written")]
    InvalidRequest,
    /// The answer is compressed, which was not asked for.
    #[error("{url} answers in a Content-Encoding that was not asked for")]
    Encoding {
        /// What was asked.
        url: ShownUrl,
    },
    /// The answer is longer than it may be.
    #[error("{url} answers more than {limit} bytes")]
    TooLong {
        /// What was asked.
        url: ShownUrl,
        /// The limit in bytes.
        limit: usize,
    },
    /// A status that is no answer to the request.
    #[error("{url} answers status {status}")]
    Status {
        /// What was asked.
        url: ShownUrl,
        /// The HTTP status.
        status: u16,
    },
    /// A manifest with another digest.
    #[error("the registry answers a manifest that is not {0}")]
    OtherManifest(Digest),
    /// A blob with another digest.
    #[error("the registry answers a blob that is not {0}")]
    OtherBlob(Digest),
    /// A blob that is named somewhere and not there.
    #[error("the registry does not have the blob {0}")]
    NoBlob(Digest),
    /// A list of referrers that is no OCI index.
    #[error("the list of referrers is malformed: {0}")]
    MalformedReferrers(serde_json::Error),
    /// More referrers than are listed.
    #[error("more than {0} referrers")]
    TooManyReferrers(usize),
    /// More pages of referrers than are fetched.
    #[error("more than {0} pages of referrers")]
    TooManyPages(usize),
    /// The `Link` to the next page cannot be parsed.
    #[error("the Link is no URL")]
    InvalidLink,
    /// The `Link` to the next page leads away from the registry.
    #[error("the Link to more referrers leads to another host, or has a login in it")]
    ForeignLink,
    /// Something else than a URL was given.
    #[error("no URL")]
    InvalidUrl,
    /// A repository that no URL can name.
    #[error("{0} is no repository")]
    InvalidRepository(String),
    /// A redirect without a target.
    #[error("{url} redirects to nowhere")]
    NoLocation {
        /// What was asked.
        url: ShownUrl,
    },
    /// A redirect to where no registry may send us.
    #[error("{from} redirects to {to}, {why}")]
    ForbiddenRedirect {
        /// What was asked.
        from: ShownUrl,
        /// Where the redirect leads.
        to: ShownUrl,
        /// Why it is not followed.
        why: ForbiddenUrl,
    },
    /// More redirects than are followed.
    #[error("{url} redirects more than {limit} times")]
    TooManyRedirects {
        /// What was asked.
        url: ShownUrl,
        /// The limit.
        limit: usize,
    },
}

/// Why the credentials for a registry cannot be read. The text names the file or the helper, and nothing of what they hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A file of logins that cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: FileError,
    },
    /// The reading thread was given up.
    #[error("{}: not read", path.display())]
    NotRead {
        /// The file.
        path: PathBuf,
    },
    /// A file of logins that is not JSON of the expected form. The parser's own message would quote what it read.
    #[error("{}: malformed, line {line} column {column}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where the parser stopped.
        line: usize,
        /// Where the parser stopped.
        column: usize,
    },
    /// An entry of a file whose `auth` cannot be decoded.
    #[error("{}: {key}: auth is not base64 of USER:PASSWORD", path.display())]
    InvalidAuth {
        /// The file.
        path: PathBuf,
        /// The entry's key: a registry or a repository.
        key: String,
    },
    /// A credential helper's name that could be a path.
    #[error("a credential helper's name has other characters than letters, digits, dots, dashes")]
    HelperName,
    /// A credential helper that hangs.
    #[error("the credential helper {program} does not answer within {seconds} s")]
    HelperTimeout {
        /// The helper.
        program: String,
        /// The limit.
        seconds: u64,
    },
    /// A credential helper that cannot be run.
    #[error("the credential helper {program}: {error}")]
    HelperIo {
        /// The helper.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// A credential helper that ends with an error.
    #[error("the credential helper {program} failed")]
    HelperFailed {
        /// The helper.
        program: String,
    },
    /// A credential helper that prints something else than credentials.
    #[error("the credential helper {program} answers something else than credentials")]
    HelperAnswer {
        /// The helper.
        program: String,
    },
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// A CA certificate that cannot be used.
    #[error("registry_ca: {}: certificate {number} is malformed: {why}", path.display())]
    MalformedAuthority {
        /// The file.
        path: PathBuf,
        /// The certificate's place in the file, from 1.
        number: usize,
        /// What the parser says.
        why: String,
    },
    /// A file without a CA certificate.
    #[error("registry_ca: {}: no certificate in PEM form", path.display())]
    NoAuthority {
        /// The file.
        path: PathBuf,
    },
    /// A proxy variable that cannot be used. Its value may hold a password, so only its name is shown.
    #[error("{0} is no URL of a proxy: write http://HOST:PORT or https://HOST:PORT")]
    Proxy(&'static str),
    /// The HTTP client cannot be made.
    #[error("the client of registries cannot be made: {0}")]
    Client(String),
}

/// A URL as it may be shown: without user, password, query and fragment. Presigned URLs have signatures in their query.
#[derive(Clone, PartialEq, Eq)]
pub struct ShownUrl(String);

impl From<&Url> for ShownUrl {
    fn from(url: &Url) -> ShownUrl {
        let mut url = url.clone();
        url.set_query(None);
        url.set_fragment(None);
        let _ = url.set_password(None);
        let _ = url.set_username("");
        ShownUrl(printable(url.as_str()))
    }
}

impl fmt::Display for ShownUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for ShownUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
