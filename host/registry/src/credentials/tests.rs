#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::reference::Reference;

const SECRET: &str = "hunter2";

fn repository(name: &str) -> Repository {
    format!("{name}@sha256:{}", "0".repeat(64)).parse::<Reference>().unwrap().repository
}

fn password(username: &str) -> Login {
    Login::Password { username: username.to_owned(), password: SECRET.to_owned() }
}

/// `USER:hunter2` as files have it.
fn auth(username: &str) -> String {
    format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(format!("{username}:{SECRET}")))
}

/// A home, with helpers.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> &Home {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn keyring(&self) -> Keyring {
        let folders = std::iter::once(self.path("").into()).chain(std::env::split_paths(system::PATH));
        let path = std::env::join_paths(folders).unwrap();
        let variables = [("DOCKER_CONFIG", self.path("docker")), ("REGISTRY_AUTH_FILE", self.path("auth.json"))];
        Keyring::new(BTreeMap::new(), &|name| match name {
            "PATH" => Some(path.clone()),
            name => variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()),
        })
    }

    async fn find(&self, name: &str) -> Result<Option<Login>, String> {
        let found = self.keyring().find(&repository(name)).await.map_err(|error| format!("{error}"));
        if let Err(text) = &found {
            assert!(!text.contains(SECRET), "{text}");
        }
        found
    }

    async fn user(&self, name: &str) -> Option<String> {
        match self.find(name).await.unwrap()? {
            Login::Password { username, password } => {
                assert!(password == SECRET);
                Some(username)
            }
            _ => panic!("a token"),
        }
    }
}

#[tokio::test]
async fn configured_credentials_come_first() {
    let home = Home::new();
    home.write("docker/config.json", "not even JSON");
    let mut keyring = home.keyring();
    let pair = Credentials { username: "configured".to_owned(), password: SECRET.to_owned() };
    keyring.configured.insert("r.example".to_owned(), pair);
    assert!(keyring.find(&repository("r.example/app")).await.unwrap() == Some(password("configured")));
    assert!(keyring.find(&repository("other.example/app")).await.is_err());
}

#[tokio::test]
async fn a_registry_is_found_however_its_key_is_written() {
    for key in [
        "r.example:5000",
        "https://r.example:5000",
        "http://r.example:5000/",
        "https://r.example:5000/v1/",
        "R.example:5000",
    ] {
        let home = Home::new();
        home.write("docker/config.json", &format!(r#"{{"auths":{{"{key}":{}}}}}"#, auth("u")));
        assert_eq!(home.user("r.example:5000/team/app").await.as_deref(), Some("u"), "{key}");
        assert_eq!(home.user("r.example/team/app").await, None, "{key}");
        assert_eq!(home.user("r.example:5001/team/app").await, None, "{key}");
        assert_eq!(home.user("sub.r.example:5000/team/app").await, None, "{key}");
    }
    for key in [HUB_KEY, "index.docker.io/v1/", "index.docker.io", "docker.io", "https://registry-1.docker.io/v2/"] {
        let home = Home::new();
        home.write("docker/config.json", &format!(r#"{{"auths":{{"{key}":{}}}}}"#, auth("u")));
        assert_eq!(home.user("busybox").await.as_deref(), Some("u"), "{key}");
        assert_eq!(home.user("quay.io/busybox").await, None, "{key}");
    }
    let home = Home::new();
    let both = format!(r#"{{"auths":{{"docker.io":{},"{HUB_KEY}":{}}}}}"#, auth("podman"), auth("docker"));
    home.write("docker/config.json", &both);
    assert_eq!(home.user("busybox").await.as_deref(), Some("docker"));
    let empty = format!(r#"{{"auths":{{"docker.io":{},"{HUB_KEY}":{{}}}}}}"#, auth("podman"));
    home.write("docker/config.json", &empty);
    assert_eq!(home.user("busybox").await.as_deref(), Some("podman"));
}

#[tokio::test]
async fn the_first_file_with_a_login_counts() {
    let home = Home::new();
    home.write("docker/config.json", &format!(r#"{{"auths":{{"r.example":{}}}}}"#, auth("docker")));
    home.write(
        "auth.json",
        &format!(r#"{{"auths":{{"r.example":{},"s.example":{}}}}}"#, auth("podman"), auth("podman")),
    );
    assert_eq!(home.user("r.example/app").await.as_deref(), Some("docker"));
    assert_eq!(home.user("s.example/app").await.as_deref(), Some("podman"));
}
