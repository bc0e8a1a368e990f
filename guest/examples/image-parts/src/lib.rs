//! The parts of the image's name, with what Docker fills in: `nginx` makes `image-parts:registry:docker.io`,
//! `image-parts:repository:library/nginx` and `image-parts:tag:latest`. Grant: `image`.
//!
//! This is what the container was started with: where the image came from is not proven by its name.

use exports::docker_attestor::policy::deriver::{Guest, Workload};

wit_bindgen::generate!({ world: "extension", path: "../../../wit" });

struct ImageParts;

impl Guest for ImageParts {
    fn derive(workload: Workload, _: Vec<(String, String)>) -> Result<Vec<String>, String> {
        let image = workload.image.ok_or("it needs grants = [\"image\"]")?;
        let id = image.id.unwrap_or_default();
        // No name, or the container was started by the image's id or the beginning of it.
        if id.starts_with(&image.name) || id.starts_with(&format!("sha256:{}", image.name)) {
            return Ok(Vec::new());
        }
        let (name, digest) = image.name.split_once('@').map_or((&*image.name, None), |(name, of)| (name, Some(of)));
        // The first part is a registry if no repository of Docker's own could be called so.
        let host = |part: &str| part == "localhost" || part.contains(['.', ':']) || part != part.to_lowercase();
        let (registry, path) = name.split_once('/').filter(|(part, _)| host(part)).unwrap_or(("docker.io", name));
        let (path, tag) = path.rsplit_once(':').map_or((path, None), |(path, tag)| (path, Some(tag)));
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let library = if registry == "docker.io" && !path.contains('/') { "library/" } else { "" };
        let mut parts = vec![format!("registry:{registry}"), format!("repository:{library}{path}")];
        // A digest alone names the image: no tag is filled in.
        parts.extend(tag.or(digest.is_none().then_some("latest")).map(|tag| format!("tag:{tag}")));
        parts.extend(digest.map(|digest| format!("digest:{digest}")));
        Ok(parts)
    }
}

#[cfg(target_arch = "wasm32")]
export!(ImageParts);
