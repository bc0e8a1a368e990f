//! The client: manifests, blobs and referrers of registries, and posts to other hosts over the same transport.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Client, RequestBuilder, Url};
use serde::{Deserialize, Deserializer};
use url::{Host, Origin};

use crate::challenge::Challenge;
use crate::credentials::{Credentials, Keyring, Login};
use crate::error::{ContentError, Error, ForbiddenUrl, LoginError, SetupError, ShownUrl, Unreachable};
use crate::limits;
use crate::reference::{Digest, HUB, Repository};
use crate::transport::{Response, Transport, unexpected};

/// The host of Docker Hub's registry.
const HUB_HOST: &str = "registry-1.docker.io";
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A manifest.
pub struct Manifest {
    /// The media type in its Content-Type.
    pub media_type: String,
    /// Its bytes. A manifest that was asked for by a digest has that digest.
    pub bytes: Bytes,
}

/// A descriptor: what points to a manifest or a blob.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type of what is pointed to.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// What kind of artifact it is, where a registry says so.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// The annotations of this very descriptor.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// What a client is made of.
pub struct ClientOptions {
    /// Credentials by registry, in its normal form ([`crate::normalize_host`]).
    pub credentials: BTreeMap<String, Credentials>,
    /// Registries that are spoken to in plain http, beside loopback.
    pub insecure: BTreeSet<String>,
    /// CA certificates (PEM), each with the file that they are from.
    pub authorities: Vec<(PathBuf, String)>,
}

/// A client of all registries.
pub struct Registries {
    transport: Transport,
    keyring: Keyring,
    /// The origins that are spoken to in plain http, beside loopback.
    insecure: HashSet<Origin>,
    /// The tokens in use, by repository.
    tokens: Mutex<HashMap<Repository, Token>>,
}

/// A token or a login, ready to be sent.
#[derive(Debug, Clone)]
struct Token {
    authorization: HeaderValue,
    until: Instant,
    /// The token was given without a login.
    anonymous: bool,
}

impl Registries {
    /// Makes a client with the proxy, the CA certificates and the logins that this process's environment names. Does not connect.
    ///
    /// # Errors
    /// A CA certificate or a proxy that cannot be used.
    pub fn new(options: ClientOptions) -> Result<Registries, SetupError> {
        Registries::with_environment(options, &|name| std::env::var_os(name))
    }

    fn with_environment(
        options: ClientOptions,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Registries, SetupError> {
        let insecure = options.insecure.iter().filter_map(|host| Url::parse(&format!("http://{host}")).ok());
        Ok(Registries {
            transport: Transport::new(&options.authorities, env)?,
            keyring: Keyring::new(options.credentials, env),
            insecure: insecure.map(|url| url.origin()).collect(),
            tokens: Mutex::default(),
        })
    }

    /// The HTTP client. It follows no redirects, and bounds the time of a request.
    pub fn client(&self) -> Client {
        self.transport.client().clone()
    }

    /// Fetches a manifest by its tag or digest; `None` when the registry does not have it.
    ///
    /// # Errors
    /// The registry is unreachable, or answers something else.
    pub async fn manifest(&self, repository: &Repository, reference: &str) -> Result<Option<Manifest>, Error> {
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
            return Err(ContentError::OtherManifest(digest).into());
        }
        Ok(Some(Manifest { media_type: media_type(&answer.headers), bytes: answer.body }))
    }

    /// Fetches a blob of at most `limit` bytes.
    ///
    /// # Errors
    /// The registry is unreachable, does not have the blob, or answers something else.
    pub async fn blob(&self, repository: &Repository, digest: &Digest, limit: usize) -> Result<Bytes, Error> {
        let url = self.url(repository, &format!("blobs/{digest}"))?;
        let answer = self.get(repository, url, "*/*", limit).await?;
        match answer.status {
            StatusCode::OK if *digest == answer.digest => Ok(answer.body),
            StatusCode::OK => Err(ContentError::OtherBlob(digest.clone()).into()),
            StatusCode::NOT_FOUND => Err(ContentError::NoBlob(digest.clone()).into()),
            status => Err(unexpected(status, &answer.url)),
        }
    }

    /// Lists what refers to a manifest, page by page; `None` when the registry has no referrers API.
    ///
    /// # Errors
    /// The registry is unreachable, answers something else, or lists more than `limit` referrers.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        limit: usize,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
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
            let index: Index = serde_json::from_slice(&answer.body).map_err(ContentError::MalformedReferrers)?;
            descriptors.extend(index.manifests);
            if descriptors.len() > limit {
                return Err(ContentError::TooManyReferrers(limit).into());
            }
            let Some(next) = next_page(&answer.headers) else { return Ok(Some(descriptors)) };
            let next = answer.url.join(&next).map_err(|_| ContentError::InvalidLink)?;
            if next.origin() != url.origin() || self.may_lead(&url, &next).is_err() {
                return Err(ContentError::ForeignLink.into());
            }
            url = next;
        }
        Err(ContentError::TooManyPages(limits::REFERRERS_PAGES).into())
    }

    /// Asks a registry for `/v2/`, to see whether it can be reached. No login is sent: a registry that wants one answers too.
    ///
    /// # Errors
    /// The registry cannot be reached, or fails.
    pub async fn ping(&self, registry: &str) -> Result<(), Error> {
        let url = self.url_of(registry, "").ok_or_else(|| ContentError::InvalidRepository(registry.to_owned()))?;
        self.get_with(&url, "*/*", None, limits::MANIFEST).await.map(drop)
    }

    /// Asks for a URL of another host, to see whether it can be reached.
    ///
    /// # Errors
    /// The host cannot be reached, or fails.
    pub async fn ping_url(&self, url: &str) -> Result<(), Error> {
        let url = Url::parse(url).map_err(|_| ContentError::InvalidUrl)?;
        self.transport.send(self.transport.client().get(url), limits::MANIFEST).await.map(drop)
    }

    /// Posts JSON to a URL, such as a transparency log's. No login of a registry is sent.
    ///
    /// # Errors
    /// The host is unreachable, or answers something else.
    pub async fn post_json(&self, url: &str, body: String, limit: usize) -> Result<Bytes, Error> {
        let url = Url::parse(url).map_err(|_| ContentError::InvalidUrl)?;
        let json = "application/json";
        let request = self.transport.client().post(url).header(header::CONTENT_TYPE, json).header(header::ACCEPT, json);
        let answer = self.transport.send(request.body(body), limit).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            status => Err(unexpected(status, &answer.url)),
        }
    }

    /// The URL of something in a repository. A registry on loopback is always spoken to in plain http: one that speaks TLS has to be
    /// named by another name of its machine than localhost.
    fn url(&self, repository: &Repository, rest: &str) -> Result<Url, Error> {
        self.url_of(repository.host(), &format!("{}/{rest}", repository.path()))
            .ok_or_else(|| ContentError::InvalidRepository(repository.to_string()).into())
    }

    /// The URL of a path below a registry's `/v2/`.
    fn url_of(&self, registry: &str, path: &str) -> Option<Url> {
        let host = match registry {
            HUB => HUB_HOST,
            host => host,
        };
        let url = |scheme: &str| Url::parse(&format!("{scheme}://{host}/v2/{path}")).ok();
        url("http").filter(|plain| self.may_be_plain(plain)).or_else(|| url("https"))
    }

    /// Whether a URL may be asked in plain http: one of this machine, or of a registry that the caller named.
    fn may_be_plain(&self, url: &Url) -> bool {
        is_loopback(url) || self.insecure.contains(&url.origin())
    }

    /// Whether a registry may send us from one URL to another, by a redirect or by a realm. The second URL is another host's word: it
    /// must not weaken the first, nor make us ask what only this machine can reach.
    fn may_lead(&self, from: &Url, to: &Url) -> Result<(), ForbiddenUrl> {
        match to.scheme() {
            "https" => {}
            "http" if from.scheme() == "http" && self.may_be_plain(to) => {}
            _ => return Err(ForbiddenUrl::Insecure),
        }
        if is_loopback(to) && !is_loopback(from) {
            return Err(ForbiddenUrl::Loopback);
        }
        if !to.username().is_empty() || to.password().is_some() {
            return Err(ForbiddenUrl::UserInfo);
        }
        Ok(())
    }

    /// Gets something of a repository, with a token if the registry asks for one.
    async fn get(&self, repository: &Repository, url: Url, accept: &str, limit: usize) -> Result<Response, Error> {
        let mut token = self.cached_token(repository);
        let mut answer = self.get_with(&url, accept, token.as_ref(), limit).await?;
        let elsewhere = |answer: &Response| answer.url.origin() != url.origin();
        if answer.status == StatusCode::FORBIDDEN && token.is_some() && !elsewhere(&answer) {
            // The token may have been revoked. Asked without one, the registry says how to log in.
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
            // The realm of this other host would get the registry's credentials: its challenge is not answered.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if elsewhere(&answer) => {
                let (from, to) = (ShownUrl::from(&url), ShownUrl::from(&answer.url));
                Err(Unreachable::RedirectDenied { from, to, status: answer.status.as_u16() }.into())
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.tokens().remove(repository);
                Err(Unreachable::Denied {
                    registry: repository.host().to_owned(),
                    path: repository.path().to_owned(),
                    authenticated: matches!(token, Some(Token { anonymous: false, .. })),
                    status: answer.status.as_u16(),
                }
                .into())
            }
            _ => Ok(answer),
        }
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<Repository, Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached_token(&self, repository: &Repository) -> Option<Token> {
        let now = Instant::now();
        self.tokens().get(repository).filter(|token| token.until > now).cloned()
    }

    fn cache_token(&self, repository: &Repository, token: &Token) {
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

    /// Gets a URL and follows redirects. The authorization is for the first origin alone. After a redirect to another origin it is
    /// never sent again, since a redirect back is that other origin's word.
    async fn get_with(
        &self,
        first: &Url,
        accept: &str,
        mut token: Option<&Token>,
        limit: usize,
    ) -> Result<Response, Error> {
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
            let next = next.ok_or_else(|| ContentError::NoLocation { url: ShownUrl::from(&url) })?;
            self.may_lead(first, &next).map_err(|why| {
                let (from, to) = (ShownUrl::from(&url), ShownUrl::from(&next));
                ContentError::ForbiddenRedirect { from, to, why }
            })?;
            url = next;
        }
        Err(ContentError::TooManyRedirects { url: ShownUrl::from(first), limit: limits::REDIRECTS }.into())
    }

    /// Answers a registry's challenge.
    ///
    /// The credentials go to the realm that the registry names, as with every client. The realm may be another host: over TLS it is
    /// the registry's own word. [`Registries::may_lead`] says which realms are refused.
    async fn log_in(&self, repository: &Repository, url: &Url, headers: &HeaderMap) -> Result<Token, Error> {
        let refused = |why: LoginError| Unreachable::Login { registry: repository.host().to_owned(), why };
        let challenges = Challenge::parse_all(headers);
        if challenges.is_empty() {
            return Err(refused(LoginError::Unsupported).into());
        }
        let login = self.keyring.find(repository).await.map_err(Unreachable::from)?;
        let can_be_answered = |challenge: &Challenge| {
            matches!(
                (challenge, &login),
                (Challenge::Bearer { .. }, _) | (Challenge::Basic, Some(Login::Password { .. }))
            )
        };
        let challenge = challenges.into_iter().find(can_be_answered);
        let challenge = challenge.ok_or_else(|| refused(LoginError::NoCredentials))?;
        let (text, life) = match (challenge, &login) {
            (Challenge::Basic, Some(Login::Password { username, password })) => {
                (basic(username, password), limits::TOKEN)
            }
            (_, Some(Login::Bearer(token))) => (format!("Bearer {token}"), limits::TOKEN),
            (Challenge::Bearer { realm, service }, login) => {
                let realm = Url::parse(&realm).map_err(|_| refused(LoginError::InvalidRealm))?;
                let shown = ShownUrl::from(&realm);
                if let Err(why) = self.may_lead(url, &realm) {
                    return Err(refused(LoginError::ForbiddenRealm { realm: shown, why }).into());
                }
                let request = self.token_request(&realm, service.as_deref(), repository, login.as_ref());
                let answer = self.transport.send(request, limits::TOKEN_ANSWER).await?;
                if !answer.status.is_success() {
                    let (authenticated, status) = (login.is_some(), answer.status.as_u16());
                    return Err(refused(LoginError::Refused { realm: shown, authenticated, status }).into());
                }
                let (token, life) =
                    granted(&answer.body).ok_or_else(|| refused(LoginError::NoToken { realm: shown }))?;
                (format!("Bearer {token}"), life)
            }
            (Challenge::Basic, _) => return Err(refused(LoginError::Unsupported).into()),
        };
        // Only the token of a file can have a line's end in it.
        let mut authorization = HeaderValue::from_str(&text).map_err(|_| refused(LoginError::InvalidToken))?;
        authorization.set_sensitive(true);
        let token = Token { authorization, until: Instant::now() + life, anonymous: login.is_none() };
        self.cache_token(repository, &token);
        Ok(token)
    }

    /// The request for a token to pull with (<https://distribution.github.io/distribution/spec/auth/token/>, and with an identity
    /// token <https://distribution.github.io/distribution/spec/auth/oauth/>).
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

/// Parses a realm's answer: the token, and how long it may be used.
fn granted(body: &[u8]) -> Option<(String, Duration)> {
    // Realms use one of two names for it, or both.
    #[derive(Deserialize)]
    struct Granted {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<i64>,
    }
    let Granted { token, access_token, expires_in } = serde_json::from_slice(body).ok()?;
    let token = token.or(access_token)?;
    let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    // A realm that says nothing means 60 seconds (the distribution project's token specification).
    let seconds = expires_in.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(60);
    fits.then(|| (token, Duration::from_secs(seconds.clamp(10, limits::TOKEN.as_secs()) - 5)))
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

/// Whether a URL means this machine only. Connecting to the unspecified address reaches loopback.
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

/// The target of `Link: <…>; rel="next"` (RFC 8288). One header may have several links.
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
