//! What an image is called: a repository of a registry, and a digest in it.

use std::fmt;

use bounded::text::{is_sha256_hex, printable};
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

use crate::config::{is_host, registry_name};

/// Docker Hub's name in references.
pub(in super::super) const HUB: &str = "docker.io";

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in super::super) struct Repository {
    registry: String,
    path: String,
}

impl Repository {
    /// The registry's name: `docker.io`, or a host with its port.
    pub(in super::super) fn host(&self) -> &str {
        &self.registry
    }

    /// The path in the registry.
    pub(in super::super) fn path(&self) -> &str {
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
pub(in super::super) struct Digest(String);

impl Digest {
    /// Nothing else is a digest here.
    pub(in super::super) fn new(text: &str) -> Result<Digest, String> {
        let hex = text.strip_prefix("sha256:").filter(|hex| is_sha256_hex(hex));
        hex.map(|hex| Digest(hex.to_owned()))
            .ok_or_else(|| format!("{:?} is no digest: sha256: and 64 lowercase hex digits", printable(text)))
    }

    /// Of what the hash was fed with.
    pub(super) fn of(hash: Sha256) -> Digest {
        Digest(format!("{:x}", hash.finalize()))
    }

    /// The digits.
    pub(in super::super) fn hex(&self) -> &str {
        &self.0
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
pub(in super::super) fn parse_reference(text: &str) -> Result<(Repository, Digest), String> {
    let (name, digest) = text
        .split_once('@')
        .ok_or_else(|| format!("{:?} names no digest: write REPOSITORY@sha256:…", printable(text)))?;
    let digest = Digest::new(digest)?;
    // The first component is a registry if it looks like a host, which no other may; else the repository is Docker Hub's.
    let is_registry = |first: &str| {
        first.contains(['.', ':']) || first == "localhost" || first.contains(|char: char| char.is_ascii_uppercase())
    };
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_registry(first) => (registry_name(first), path.to_owned()),
        _ => (HUB.to_owned(), name.to_owned()),
    };
    // A tag beside the digest says nothing.
    let path = match path.rsplit_once('/') {
        Some((start, last)) => format!("{start}/{}", last.split(':').next().unwrap_or_default()),
        None => path.split(':').next().unwrap_or_default().to_owned(),
    };
    // Hub's own images have no namespace in references.
    let path = if registry == HUB && !path.contains('/') { format!("library/{path}") } else { path };
    let component = |component: &str| {
        let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        component.bytes().all(fits) && component.starts_with(|first: char| first.is_ascii_alphanumeric())
    };
    match is_host(&registry) && path.len() <= 255 && path.split('/').all(component) {
        true => Ok((Repository { registry, path }, digest)),
        false => Err(format!("{:?} is no reference to an image: write REGISTRY/REPOSITORY@sha256:…", printable(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn parse(name: &str) -> Result<String, String> {
        parse_reference(&format!("{name}@{DIGEST}")).map(|(repository, digest)| {
            assert_eq!(digest.to_string(), DIGEST);
            repository.to_string()
        })
    }

    #[test]
    fn every_name_of_an_image_of_docker_hub_is_one_repository() {
        for name in [
            "busybox",
            "library/busybox",
            "docker.io/busybox",
            "docker.io/library/busybox",
            "index.docker.io/busybox",
            "registry-1.docker.io/library/busybox",
            "Docker.IO/busybox",
            "busybox:1.36",
            "docker.io/busybox:1.36",
        ] {
            assert_eq!(parse(name).unwrap(), "docker.io/library/busybox", "{name}");
        }
        assert_eq!(parse("grafana/grafana").unwrap(), "docker.io/grafana/grafana");
    }

    #[test]
    fn a_registry_is_a_host_in_lower_case_with_its_port() {
        for (name, repository) in [
            ("localhost/app", "localhost/app"),
            ("LOCALHOST/app", "localhost/app"),
            ("GHCR.io/team/app:v1", "ghcr.io/team/app"),
            ("registry:5000/app:v1", "registry:5000/app"),
            ("registry:443/a/b/c", "registry:443/a/b/c"),
            ("10.0.0.1:5000/app", "10.0.0.1:5000/app"),
            ("[::1]:5000/app", "[::1]:5000/app"),
            ("example.com/a_b/c-d/e.f/g__h", "example.com/a_b/c-d/e.f/g__h"),
        ] {
            assert_eq!(parse(name).unwrap(), repository);
        }
    }

    #[test]
    fn nothing_else_is_a_reference() {
        let long = format!("example.com/{}", "a".repeat(256));
        for name in [
            "",
            "/",
            "/app",
            "example.com/",
            "example.com//app",
            "example.com/app/",
            "example.com/../app",
            "example.com/./app",
            "example.com/.app",
            "example.com/App",
            "example.com/a b",
            "example.com/app?x=y",
            "example.com/app#x",
            "example.com/%2e%2e/app",
            "example.com/app\r\nHost: other",
            "example.com/a\u{1b}[2J",
            "example.com\\@other/app",
            "example.com:/app",
            "example.com:0/app",
            "example.com:65536/app",
            "example.com:port/app",
            "exa mple.com/app",
            "http://example.com/app",
            "a:1:2/app",
            "::1/app",
            "[::1/app",
            "\u{0430}pple.example/app",
            &long,
        ] {
            let error = parse(name).unwrap_err();
            assert!(!error.contains(|char: char| char.is_control()), "{error:?}");
        }
        let hex = DIGEST.strip_prefix("sha256:").unwrap();
        for text in [
            String::new(),
            "busybox".to_owned(),
            "busybox:1".to_owned(),
            "busybox@".to_owned(),
            format!("busybox@{hex}"),
            format!("busybox@sha512:{hex}"),
            format!("busybox@sha256:{}", hex.to_uppercase()),
            format!("busybox@{DIGEST}0"),
            format!("busybox@{DIGEST}\n"),
            format!("user:password@example.com/app@{DIGEST}"),
            format!("busybox@{DIGEST}@{DIGEST}"),
        ] {
            assert!(parse_reference(&text).is_err(), "{text:?}");
        }
    }
}
