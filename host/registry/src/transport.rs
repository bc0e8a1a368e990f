//! The transport: one request and its answer, bounded in time and bytes.

use std::error::Error as StdError;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use bounded::text::printable;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use reqwest::{Certificate, Client, NoProxy, Proxy, Request, RequestBuilder, Url};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

use crate::error::{ContentError, Error, SetupError, ShownUrl, Unreachable};
use crate::limits;
use crate::reference::Digest;

/// The hosts that are never reached through a proxy: this machine.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// Sends requests.
pub(crate) struct Transport {
    client: Client,
    /// The environment names a proxy for https.
    proxied: bool,
}

/// A response whose body was read to its end.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The body's digest.
    pub(crate) digest: Digest,
    /// The URL of the request.
    pub(crate) url: Url,
}

/// A try that failed.
struct Failed {
    error: Error,
    /// Another try may do better.
    retryable: bool,
}

impl Transport {
    /// Makes a client, and does not connect. Reads the CA certificates of the machine (`SSL_CERT_FILE` and `SSL_CERT_DIR`, if they
    /// are set). On Windows the system's own verifier judges certificates, with its store and `authorities`.
    pub(crate) fn new(
        authorities: &[(PathBuf, String)],
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Transport, SetupError> {
        let authorities = certificates(authorities)?;
        let proxy = proxy(env)?;
        let builder = || {
            let builder = Client::builder()
                .connect_timeout(limits::CONNECT)
                .timeout(limits::REQUEST)
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .pool_max_idle_per_host(limits::IDLE_CONNECTIONS)
                .user_agent(concat!("docker-attestor/", env!("CARGO_PKG_VERSION")))
                // HTTP_PROXY and ALL_PROXY would take plain http, even to this machine.
                .no_proxy();
            proxy.iter().cloned().fold(builder, reqwest::ClientBuilder::proxy)
        };
        let client = builder()
            .tls_certs_merge(authorities.clone())
            .build()
            // A machine without any CA certificate can still speak plain http. An https request then fails with its reason.
            .or_else(|_| builder().tls_certs_only(authorities).build())
            .map_err(|error| SetupError::Client(innermost(&error)))?;
        Ok(Transport { client, proxied: proxy.is_some() })
    }

    /// The client: it follows no redirects, and bounds the time of a request.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request and reads the whole response. The request is retried once when the connection or the server fails.
    pub(crate) async fn send(&self, request: RequestBuilder, limit: usize) -> Result<Response, Error> {
        let request = request.build().map_err(|_| ContentError::InvalidRequest)?;
        let retry = request.try_clone();
        match (self.send_once(request, limit).await, retry) {
            (Err(Failed { retryable: true, .. }), Some(retry)) => {
                tokio::time::sleep(limits::RETRY_PAUSE).await;
                self.send_once(retry, limit).await.map_err(|failed| failed.error)
            }
            (outcome, _) => outcome.map_err(|failed| failed.error),
        }
    }

    async fn send_once(&self, request: Request, limit: usize) -> Result<Response, Failed> {
        let url = request.url().clone();
        let content = |error: ContentError| Failed { error: error.into(), retryable: false };
        let mut response = self.client.execute(request).await.map_err(|error| self.failed(&url, &error))?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Failed { error: unexpected(status, &url), retryable: status.is_server_error() });
        }
        // Nothing is ever decompressed: no request asks for an encoding.
        if response.headers().get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(content(ContentError::Encoding { url: ShownUrl::from(&url) }));
        }
        let too_long = || content(ContentError::TooLong { url: ShownUrl::from(&url), limit });
        if response.content_length().is_some_and(|length| length > limit as u64) && status.is_success() {
            return Err(too_long());
        }
        // The body of an error is not used.
        let limit = if status.is_success() { limit } else { limits::ERROR_BODY };
        let mut body = Vec::new();
        let mut hash = Sha256::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&url, &error))? {
            if body.len() + chunk.len() > limit {
                if !status.is_success() {
                    break;
                }
                return Err(too_long());
            }
            hash.update(&chunk);
            body.extend_from_slice(&chunk);
            // Chunks that are here already would keep the thread busy: other tasks get their turn between them.
            tokio::task::yield_now().await;
        }
        let headers = response.headers().clone();
        Ok(Response { status, headers, body: Bytes::from(body), digest: Digest::of(hash), url })
    }

    /// The error of a request without a response.
    fn failed(&self, url: &Url, error: &reqwest::Error) -> Failed {
        let tls = tls(error);
        let proxied = self.proxied && url.scheme() == "https";
        // A host that hangs has had its time, and one with the wrong certificate keeps it.
        let retryable = !error.is_timeout() && tls.is_none();
        let url = ShownUrl::from(url);
        let error = match (error.is_timeout(), tls) {
            (true, _) if error.is_connect() => {
                Unreachable::ConnectTimeout { url, seconds: limits::CONNECT.as_secs(), proxied }
            }
            (true, _) => Unreachable::ResponseTimeout { url, seconds: limits::REQUEST.as_secs(), proxied },
            (_, Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))) => {
                Unreachable::UnknownIssuer { url, proxied }
            }
            (_, Some(rustls::Error::InvalidMessage(_))) => Unreachable::NoTls { url, proxied },
            _ => Unreachable::Connection { url, cause: innermost(error), proxied },
        };
        Failed { error: error.into(), retryable }
    }
}

/// Parses the certificates in the files of `registry_ca` one by one, so that an error can name the file.
fn certificates(files: &[(PathBuf, String)]) -> Result<Vec<Certificate>, SetupError> {
    let mut certificates = Vec::new();
    for (path, pem) in files {
        let before = certificates.len();
        for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let number = certificates.len() - before + 1;
            let malformed = |why: &dyn std::fmt::Display| SetupError::MalformedAuthority {
                path: path.clone(),
                number,
                why: why.to_string(),
            };
            let der = der.map_err(|error| malformed(&error))?;
            webpki::anchor_from_trusted_cert(&der).map_err(|error| malformed(&error))?;
            certificates.push(Certificate::from_der(&der).map_err(|error| malformed(&error))?);
        }
        if certificates.len() == before {
            return Err(SetupError::NoAuthority { path: path.clone() });
        }
    }
    Ok(certificates)
}

/// The proxy for https that the environment names, with the hosts that are reached without it.
fn proxy(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<Proxy>, SetupError> {
    let first = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| Some((name, env(name).filter(|value| !value.is_empty())?)))
    };
    let Some((name, value)) = first(["HTTPS_PROXY", "https_proxy"]) else { return Ok(None) };
    let wrong = || SetupError::Proxy(name);
    let text = value.to_str().ok_or_else(wrong)?;
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    // The HTTP client parses the URL a second time, and ignores the proxy without a word where that fails.
    let url = url.filter(|url| url.as_str().parse::<http::Uri>().is_ok()).ok_or_else(wrong)?;
    let direct = first(["NO_PROXY", "no_proxy"]).and_then(|(_, hosts)| hosts.into_string().ok()).unwrap_or_default();
    let direct = NoProxy::from_string(&format!("{direct},{LOOPBACK}"));
    Ok(Some(Proxy::https(url).map_err(|_| wrong())?.no_proxy(direct)))
}

/// The error of a status that is no answer to the request.
pub(crate) fn unexpected(status: StatusCode, url: &Url) -> Error {
    let (url, status) = (ShownUrl::from(url), status.as_u16());
    match status {
        401 | 403 | 408 | 429 | 500.. => Unreachable::Status { url, status }.into(),
        _ => ContentError::Status { url, status }.into(),
    }
}

/// The TLS error under an HTTP client's error.
fn tls(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // The source of an I/O error is the source of the error inside, not that error itself.
        cause = match error.downcast_ref().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The text of the innermost cause of an error: it says most, and holds no URL.
fn innermost(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    printable(&cause.to_string())
}
