//! The names of registries: HOST or HOST:PORT.

use url::Url;

/// The one name of a registry: in lower case, and `docker.io` for Docker Hub, which has several.
pub fn normalize_host(host: &str) -> String {
    match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "index.docker.io/v1" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

/// Whether a text is HOST or HOST:PORT, and nothing more.
pub fn is_host(text: &str) -> bool {
    // One parser is strict, the other knows ports and addresses.
    text.parse::<http::uri::Authority>().is_ok_and(|authority| !authority.as_str().contains('@'))
        && !text.ends_with(':')
        && Url::parse(&format!("https://{text}")).is_ok_and(|url| url.port() != Some(0))
}
