//! Where each part comes from, and that a broken source is an error, never a reason to take the next one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Value, json};
use sigstore_fixtures::TestBed;
use sigstore_trust_root::TrustedRoot;
use sigstore_verify::types::DerPublicKey;
use tempfile::TempDir;
use x509_cert::der::Encode as _;
use x509_cert::der::asn1::{Any, BitString, Uint};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use super::{PARTS, Part, Trust, load};
use crate::limits::TRUST_FILE;

/// One world for all tests: they read it only.
pub(super) static TEST_BED: LazyLock<TestBed> = LazyLock::new(TestBed::new);

/// A machine's files and environment. `trust` holds what [`TestBed::save`] writes; at first no variable is set.
pub(super) struct Machine {
    directory: TempDir,
    variables: BTreeMap<String, OsString>,
    /// The variables that were asked for.
    asked: RefCell<BTreeSet<String>>,
}

impl Machine {
    pub(super) fn new() -> Machine {
        let directory = tempfile::tempdir().unwrap();
        TEST_BED.save(&directory.path().join("trust"));
        fs::create_dir(directory.path().join("home")).unwrap();
        Machine { directory, variables: BTreeMap::new(), asked: RefCell::default() }
    }

    pub(super) fn with(mut self, variable: &str, value: impl Into<OsString>) -> Machine {
        self.variables.insert(variable.to_owned(), value.into());
        self
    }

    /// With a home in which there is a file, and with the folders above it.
    pub(super) fn with_home(self, file: &str, content: impl AsRef<[u8]>) -> Machine {
        self.write(&format!("home/{file}"), content);
        let home = self.path("home");
        self.with("HOME", home)
    }

    /// With a part's variable and its file.
    fn with_part(self, part: Part) -> Machine {
        let path = self.material(part);
        self.with(part.variable(), path)
    }

    fn material(&self, part: Part) -> PathBuf {
        self.path(match part {
            Part::Fulcio => "trust/fulcio.pem",
            Part::Rekor => "trust/rekor.pub",
            Part::Ct => "trust/ct-log.pub",
            Part::Tsa => "trust/tsa.pem",
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(super) fn load(&self) -> Result<Trust, String> {
        load(None, &|variable| self.variable(variable)).map_err(|error| error.to_string())
    }

    fn load_configured(&self, trusted_root: &Path) -> Result<Trust, String> {
        load(Some(trusted_root), &|variable| self.variable(variable)).map_err(|error| error.to_string())
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        self.asked.borrow_mut().insert(name.to_owned());
        self.variables.get(name).cloned()
    }
}

/// The keys and certificates of a part, in base64.
pub(super) fn material(root: &TrustedRoot, part: Part) -> BTreeSet<String> {
    fn collect(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("rawBytes").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| collect(value, found));
            }
            Value::Array(array) => array.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    collect(&serde_json::to_value(root).unwrap()[part.array()], &mut found);
    found
}

/// The same of a PEM file.
fn material_of_pem(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap();
    let sections = text.split("-----BEGIN").skip(1);
    sections.map(|section| section.lines().skip(1).take_while(|line| !line.starts_with("-----")).collect()).collect()
}

/// Why it was refused.
pub(super) fn refused<T, E: ToString>(result: Result<T, E>, what: &str) -> String {
    result.err().unwrap_or_else(|| panic!("accepted: {what}")).to_string()
}

/// An RSA key of that many bits: no other than its shape matters.
pub(super) fn rsa(bits: usize) -> DerPublicKey {
    let mut modulus = vec![0xff; bits.div_ceil(8)];
    modulus[0] >>= modulus.len() * 8 - bits;
    let key = vec![Uint::new(&modulus).unwrap(), Uint::new(&[1, 0, 1]).unwrap()].to_der().unwrap();
    public_key("1.2.840.113549.1.1.1", Any::null(), &key)
}

/// A key of any algorithm (its object identifier and parameters).
pub(super) fn public_key(algorithm: &str, parameters: Any, key: &[u8]) -> DerPublicKey {
    let oid = ObjectIdentifier::new(algorithm).unwrap();
    let key = SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned { oid, parameters: Some(parameters) },
        subject_public_key: BitString::from_bytes(key).unwrap(),
    };
    DerPublicKey::new(key.to_der().unwrap())
}

fn source(trust: &Trust, part: Part) -> &str {
    &trust.sources.iter().find(|(name, _)| *name == part.name()).unwrap().1
}

fn public_good() -> TrustedRoot {
    TrustedRoot::from_json(sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap()
}

#[test]
fn the_public_good_root_serves_where_there_is_nothing_else() {
    let machine = Machine::new();
    let trust = machine.load().unwrap();
    for part in PARTS {
        assert_eq!(material(&trust.root, part), material(&public_good(), part));
        assert_eq!(source(&trust, part), "public-good root of this program");
    }
    assert!(trust.refresh.is_some());
}

#[test]
fn a_variable_gives_its_own_part_and_leaves_the_others_to_tuf() {
    for own in PARTS {
        let machine = Machine::new().with_part(own);
        let trust = machine.load().unwrap();
        for part in PARTS {
            if part == own {
                let path = machine.material(own);
                assert_eq!(material(&trust.root, part), material_of_pem(&path));
                assert_eq!(source(&trust, part), format!("{} {}", own.variable(), path.display()));
            } else {
                assert_eq!(material(&trust.root, part), material(&public_good(), part));
                assert_eq!(source(&trust, part), "public-good root of this program");
            }
        }
        assert!(trust.refresh.is_some());
    }
}

#[test]
fn with_all_four_variables_nothing_comes_from_tuf() {
    // A cache that could not be used if it were looked at.
    let machine = Machine::new().with_home(".sigstore/root/tuf.db/CURRENT", "MANIFEST-000000");
    let machine = PARTS.into_iter().fold(machine, Machine::with_part);
    let trust = machine.load().unwrap();
    for part in PARTS {
        assert_eq!(material(&trust.root, part), material_of_pem(&machine.material(part)));
    }
    assert!(trust.refresh.is_none());
}

#[test]
fn a_variable_that_is_set_to_nothing_counts_as_unset() {
    let names = ["HOME", "TUF_ROOT"].into_iter().chain(PARTS.map(Part::variable));
    let machine = names.fold(Machine::new(), |machine, name| machine.with(name, ""));
    let trust = machine.load().unwrap();
    for part in PARTS {
        assert_eq!(source(&trust, part), "public-good root of this program");
    }
}

#[test]
fn a_configured_trusted_root_is_all_that_counts() {
    let machine = Machine::new().with_home(".sigstore/root/tuf.db/CURRENT", "").with("TUF_ROOT", "/nowhere");
    let machine = PARTS.into_iter().fold(machine, |machine, part| machine.with(part.variable(), "/nowhere"));
    let path = machine.path("trust/trusted_root.json");
    let trust = machine.load_configured(&path).unwrap();
    let world = TrustedRoot::from_json(&fs::read_to_string(&path).unwrap()).unwrap();
    for part in PARTS {
        assert_eq!(material(&trust.root, part), material(&world, part));
        assert_eq!(source(&trust, part), format!("trusted_root {}", path.display()));
    }
    assert!(trust.refresh.is_none());
    assert_eq!(*machine.asked.borrow(), BTreeSet::new());
}

#[test]
fn no_other_variable_is_asked_for() {
    let machine = Machine::new();
    machine.load().unwrap();
    let documented = ["HOME", "TUF_ROOT"].into_iter().chain(PARTS.map(Part::variable)).map(str::to_owned);
    assert_eq!(*machine.asked.borrow(), documented.collect());
}

#[test]
fn nowhere_to_look_for_a_cache_is_said() {
    let unset = Machine::new().load().unwrap();
    assert!(unset.warnings[0].contains("HOME and TUF_ROOT are unset"), "{:?}", unset.warnings);
    let never_initialized = Machine::new().with("HOME", "/nowhere").load().unwrap();
    assert_eq!(never_initialized.warnings, Vec::<String>::new());
}

#[test]
fn a_trusted_root_that_trusts_nobody_is_said() {
    let machine = Machine::new();
    let path = machine.write("empty.json", format!(r#"{{"mediaType": "{}+json;version=0.1"}}"#, super::MEDIA_TYPE));
    let trust = machine.load_configured(&path).unwrap();
    assert!(trust.warnings[0].contains("all parts are empty"), "{:?}", trust.warnings);
}

#[test]
fn a_file_behind_links_is_read_as_kubernetes_mounts_them() {
    let machine = Machine::new();
    machine.write("mount/..2026_11_25/rekor.pub", TEST_BED.key.public_pem());
    symlink("..2026_11_25", machine.path("mount/..data")).unwrap();
    symlink("..data/rekor.pub", machine.path("mount/rekor.pub")).unwrap();
    let path = machine.path("mount/rekor.pub");
    let trust = machine.with(Part::Rekor.variable(), path).load().unwrap();
    assert_eq!(material(&trust.root, Part::Rekor).len(), 1);
}

type Make = fn(&Path);

/// What cannot be read as text: the reason, and how to make such a file.
pub(super) const UNREADABLE: [(&str, Make); 6] = [
    ("no such file", |_| {}),
    ("no such file", |path| symlink("/nowhere", path).unwrap()),
    ("not a regular file", |path| fs::create_dir(path).unwrap()),
    ("not a regular file", |path| {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }),
    ("larger than", |path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap()),
    ("not UTF-8", |path| fs::write(path, b"\xff\xfe-----BEGIN CERTIFICATE-----").unwrap()),
];

#[test]
fn a_variable_whose_file_cannot_be_read_is_an_error_that_names_both() {
    for part in PARTS {
        for (reason, make) in UNREADABLE {
            let machine = Machine::new();
            let path = machine.path("broken");
            make(&path);
            let error = machine.with(part.variable(), &path).load().unwrap_err();
            assert!(error.starts_with(&format!("{}: {}: {reason}", part.variable(), path.display())), "{error}");
        }
    }
}

#[test]
fn a_variable_whose_file_holds_something_else_is_an_error_that_names_both() {
    let certificates = TEST_BED.fulcio.pem();
    let keys = TEST_BED.key.public_pem();
    let truncated = |pem: &str| {
        let (label, lines) = pem.trim().split_once('\n').unwrap();
        let lines: Vec<&str> = lines.lines().collect();
        format!("{label}\n{}\n{}\n", lines[0], lines.last().unwrap())
    };
    for part in PARTS {
        let (right, wrong) = match part {
            Part::Fulcio | Part::Tsa => (&certificates, &keys),
            Part::Rekor | Part::Ct => (&keys, &certificates),
        };
        for (content, reason) in [
            (String::new(), "holds no PEM"),
            ("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE".to_owned(), "holds no PEM"),
            (wrong.clone(), "only PEM of"),
            (format!("{right}{wrong}"), "only PEM of"),
            (right.replace("-----END", "----END"), "malformed PEM"),
            (right.replacen('M', "*", 1), "malformed PEM"),
            (right.replace('\n', ""), "malformed PEM"),
            (truncated(right), "malformed"),
            (format!("{right}{}", truncated(right)), "malformed"),
        ] {
            let machine = Machine::new();
            let path = machine.write("broken.pem", &content);
            let error = machine.with(part.variable(), &path).load().unwrap_err();
            assert!(error.starts_with(&format!("{}: {}: ", part.variable(), path.display())), "{error}");
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}

#[test]
fn a_log_key_that_is_there_twice_is_refused() {
    let machine = Machine::new();
    let path = machine.write("rekor.pub", TEST_BED.key.public_pem().repeat(2));
    let error = machine.with(Part::Rekor.variable(), path).load().unwrap_err();
    assert!(error.contains("duplicate"), "{error}");
}

#[test]
fn a_private_key_is_refused_and_never_repeated() {
    let machine = Machine::new();
    let key = fs::read_to_string(machine.path("trust/rekor.key.pem")).unwrap();
    let secret = key.lines().nth(1).unwrap().get(..16).unwrap();
    // As it is; with its line ends lost, as some secret stores do; without what makes it PEM; and for old machines.
    let shapes = [
        key.clone(),
        key.replace('\n', ""),
        key.replace("-----\n", ""),
        key.replace(" PRIVATE KEY", "").replace('\n', ""),
        key.replace('\n', "\r"),
    ];
    for part in PARTS {
        for shape in &shapes {
            let path = machine.write("private.pem", shape);
            let error = load(None, &|name| (name == part.variable()).then(|| path.clone().into())).unwrap_err();
            assert!(!format!("{error:?}").contains(secret), "a secret is in the error");
            let error = error.to_string();
            assert!(error.contains("only PEM of") || error.contains("holds no PEM"), "{error}");
            assert!(!error.contains(secret), "{error}");
        }
    }
}

#[test]
fn a_configured_trusted_root_that_is_broken_is_an_error_that_names_it() {
    let machine = Machine::new();
    for (index, (reason, make)) in UNREADABLE.into_iter().enumerate() {
        let path = machine.path(&format!("broken{index}"));
        make(&path);
        let error = machine.load_configured(&path).unwrap_err();
        assert!(error.starts_with(&format!("trusted_root: {}: {reason}", path.display())), "{error}");
        assert!(error.ends_with("name a trusted_root.json"), "{error}");
    }
}

#[test]
fn a_trusted_root_that_nothing_can_be_verified_with_is_refused() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 11] = [
        ("mediaType", |root| root["mediaType"] = json!("application/json")),
        ("mediaType", |root| drop(root.as_object_mut().unwrap().remove("mediaType"))),
        ("invalid type", |root| root["tlogs"] = json!({})),
        ("invalid type", |root| root["ctlogs"] = json!(null)),
        ("base64", |root| root["tlogs"][0]["publicKey"]["rawBytes"] = json!("*")),
        ("SPKI", |root| root["tlogs"][0]["publicKey"]["rawBytes"] = json!("MFkwEwYH")),
        ("duplicate", |root| root["tlogs"][1] = root["tlogs"][0].clone()),
        ("before it starts", |root| root["tlogs"][0]["publicKey"]["validFor"]["end"] = json!("2001-01-01T00:00:00Z")),
        ("empty certificate chain", |root| root["certificateAuthorities"][0]["certChain"]["certificates"] = json!([])),
        ("certificate", |root| {
            let chain = &mut root["timestampAuthorities"][0]["certChain"]["certificates"];
            chain[0]["rawBytes"] = json!("MIIB");
        }),
        ("before it starts", |root| {
            root["certificateAuthorities"][0]["validFor"]["end"] = json!("2001-01-01T00:00:00Z");
        }),
    ];
    let machine = Machine::new();
    for (reason, change) in changes {
        let mut root = TEST_BED.trusted_root();
        change(&mut root);
        let path = machine.write("trusted_root.json", root.to_string());
        let error = refused(machine.load_configured(&path), reason);
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn a_key_that_is_there_twice_is_refused_at_every_depth() {
    let machine = Machine::new();
    let text = TEST_BED.trusted_root().to_string();
    for key in ["mediaType", "tlogs", "publicKey", "rawBytes", "logId", "keyId", "certChain", "validFor", "start"] {
        let (before, after) = text.split_once(&format!("\"{key}\":")).unwrap();
        // The same value again, so that only the repetition is wrong.
        let value: Value = serde_json::Deserializer::from_str(after).into_iter().next().unwrap().unwrap();
        let twice = format!("{before}\"{key}\":{value},\"{key}\":{after}");
        let path = machine.write("trusted_root.json", twice);
        let error = refused(machine.load_configured(&path), key);
        assert!(error.contains("duplicate field"), "{key}: {error}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let machine = Machine::new()
        .with_home(".sigstore/root/tuf.db/CURRENT", "")
        .with(Part::Rekor.variable(), "/nowhere/rekor.pub")
        .with(Part::Tsa.variable(), "/nowhere/tsa.pem");
    let error = machine.load().unwrap_err();
    for part in
        ["SIGSTORE_REKOR_PUBLIC_KEY: /nowhere/rekor.pub", "SIGSTORE_TSA_CERTIFICATE_FILE: /nowhere/tsa.pem", "tuf.db"]
    {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_file_as_large_as_is_allowed_is_read() {
    let machine = Machine::new();
    let mut text = TEST_BED.key.public_pem();
    text.extend(std::iter::repeat_n('\n', usize::try_from(TRUST_FILE).unwrap() - text.len()));
    let path = machine.write("rekor.pub", &text);
    let machine = machine.with(Part::Rekor.variable(), &path);
    machine.load().unwrap();
    fs::write(&path, text + "\n").unwrap();
    assert!(machine.load().unwrap_err().contains("larger than 1048576 bytes"));
}
