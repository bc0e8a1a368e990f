//! The places of files on Windows, and helpers that are missing.

use super::*;

#[test]
fn the_files_are_looked_at_in_the_order_of_the_manual() {
    let with = |variables: &[(&str, &str)]| {
        let files = files(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()));
        files.into_iter().collect::<Vec<_>>()
    };
    let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
    assert_eq!(with(&[]), paths(&[]));
    assert_eq!(with(&[("HOME", r"C:\msys\home")]), paths(&[]), "it is not a variable of Windows");
    assert_eq!(
        with(&[("USERPROFILE", r"C:\Users\u")]),
        paths(&[r"C:\Users\u\.docker\config.json", r"C:\Users\u\.config\containers\auth.json"])
    );
    assert_eq!(
        with(&[
            ("USERPROFILE", r"C:\Users\u"),
            ("DOCKER_CONFIG", r"D:\docker"),
            ("REGISTRY_AUTH_FILE", r"D:\auth.json")
        ]),
        paths(&[r"D:\docker\config.json", r"D:\auth.json"])
    );
}

#[tokio::test]
async fn a_helper_is_a_program_with_the_ending_exe() {
    let home = Home::new();
    home.write("docker/config.json", r#"{"credsStore":"missing"}"#).write("docker-credential-missing.cmd", "echo {}");
    let error = home.find("r.example/app").await.err().unwrap();
    assert!(error.contains("docker-credential-missing.exe"), "{error}");
}

#[tokio::test]
async fn a_device_is_no_file_of_logins() {
    let home = Home::new();
    for name in ["NUL", r"\\.\NUL"] {
        let keyring =
            Keyring::new(BTreeMap::new(), &|variable| (variable == "REGISTRY_AUTH_FILE").then(|| name.into()));
        let found = keyring.find(&repository("r.example/app")).await;
        assert!(found.err().is_some_and(|error| error.to_string().ends_with("not a regular file")), "{name}");
    }
    home.write("docker/config.json", "{}");
    assert!(home.find("r.example/app").await.unwrap().is_none());
}
