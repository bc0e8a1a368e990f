//! A client of OCI registries that trusts none: every answer is bounded in time and bytes, every digest checked, and
//! credentials go to the host that they are for and to nobody else.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>

mod challenge;
mod reference;
mod transport;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Client, RequestBuilder, Url};
use serde::{Deserialize, Deserializer};
use url::{Host, Origin};

use self::challenge::Challenge;
use self::reference::HUB;
pub(super) use self::reference::{Digest, Repository, parse_reference};
use self::transport::{Answer, Transport, place, unexpected};
use super::credentials::{Keyring, Login};
use crate::config::Credentials;
use crate::limits;

/// The host of Docker Hub's registry.
const HUB_HOST: &str = "registry-1.docker.io";
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

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
    transport: Transport,
    keyring: Keyring,
    /// Those that are spoken to in plain http, beside loopback.
    insecure: HashSet<Origin>,
    /// Tokens that were given, by repository.
    tokens: Mutex<HashMap<Repository, Token>>,
}

/// A token or a login, ready to be sent.
#[derive(Debug, Clone)]
struct Token {
    authorization: HeaderValue,
    until: Instant,
    /// It was given to nobody in particular.
    anonymous: bool,
}

impl Registries {
    /// Reads what this process's environment says of proxies, CA certificates and logins; connects to nobody.
    pub(super) fn new(settings: Settings) -> Result<Registries, String> {
        Registries::with(settings, &|name| std::env::var_os(name))
    }

    fn with(settings: Settings, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Registries, String> {
        let insecure = settings.insecure.iter().filter_map(|host| Url::parse(&format!("http://{host}")).ok());
        Ok(Registries {
            transport: Transport::new(&settings.authorities, env)?,
            keyring: Keyring::new(settings.credentials, env),
            insecure: insecure.map(|url| url.origin()).collect(),
            tokens: Mutex::default(),
        })
    }

    /// The client: it follows no redirects, and bounds the time of a request.
    pub(super) fn client(&self) -> Client {
        self.transport.client().clone()
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
            && digest != answer.digest
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
            StatusCode::OK if *digest == answer.digest => Ok(answer.body),
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
            if next.origin() != url.origin() || self.may_lead(&url, &next).is_err() {
                let text = "the Link to more referrers leads to another host, or has a login in it";
                return Err(RegistryError::Content(text.to_owned()));
            }
            url = next;
        }
        Err(RegistryError::Content(format!("more than {} pages of referrers", limits::REFERRERS_PAGES)))
    }

    /// Posts JSON to the log.
    pub(super) async fn post_json(&self, url: &str, body: String, limit: usize) -> Result<Bytes, RegistryError> {
        let url = Url::parse(url).map_err(|_| RegistryError::Content("no URL".to_owned()))?;
        let json = "application/json";
        let request = self.transport.client().post(url).header(header::CONTENT_TYPE, json).header(header::ACCEPT, json);
        let answer = self.transport.send(request.body(body), limit).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            status => Err(unexpected(status, &answer.url)),
        }
    }

    /// A registry on loopback is spoken to in plain http, always: where it speaks TLS, name it by a name of this machine other
    /// than localhost.
    fn url(&self, repository: &Repository, rest: &str) -> Result<Url, RegistryError> {
        let host = match repository.host() {
            HUB => HUB_HOST,
            host => host,
        };
        let url = |scheme: &str| Url::parse(&format!("{scheme}://{host}/v2/{}/{rest}", repository.path()));
        url("http")
            .and_then(|plain| if self.may_be_plain(&plain) { Ok(plain) } else { url("https") })
            .map_err(|_| RegistryError::Content(format!("{repository} is no repository")))
    }

    /// Whether an http URL may be asked: one of this machine, or of what the configuration names.
    fn may_be_plain(&self, url: &Url) -> bool {
        is_loopback(url) || self.insecure.contains(&url.origin())
    }

    /// Whether a registry may send us from one URL to another, for a redirect or for a token. What it names is another host's
    /// word: it must not lower what the first URL promised, nor make us ask what only this machine can reach.
    fn may_lead(&self, from: &Url, to: &Url) -> Result<(), &'static str> {
        match to.scheme() {
            "https" => {}
            "http" if from.scheme() == "http" && self.may_be_plain(to) => {}
            _ => return Err("which is not https"),
        }
        if is_loopback(to) && !is_loopback(from) {
            return Err("which is this machine itself");
        }
        if !to.username().is_empty() || to.password().is_some() {
            return Err("with a login in it");
        }
        Ok(())
    }

    /// Gets from a registry, with a token if it asks for one.
    async fn get(
        &self,
        repository: &Repository,
        url: Url,
        accept: &str,
        limit: usize,
    ) -> Result<Answer, RegistryError> {
        let mut token = self.token(repository);
        let mut answer = self.get_with(&url, accept, token.as_ref(), limit).await?;
        let elsewhere = |answer: &Answer| answer.url.origin() != url.origin();
        if answer.status == StatusCode::FORBIDDEN && token.is_some() && !elsewhere(&answer) {
            // What was good may be no longer: asked by a stranger the registry says how to log in.
            self.tokens().remove(repository);
            token = None;
            answer = self.get_with(&url, accept, None, limit).await?;
        }
        if answer.status == StatusCode::UNAUTHORIZED && !elsewhere(&answer) {
            let given = self.log_in(repository, &url, &answer.headers).await?;
            answer = self.get_with(&url, accept, Some(&given), limit).await?;
            token = Some(given);
        }
        match answer.status {
            // Its realm would get the registry's credentials.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if elsewhere(&answer) => {
                Err(RegistryError::Unavailable(format!(
                    "{} redirects to {}, which does not let us in (status {}): the registry's credentials are not for it",
                    place(&url),
                    place(&answer.url),
                    answer.status.as_u16()
                )))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.tokens().remove(repository);
                let seen = match token {
                    Some(Token { anonymous: false, .. }) => "with the credentials that there are for it",
                    _ => "without credentials",
                };
                Err(RegistryError::Unavailable(format!(
                    "the registry {} does not let us read {} {seen} (status {}): see registry_credentials",
                    repository.host(),
                    repository.path(),
                    answer.status.as_u16()
                )))
            }
            _ => Ok(answer),
        }
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<Repository, Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self, repository: &Repository) -> Option<Token> {
        let now = Instant::now();
        self.tokens().get(repository).filter(|token| token.until > now).cloned()
    }

    fn keep(&self, repository: &Repository, token: &Token) {
        let now = Instant::now();
        let mut tokens = self.tokens();
        tokens.retain(|_, token| token.until > now);
        if tokens.len() >= limits::TOKENS
            && !tokens.contains_key(repository)
            && let Some(first) = tokens.iter().min_by_key(|(_, token)| token.until).map(|(of, _)| of.clone())
        {
            tokens.remove(&first);
        }
        tokens.insert(repository.clone(), token.clone());
    }

    /// Gets, follows redirects. Where one leads to another origin the authorization stays behind, for good: what leads back is
    /// that origin's doing.
    async fn get_with(
        &self,
        first: &Url,
        accept: &str,
        mut token: Option<&Token>,
        limit: usize,
    ) -> Result<Answer, RegistryError> {
        let mut url = first.clone();
        for _ in 0..=limits::REDIRECTS {
            let mut request = self.transport.client().get(url.clone()).header(header::ACCEPT, accept);
            token = token.filter(|_| url.origin() == first.origin());
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, token.authorization.clone());
            }
            let answer = self.transport.send(request, limit).await?;
            if !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let location = answer.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            let next = next.ok_or_else(|| RegistryError::Content(format!("{} redirects to nowhere", place(&url))))?;
            self.may_lead(first, &next).map_err(|why| {
                RegistryError::Content(format!("{} redirects to {}, {why}", place(&url), place(&next)))
            })?;
            url = next;
        }
        Err(RegistryError::Content(format!("{} redirects more than {} times", place(first), limits::REDIRECTS)))
    }

    /// Answers a registry's challenge.
    ///
    /// The credentials go to the realm that the registry names, which may be another host, as with every client: over TLS it is
    /// the registry's own word. [`Registries::may_lead`] says which realms are refused.
    async fn log_in(&self, repository: &Repository, url: &Url, headers: &HeaderMap) -> Result<Token, RegistryError> {
        let refused = |why: &str| {
            RegistryError::Unavailable(format!("the registry {} asks for a login, {why}", repository.host()))
        };
        let challenges = Challenge::of(headers);
        if challenges.is_empty() {
            return Err(refused("of a kind that is not supported"));
        }
        let login = self.keyring.find(repository).await.map_err(RegistryError::Unavailable)?;
        let can_be_answered = |challenge: &Challenge| {
            matches!(
                (challenge, &login),
                (Challenge::Bearer { .. }, _) | (Challenge::Basic, Some(Login::Password { .. }))
            )
        };
        let challenge = challenges.into_iter().find(can_be_answered);
        let challenge = challenge
            .ok_or_else(|| refused("and there are no credentials of that kind for it: see registry_credentials"))?;
        let (text, life) = match (challenge, &login) {
            (Challenge::Basic, Some(Login::Password { username, password })) => {
                (basic(username, password), limits::TOKEN)
            }
            (_, Some(Login::Bearer(token))) => (format!("Bearer {token}"), limits::TOKEN),
            (Challenge::Bearer { realm, service }, login) => {
                let realm = Url::parse(&realm).map_err(|_| refused("at a realm that is no URL"))?;
                self.may_lead(url, &realm).map_err(|why| refused(&format!("at the realm {}, {why}", place(&realm))))?;
                let request = self.token_request(&realm, service.as_deref(), repository, login.as_ref());
                let answer = self.transport.send(request, limits::TOKEN_ANSWER).await?;
                if !answer.status.is_success() {
                    let with = if login.is_some() { "the credentials" } else { "no credentials" };
                    let status = answer.status.as_u16();
                    return Err(refused(&format!("and {} refuses {with} (status {status})", place(&realm))));
                }
                let (token, life) =
                    granted(&answer.body).ok_or_else(|| refused(&format!("and {} answers no token", place(&realm))))?;
                (format!("Bearer {token}"), life)
            }
            (Challenge::Basic, _) => return Err(refused("of a kind that is not supported")),
        };
        // The text would not fit only if a file's token has a line's end in it.
        let mut authorization =
            HeaderValue::from_str(&text).map_err(|_| refused("and the token for it is not one line"))?;
        authorization.set_sensitive(true);
        let token = Token { authorization, until: Instant::now() + life, anonymous: login.is_none() };
        self.keep(repository, &token);
        Ok(token)
    }

    /// Asks a realm for a token to pull with: <https://distribution.github.io/distribution/spec/auth/token/>, and with an
    /// identity token …/oauth/.
    fn token_request(
        &self,
        realm: &Url,
        service: Option<&str>,
        repository: &Repository,
        login: Option<&Login>,
    ) -> RequestBuilder {
        let scope = format!("repository:{}:pull", repository.path());
        let asked = service.map(|service| ("service", service)).into_iter().chain([("scope", scope.as_str())]);
        match login {
            Some(Login::Identity(token)) => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                form.append_pair("grant_type", "refresh_token")
                    .append_pair("refresh_token", token)
                    .append_pair("client_id", "docker-attestor")
                    .extend_pairs(asked);
                self.transport
                    .client()
                    .post(realm.clone())
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form.finish())
            }
            login => {
                let mut url = realm.clone();
                url.query_pairs_mut().extend_pairs(asked);
                let request = self.transport.client().get(url);
                match login {
                    Some(Login::Password { username, password }) => {
                        request.header(header::AUTHORIZATION, basic(username, password))
                    }
                    _ => request,
                }
            }
        }
    }
}

/// The token in a realm's answer, and how long it may be used.
fn granted(body: &[u8]) -> Option<(String, Duration)> {
    // Some answer one name, some the other, some both.
    #[derive(Deserialize)]
    struct Granted {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<i64>,
    }
    let Granted { token, access_token, expires_in } = serde_json::from_slice(body).ok()?;
    let token = token.or(access_token)?;
    let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    // Registries that say nothing mean 60 seconds (the distribution project's token specification).
    let seconds = expires_in.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(60);
    fits.then(|| (token, Duration::from_secs(seconds.clamp(10, limits::TOKEN.as_secs()) - 5)))
}

fn basic(username: &str, password: &str) -> String {
    let pair = sigstore_verify::types::PayloadBytes::from_bytes(format!("{username}:{password}").as_bytes());
    format!("Basic {}", pair.to_base64())
}

/// Whether only this machine is meant. The unspecified address is taken for loopback where one connects to it.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
        Some(Host::Ipv6(address)) => match address.to_ipv4_mapped() {
            Some(address) => address.is_loopback() || address.is_unspecified(),
            None => address.is_loopback() || address.is_unspecified(),
        },
        None => false,
    }
}

fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_owned()
}

/// The target of `Link: <…>; rel="next"` (RFC 8288); one header may have several links.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    let mut links = values.flat_map(|value| value.split('<').skip(1)).filter_map(|link| link.split_once('>'));
    let is_next = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or_default();
        name.trim().eq_ignore_ascii_case("rel")
            && value.trim_matches([' ', ',', '"']).split(' ').any(|relation| relation.eq_ignore_ascii_case("next"))
    };
    links.find(|(_, parameters)| parameters.split(';').any(is_next)).map(|(target, _)| target.to_owned())
}

#[cfg(test)]
mod tests;
