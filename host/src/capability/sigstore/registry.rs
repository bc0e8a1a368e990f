//! A client of OCI registries that trusts none: every answer is bounded in time and bytes, every digest checked, and
//! credentials go to the host that they are for and to nobody else.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use reqwest::{Certificate, Client, Method, Response, Url};
use serde::{Deserialize, Deserializer};

use super::credentials::{Keyring, Login};
use crate::config::Credentials;
use crate::error::printable;
use crate::limits;

/// Docker Hub's name in references, and the host of its registry.
const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Repository {
    registry: String,
    path: String,
}

impl Repository {
    /// The registry's name: `docker.io`, or a host with its port.
    pub(super) fn host(&self) -> &str {
        &self.registry
    }

    /// The path in the registry.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.path)
    }
}

/// `sha256:` and 64 lowercase hex digits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Digest(String);

impl Digest {
    /// Nothing else is a digest here.
    pub(super) fn new(text: &str) -> Result<Digest, String> {
        let hex = text
            .strip_prefix("sha256:")
            .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        hex.map(|hex| Digest(hex.to_owned()))
            .ok_or_else(|| format!("{:?} is no digest: sha256: and 64 lowercase hex digits", printable(text)))
    }

    /// The digits.
    pub(super) fn hex(&self) -> &str {
        &self.0
    }

    fn is_of(&self, bytes: &[u8]) -> bool {
        sigstore_verify::crypto::sha256(bytes).to_hex() == self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::new(&text).map_err(serde::de::Error::custom)
    }
}

/// Parses `repository@sha256:…` as engines print it.
pub(super) fn parse_reference(text: &str) -> Result<(Repository, Digest), String> {
    let (name, digest) = text
        .split_once('@')
        .ok_or_else(|| format!("{:?} names no digest: write REPOSITORY@sha256:…", printable(text)))?;
    let digest = Digest::new(digest)?;
    // The first component is a registry if it looks like a host, else the repository is Docker Hub's.
    let (registry, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path.to_owned()),
        Some(_) => (HUB, name.to_owned()),
        None => (HUB, format!("library/{name}")),
    };
    let registry = match registry {
        "index.docker.io" | HUB_HOST => HUB,
        registry => registry,
    };
    // A tag beside the digest says nothing.
    let path = match path.rsplit_once('/') {
        Some((start, last)) => format!("{start}/{}", last.split(':').next().unwrap_or_default()),
        None => path.split(':').next().unwrap_or_default().to_owned(),
    };
    let component = |component: &str| {
        let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        !component.is_empty()
            && component.bytes().all(fits)
            && component.starts_with(|first: char| first.is_ascii_alphanumeric())
    };
    let host_fits = registry.parse::<http::uri::Authority>().is_ok_and(|authority| !authority.as_str().contains('@'));
    match host_fits && path.len() <= 255 && path.split('/').all(component) {
        true => Ok((Repository { registry: registry.to_owned(), path }, digest)),
        false => Err(format!("{:?} is no reference to an image: write REGISTRY/REPOSITORY@sha256:…", printable(text))),
    }
}

/// Why a registry, or the log, gives no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RegistryError {
    /// It is away, or does not let us in: no verdict on an image.
    Unavailable(String),
    /// What it answers is not what it must be.
    Content(String),
}

/// A manifest.
pub(super) struct Manifest {
    /// What its Content-Type says that it is.
    pub(super) media_type: String,
    /// Its bytes; asked for by a digest, they have it.
    pub(super) bytes: Bytes,
}

/// What points to a manifest or a blob.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    #[serde(default)]
    pub(super) artifact_type: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// What the configuration says of registries.
pub(super) struct Settings {
    pub(super) credentials: BTreeMap<String, Credentials>,
    pub(super) insecure: BTreeSet<String>,
    /// CA certificates (PEM), and where they are from.
    pub(super) authorities: Vec<(PathBuf, String)>,
}

/// The registries, and the log.
pub(super) struct Registries {
    client: Client,
    keyring: Keyring,
    insecure: BTreeSet<String>,
    /// Tokens that were given, by repository.
    tokens: Mutex<HashMap<Repository, Token>>,
}

#[derive(Clone)]
struct Token {
    authorization: String,
    until: Instant,
}

/// One request's answer, its body read to the end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    url: Url,
}

impl Registries {
    /// Reads nothing and connects to nobody.
    pub(super) fn new(settings: Settings) -> Result<Registries, String> {
        let mut builder = Client::builder()
            .connect_timeout(limits::REGISTRY_CONNECT)
            .timeout(limits::REGISTRY_REQUEST)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .pool_max_idle_per_host(4)
            .user_agent(concat!("docker-attestor/", env!("CARGO_PKG_VERSION")));
        for (path, pem) in &settings.authorities {
            let certificates = Certificate::from_pem_bundle(pem.as_bytes()).ok().filter(|found| !found.is_empty());
            let certificates = certificates
                .ok_or_else(|| format!("sigstore.registry_ca: {}: no certificate in PEM form", path.display()))?;
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder
            .build()
            .map_err(|error| format!("sigstore: the client of registries cannot be made: {}", innermost(&error)))?;
        let keyring = Keyring::new(settings.credentials);
        Ok(Registries { client, keyring, insecure: settings.insecure, tokens: Mutex::default() })
    }

    /// The client: it follows no redirects, and bounds the time of a request.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// A manifest by its tag or digest; none when the registry has no such.
    pub(super) async fn manifest(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Result<Option<Manifest>, RegistryError> {
        let url = self.url(repository, &format!("manifests/{reference}"))?;
        let answer = self.get(repository, url, MANIFESTS, limits::MANIFEST).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(unexpected(status, &answer.url)),
        }
        if let Ok(digest) = Digest::new(reference)
            && !digest.is_of(&answer.body)
        {
            return Err(RegistryError::Content(format!("the registry answers a manifest that is not {digest}")));
        }
        Ok(Some(Manifest { media_type: media_type(&answer.headers), bytes: answer.body }))
    }

    /// A blob of at most `limit` bytes.
    pub(super) async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        limit: usize,
    ) -> Result<Bytes, RegistryError> {
        let url = self.url(repository, &format!("blobs/{digest}"))?;
        let answer = self.get(repository, url, "*/*", limit).await?;
        match answer.status {
            StatusCode::OK if digest.is_of(&answer.body) => Ok(answer.body),
            StatusCode::OK => Err(RegistryError::Content(format!("the registry answers a blob that is not {digest}"))),
            StatusCode::NOT_FOUND => {
                Err(RegistryError::Content(format!("the registry does not have the blob {digest}")))
            }
            status => Err(unexpected(status, &answer.url)),
        }
    }

    /// What refers to a manifest; none when the registry has no referrers API.
    pub(super) async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        #[derive(Deserialize)]
        struct Index {
            #[serde(default)]
            manifests: Vec<Descriptor>,
        }
        let mut url = self.url(repository, &format!("referrers/{digest}"))?;
        let mut descriptors = Vec::new();
        for _ in 0..limits::REFERRERS_PAGES {
            let answer = self.get(repository, url.clone(), INDEX, limits::MANIFEST).await?;
            match answer.status.as_u16() {
                200 if media_type(&answer.headers) == INDEX => {}
                200 | 400 | 404 | 405 | 406 => return Ok(None),
                _ => return Err(unexpected(answer.status, &answer.url)),
            }
            let index: Index = serde_json::from_slice(&answer.body)
                .map_err(|error| RegistryError::Content(format!("the list of referrers is malformed: {error}")))?;
            descriptors.extend(index.manifests);
            if descriptors.len() > limits::SIGNATURES {
                let text = format!("more than {} referrers", limits::SIGNATURES);
                return Err(RegistryError::Content(text));
            }
            let Some(next) = next_page(&answer.headers) else { return Ok(Some(descriptors)) };
            let next = answer.url.join(&next).map_err(|_| RegistryError::Content("the Link is no URL".to_owned()))?;
            if next.origin() != url.origin() {
                return Err(RegistryError::Content("the Link to more referrers leads to another host".to_owned()));
            }
            url = next;
        }
        Err(RegistryError::Content(format!("more than {} pages of referrers", limits::REFERRERS_PAGES)))
    }

    /// Posts JSON to the log.
    pub(super) async fn post_json(&self, url: &str, body: String, limit: usize) -> Result<Bytes, RegistryError> {
        let url = Url::parse(url).map_err(|_| RegistryError::Content("no URL".to_owned()))?;
        let json = "application/json";
        let request =
            self.client.post(url.clone()).header(header::CONTENT_TYPE, json).header(header::ACCEPT, json).body(body);
        let answer = self.send(request, url, limit).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            status => Err(unexpected(status, &answer.url)),
        }
    }

    fn url(&self, repository: &Repository, rest: &str) -> Result<Url, RegistryError> {
        let host = match repository.registry.as_str() {
            HUB => HUB_HOST,
            host => host,
        };
        let scheme = if self.plain(host) { "http" } else { "https" };
        Url::parse(&format!("{scheme}://{host}/v2/{}/{rest}", repository.path))
            .map_err(|_| RegistryError::Content(format!("{repository} is no repository")))
    }

    /// Whether a host is spoken to in plain http: loopback, and what the configuration names.
    fn plain(&self, host: &str) -> bool {
        let loopback = Url::parse(&format!("http://{host}")).is_ok_and(|url| match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        });
        loopback || self.insecure.contains(host)
    }

    /// Gets from a registry, with a token if it asks for one.
    async fn get(
        &self,
        repository: &Repository,
        url: Url,
        accept: &str,
        limit: usize,
    ) -> Result<Answer, RegistryError> {
        let known = self.token(repository);
        let answer = self.get_with(url.clone(), accept, known.as_deref(), limit).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let authorization = self.log_in(repository, &url, &answer.headers).await?;
        let answer = self.get_with(url, accept, Some(&authorization), limit).await?;
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.tokens().remove(repository);
                let seen = if self.keyring.may_have(repository) {
                    "with the credentials that it has"
                } else {
                    "without credentials"
                };
                Err(RegistryError::Unavailable(format!(
                    "the registry {} does not let us read {} {seen} ({}): see registry_credentials",
                    repository.registry, repository.path, answer.status
                )))
            }
            _ => Ok(answer),
        }
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, HashMap<Repository, Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self, repository: &Repository) -> Option<String> {
        let now = Instant::now();
        self.tokens().get(repository).filter(|token| token.until > now).map(|token| token.authorization.clone())
    }

    /// Gets, follows redirects. Where one leads to another origin the authorization stays behind.
    async fn get_with(
        &self,
        url: Url,
        accept: &str,
        authorization: Option<&str>,
        limit: usize,
    ) -> Result<Answer, RegistryError> {
        let first = url.clone();
        let mut url = url;
        for _ in 0..=limits::REDIRECTS {
            let mut request = self.client.request(Method::GET, url.clone()).header(header::ACCEPT, accept);
            if let Some(authorization) = authorization.filter(|_| url.origin() == first.origin()) {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let answer = self.send(request, url.clone(), limit).await?;
            if !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let location = answer.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            let next = next.ok_or_else(|| RegistryError::Content(format!("{} redirects to nowhere", place(&url))))?;
            let plain_is_fine = next.host_str().is_some_and(|host| {
                self.plain(&next.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
            });
            match next.scheme() {
                "https" => {}
                "http" if first.scheme() == "http" && plain_is_fine => {}
                _ => {
                    let text = format!("{} redirects to {}, which is not https", place(&url), place(&next));
                    return Err(RegistryError::Content(text));
                }
            }
            url = next;
        }
        Err(RegistryError::Content(format!("{} redirects more than {} times", place(&first), limits::REDIRECTS)))
    }

    /// Sends a request and reads its whole answer, tried once more when the connection fails.
    async fn send(&self, request: reqwest::RequestBuilder, url: Url, limit: usize) -> Result<Answer, RegistryError> {
        let again = request.try_clone();
        match self.send_once(request, &url, limit).await {
            Err(Failed { error: RegistryError::Unavailable(_), again: true }) => match again {
                Some(again) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    self.send_once(again, &url, limit).await.map_err(|failed| failed.error)
                }
                None => Err(RegistryError::Unavailable(format!("{} does not answer", place(&url)))),
            },
            outcome => outcome.map_err(|failed| failed.error),
        }
    }

    async fn send_once(&self, request: reqwest::RequestBuilder, url: &Url, limit: usize) -> Result<Answer, Failed> {
        let away = |error: &reqwest::Error| Failed {
            error: RegistryError::Unavailable(match error.is_timeout() {
                true => format!("{} does not answer within {} s", place(url), limits::REGISTRY_REQUEST.as_secs()),
                false => format!("{}: {}", place(url), innermost(error)),
            }),
            // A host that hangs has had its time.
            again: !error.is_timeout(),
        };
        let content = |text: String| Failed { error: RegistryError::Content(text), again: false };
        let mut response: Response = request.send().await.map_err(|error| away(&error))?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Failed { error: unexpected(status, url), again: status.is_server_error() });
        }
        // Nothing is ever unpacked: what is encoded is not what was asked for.
        if response.headers().get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(content(format!("{} answers in a Content-Encoding that was not asked for", place(url))));
        }
        let too_long = || content(format!("{} answers more than {limit} bytes", place(url)));
        if response.content_length().is_some_and(|length| length > limit as u64) && status.is_success() {
            return Err(too_long());
        }
        // Errors have short texts, and nobody reads them.
        let limit = if status.is_success() { limit } else { limits::REGISTRY_ERROR };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| away(&error))? {
            if body.len() + chunk.len() > limit {
                if !status.is_success() {
                    break;
                }
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers: response.headers().clone(), body: Bytes::from(body), url: url.clone() })
    }

    /// Answers a registry's challenge: the value of the Authorization header from now on.
    async fn log_in(&self, repository: &Repository, url: &Url, headers: &HeaderMap) -> Result<String, RegistryError> {
        let refused = |why: &str| {
            RegistryError::Unavailable(format!("the registry {} asks for a login, {why}", repository.registry))
        };
        let challenge = headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(Challenge::parse)
            .ok_or_else(|| refused("of a kind that is not supported"))?;
        let login = self.keyring.find(repository).await.map_err(RegistryError::Unavailable)?;
        let (realm, service) = match challenge {
            Challenge::Basic => {
                let Some(Login::Password { username, password }) = login else {
                    return Err(refused("and there are no credentials for it: see registry_credentials"));
                };
                let authorization = basic(&username, &password);
                self.keep(repository, &authorization, limits::TOKEN);
                return Ok(authorization);
            }
            Challenge::Bearer { realm, service } => (realm, service),
        };
        let mut realm = Url::parse(&realm).map_err(|_| refused("at a realm that is no URL"))?;
        if realm.scheme() != "https" && !(realm.scheme() == "http" && url.scheme() == "http") {
            return Err(refused("at a realm that is not https"));
        }
        let scope = format!("repository:{}:pull", repository.path);
        let request = match &login {
            Some(Login::Token(token)) => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                form.append_pair("grant_type", "refresh_token")
                    .append_pair("refresh_token", token)
                    .append_pair("client_id", "docker-attestor")
                    .append_pair("scope", &scope);
                if let Some(service) = &service {
                    form.append_pair("service", service);
                }
                self.client
                    .post(realm.clone())
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form.finish())
            }
            login => {
                if let Some(service) = &service {
                    realm.query_pairs_mut().append_pair("service", service);
                }
                realm.query_pairs_mut().append_pair("scope", &scope);
                let request = self.client.get(realm.clone());
                match login {
                    Some(Login::Password { username, password }) => {
                        request.header(header::AUTHORIZATION, basic(username, password))
                    }
                    _ => request,
                }
            }
        };
        #[derive(Deserialize)]
        struct Granted {
            #[serde(alias = "access_token")]
            token: String,
            #[serde(default)]
            expires_in: Option<u64>,
        }
        let answer = self.send(request, realm.clone(), limits::TOKEN_ANSWER).await?;
        if !answer.status.is_success() {
            let with = if login.is_some() { "the credentials" } else { "no credentials" };
            return Err(refused(&format!("and {} refuses {with} ({})", place(&realm), answer.status)));
        }
        let granted: Option<Granted> = serde_json::from_slice(&answer.body)
            .ok()
            .or_else(|| both_tokens(&answer.body).map(|(token, expires_in)| Granted { token, expires_in }));
        let granted = granted
            .filter(|granted| {
                !granted.token.is_empty() && granted.token.bytes().all(|byte| (0x21..0x7f).contains(&byte))
            })
            .ok_or_else(|| refused(&format!("and {} answers no token", place(&realm))))?;
        let authorization = format!("Bearer {}", granted.token);
        // Registries that say nothing mean 60 seconds (the distribution project's token specification).
        let life = Duration::from_secs(granted.expires_in.unwrap_or(60).clamp(10, limits::TOKEN.as_secs()) - 5);
        self.keep(repository, &authorization, life);
        Ok(authorization)
    }

    fn keep(&self, repository: &Repository, authorization: &str, life: Duration) {
        let now = Instant::now();
        let mut tokens = self.tokens();
        tokens.retain(|_, token| token.until > now);
        if tokens.len() < limits::TOKENS {
            let token = Token { authorization: authorization.to_owned(), until: now + life };
            tokens.insert(repository.clone(), token);
        }
    }
}

/// Some registries answer both names of a token.
fn both_tokens(body: &[u8]) -> Option<(String, Option<u64>)> {
    #[derive(Deserialize)]
    struct Both {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    let both: Both = serde_json::from_slice(body).ok()?;
    Some((both.token.or(both.access_token)?, both.expires_in))
}

struct Failed {
    error: RegistryError,
    again: bool,
}

/// A registry's challenge (RFC 9110, 11.6.1).
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    fn parse(text: &str) -> Option<Challenge> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") || text.len() > 4_096 {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        loop {
            let (name, value) = rest.split_once('=')?;
            let (value, after) = match value.strip_prefix('"') {
                Some(value) => value.split_once('"')?,
                None => value.split_at(value.find(',').unwrap_or(value.len())),
            };
            match name.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            match after.trim_start().strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        Some(Challenge::Bearer { realm: realm?, service })
    }
}

fn basic(username: &str, password: &str) -> String {
    let pair = sigstore_verify::types::PayloadBytes::from_bytes(format!("{username}:{password}").as_bytes());
    format!("Basic {}", pair.to_base64())
}

/// The URL without what may hold a secret: presigned URLs have signatures in their query.
fn place(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_password(None);
    let _ = url.set_username("");
    printable(url.as_str())
}

fn unexpected(status: StatusCode, url: &Url) -> RegistryError {
    let text = format!("{} answers status {}", place(url), status.as_u16());
    match status.as_u16() {
        401 | 403 | 408 | 429 | 500.. => RegistryError::Unavailable(text),
        _ => RegistryError::Content(text),
    }
}

fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_owned()
}

/// The target of `Link: <…>; rel="next"` (RFC 8288).
fn next_page(headers: &HeaderMap) -> Option<String> {
    headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok()).find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        parameters
            .split(';')
            .any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"))
            .then(|| target.to_owned())
    })
}

/// The cause under a client's error: it says most, and holds no URL.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    printable(&cause.to_string())
}
