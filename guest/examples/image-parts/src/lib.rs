//! Derives the parts of the image's name, completed as Docker does: `nginx` becomes `image-parts:registry:docker.io`,
//! `image-parts:repository:library/nginx` and `image-parts:tag:latest`. Grant: `image`.
//!
//! The name is the one that the container was started with. It does not prove where the image came from.

use exports::docker_attestor::policy::deriver::{Guest, Workload};

wit_bindgen::generate!({ world: "extension", path: "../../../wit" });

struct ImageParts;

impl Guest for ImageParts {
    fn derive(workload: Workload, _: Vec<(String, String)>) -> Result<Vec<String>, String> {
        let image = workload.image.ok_or("it needs grants = [\"image\"]")?;
        let id = image.id.unwrap_or_default();
        // There is no name, or the container was started by the image's id or a prefix of the id.
        if id.starts_with(&image.name) || id.starts_with(&format!("sha256:{}", image.name)) {
            return Ok(Vec::new());
        }
        let (name, digest) =
            image.name.split_once('@').map_or((&*image.name, None), |(name, digest)| (name, Some(digest)));
        // The first part is a registry if no repository of Docker Hub could have that name.
        let host = |part: &str| part == "localhost" || part.contains(['.', ':']) || part != part.to_lowercase();
        let (registry, path) = name.split_once('/').filter(|(part, _)| host(part)).unwrap_or(("docker.io", name));
        let (path, tag) = path.rsplit_once(':').map_or((path, None), |(path, tag)| (path, Some(tag)));
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let library = if registry == "docker.io" && !path.contains('/') { "library/" } else { "" };
        let mut parts = vec![format!("registry:{registry}"), format!("repository:{library}{path}")];
        // A digest alone identifies the image, so no tag is filled in.
        parts.extend(tag.or(digest.is_none().then_some("latest")).map(|tag| format!("tag:{tag}")));
        parts.extend(digest.map(|digest| format!("digest:{digest}")));
        Ok(parts)
    }
}

#[cfg(target_arch = "wasm32")]
export!(ImageParts);
