//! One request and its answer, bounded in time and bytes.

use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bounded::text::printable;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use reqwest::{Certificate, Client, NoProxy, Proxy, Request, RequestBuilder, Url};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

use super::{Digest, RegistryError};
use crate::limits;

/// What is never reached through a proxy: this machine.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// Sends requests.
pub(super) struct Transport {
    client: Client,
    /// There is a proxy for https.
    proxied: bool,
}

/// An answer, its body read to the end.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Of the body.
    pub(super) digest: Digest,
    /// What was asked.
    pub(super) url: Url,
}

struct Failed {
    error: RegistryError,
    /// Another try may do better.
    again: bool,
}

impl Transport {
    /// Reads the CA certificates of the machine (`SSL_CERT_FILE` and `SSL_CERT_DIR`, if they are set); connects to nobody.
    pub(super) fn new(
        authorities: &[(PathBuf, String)],
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Transport, String> {
        let authorities = certificates(authorities)?;
        let proxy = proxy(env)?;
        let builder = || {
            let builder = Client::builder()
                .connect_timeout(limits::REGISTRY_CONNECT)
                .timeout(limits::REGISTRY_REQUEST)
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .pool_max_idle_per_host(4)
                .user_agent(concat!("docker-attestor/", env!("CARGO_PKG_VERSION")))
                // The environment's other proxies are not for us: HTTP_PROXY and ALL_PROXY would take plain http, even to
                // this machine.
                .no_proxy();
            proxy.iter().cloned().fold(builder, reqwest::ClientBuilder::proxy)
        };
        let client = builder()
            .tls_certs_merge(authorities.clone())
            .build()
            // A machine without any CA certificate can speak plain http; to https it says what is missing.
            .or_else(|_| builder().tls_certs_only(authorities).build())
            .map_err(|error| format!("sigstore: the client of registries cannot be made: {}", innermost(&error)))?;
        Ok(Transport { client, proxied: proxy.is_some() })
    }

    /// The client: it follows no redirects, and bounds the time of a request.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request and reads its whole answer, tried once more when the connection or the server fails.
    pub(super) async fn send(&self, request: RequestBuilder, limit: usize) -> Result<Answer, RegistryError> {
        let request =
            request.build().map_err(|_| RegistryError::Content("a request for it cannot be written".to_owned()))?;
        let again = request.try_clone();
        match (self.send_once(request, limit).await, again) {
            (Err(Failed { again: true, .. }), Some(again)) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                self.send_once(again, limit).await.map_err(|failed| failed.error)
            }
            (outcome, _) => outcome.map_err(|failed| failed.error),
        }
    }

    async fn send_once(&self, request: Request, limit: usize) -> Result<Answer, Failed> {
        let url = request.url().clone();
        let content = |text: String| Failed { error: RegistryError::Content(text), again: false };
        let mut response = self.client.execute(request).await.map_err(|error| self.failed(&url, &error))?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Failed { error: unexpected(status, &url), again: status.is_server_error() });
        }
        // Nothing is ever unpacked: what is encoded is not what was asked for.
        if response.headers().get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(content(format!("{} answers in a Content-Encoding that was not asked for", place(&url))));
        }
        let too_long = || content(format!("{} answers more than {limit} bytes", place(&url)));
        if response.content_length().is_some_and(|length| length > limit as u64) && status.is_success() {
            return Err(too_long());
        }
        // Errors have short texts, and nobody reads them.
        let limit = if status.is_success() { limit } else { limits::REGISTRY_ERROR };
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
            // Where all of it is here already, others get their turn between the chunks.
            tokio::task::yield_now().await;
        }
        let headers = response.headers().clone();
        Ok(Answer { status, headers, body: Bytes::from(body), digest: Digest::of(hash), url })
    }

    /// Why there is no answer, and what to do about it.
    fn failed(&self, url: &Url, error: &reqwest::Error) -> Failed {
        let tls = tls(error);
        let mut text = match (error.is_timeout(), tls) {
            (true, _) if error.is_connect() => {
                format!("{} cannot be connected to within {} s", place(url), limits::REGISTRY_CONNECT.as_secs())
            }
            (true, _) => format!("{} does not answer within {} s", place(url), limits::REGISTRY_REQUEST.as_secs()),
            (_, Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))) => format!(
                "{}: its certificate is from a CA that this machine does not know: name a file with the CA's certificate in \
                 sigstore.registry_ca or SSL_CERT_FILE",
                place(url)
            ),
            (_, Some(rustls::Error::InvalidMessage(_))) => format!(
                "{} does not speak TLS: a registry that speaks plain http is named in sigstore.insecure_registries",
                place(url)
            ),
            _ => format!("{}: {}", place(url), innermost(error)),
        };
        if self.proxied && url.scheme() == "https" {
            text.push_str(" (HTTPS_PROXY is set)");
        }
        // A host that hangs has had its time, and one with the wrong certificate keeps it.
        Failed { error: RegistryError::Unavailable(text), again: !error.is_timeout() && tls.is_none() }
    }
}

/// The certificates in the files of `registry_ca`. Each is looked at now: the client would name no file.
fn certificates(files: &[(PathBuf, String)]) -> Result<Vec<Certificate>, String> {
    let mut certificates = Vec::new();
    for (path, pem) in files {
        let before = certificates.len();
        for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let number = certificates.len() - before + 1;
            let malformed = |why: &dyn std::fmt::Display| {
                format!("sigstore.registry_ca: {}: certificate {number} is malformed: {why}", path.display())
            };
            let der = der.map_err(|error| malformed(&error))?;
            webpki::anchor_from_trusted_cert(&der).map_err(|error| malformed(&error))?;
            certificates.push(Certificate::from_der(&der).map_err(|error| malformed(&error))?);
        }
        if certificates.len() == before {
            return Err(format!("sigstore.registry_ca: {}: no certificate in PEM form", path.display()));
        }
    }
    Ok(certificates)
}

/// The proxy for https, with what it is not for.
fn proxy(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<Proxy>, String> {
    let first = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| Some((name, env(name).filter(|value| !value.is_empty())?)))
    };
    let Some((name, value)) = first(["HTTPS_PROXY", "https_proxy"]) else { return Ok(None) };
    // Its value may hold a password.
    let wrong = || format!("sigstore: {name} is no URL of a proxy: write http://HOST:PORT or https://HOST:PORT");
    let text = value.to_str().ok_or_else(wrong)?;
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    // The client parses it a second time, and without a word goes its way alone where that fails.
    let url = url.filter(|url| url.as_str().parse::<http::Uri>().is_ok()).ok_or_else(wrong)?;
    let direct = first(["NO_PROXY", "no_proxy"]).and_then(|(_, hosts)| hosts.into_string().ok()).unwrap_or_default();
    let direct = NoProxy::from_string(&format!("{direct},{LOOPBACK}"));
    Ok(Some(Proxy::https(url).map_err(|_| wrong())?.no_proxy(direct)))
}

/// A status that is no answer.
pub(super) fn unexpected(status: StatusCode, url: &Url) -> RegistryError {
    let text = format!("{} answers status {}", place(url), status.as_u16());
    match status.as_u16() {
        401 | 403 | 408 | 429 | 500.. => RegistryError::Unavailable(text),
        _ => RegistryError::Content(text),
    }
}

/// The URL without what may hold a secret: presigned URLs have signatures in their query.
pub(super) fn place(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_password(None);
    let _ = url.set_username("");
    printable(url.as_str())
}

/// TLS's own error under a client's.
fn tls(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // An I/O error shows what is under the error in it, not that error itself.
        cause = match error.downcast_ref().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The cause under a client's error: it says most, and holds no URL.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    printable(&cause.to_string())
}
