//! Which PEM becomes which part, and which is refused.

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::time::Duration;

use serde_json::Value;
use sigstore_fixtures::{Curve, Hash, Issuer, Key};
use sigstore_verify::crypto::sha256;
use sigstore_verify::types::{DerCertificate, DerPublicKey};
use x509_cert::TbsCertificate;
use x509_cert::der::asn1::{Any, BitString, GeneralizedTime};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{DateTime, Encode as _};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::Time;

use super::super::tests::{TEST_BED, public_key, refused, rsa};
use super::{authorities, logs, timestamp_authorities};
use crate::limits::TRUST_OBJECTS;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

fn pem(issuer: &Issuer) -> String {
    DerCertificate::new(issuer.certificate.to_der().unwrap()).to_pem()
}

fn pems<'a>(issuers: impl IntoIterator<Item = &'a Issuer>) -> String {
    issuers.into_iter().map(pem).collect()
}

/// A certificate like another's, with a change, issued by `by`.
fn like(model: &Issuer, by: &Issuer, change: impl FnOnce(&mut TbsCertificate)) -> Issuer {
    let mut issuer = model.clone();
    change(&mut issuer.certificate.tbs_certificate);
    sign(issuer, &by.key)
}

/// A self-signed certificate like another's, with a change and another key.
fn root_like(model: &Issuer, key: Key, change: impl FnOnce(&mut TbsCertificate)) -> Issuer {
    let mut issuer = Issuer { key, certificate: model.certificate.clone() };
    issuer.certificate.tbs_certificate.subject_public_key_info = issuer.key.public();
    change(&mut issuer.certificate.tbs_certificate);
    let key = issuer.key.clone();
    sign(issuer, &key)
}

fn sign(mut issuer: Issuer, key: &Key) -> Issuer {
    let oid = match key.hash() {
        Hash::Sha256 => "1.2.840.10045.4.3.2",
        Hash::Sha384 => "1.2.840.10045.4.3.3",
    };
    let certificate = &mut issuer.certificate;
    certificate.signature_algorithm.oid = ObjectIdentifier::new(oid).unwrap();
    certificate.tbs_certificate.signature = certificate.signature_algorithm.clone();
    let signed = certificate.tbs_certificate.to_der().unwrap();
    certificate.signature = BitString::from_bytes(&key.sign(&signed, key.hash())).unwrap();
    issuer
}

fn name(common_name: &str) -> Name {
    Name::from_str(&format!("CN={common_name}")).unwrap()
}

fn serial(number: u8) -> SerialNumber {
    SerialNumber::new(&[number]).unwrap()
}

/// That many years from when the world's certificates began, which is three years ago.
fn at(years: u32) -> Time {
    let began = TEST_BED.fulcio.root.certificate.tbs_certificate.validity.not_before.to_unix_duration();
    let time = DateTime::from_unix_duration(began + YEAR * years).unwrap();
    Time::GeneralTime(GeneralizedTime::from_date_time(time))
}

/// Each authority's chain, as the names in it and the place of each certificate among `issuers`.
fn chains(authorities: &Value, issuers: &[&Issuer]) -> BTreeSet<Vec<usize>> {
    let place = |certificate: &Value| {
        let is_it = |issuer: &&Issuer| {
            let der = DerCertificate::new(issuer.certificate.to_der().unwrap());
            certificate["rawBytes"] == der.to_base64()
        };
        issuers.iter().position(is_it).unwrap()
    };
    let chain =
        |authority: &Value| authority["certChain"]["certificates"].as_array().unwrap().iter().map(place).collect();
    authorities.as_array().unwrap().iter().map(chain).collect()
}

#[test]
fn authorities_may_be_written_in_any_order() {
    let (ours, old) = (&TEST_BED.fulcio, &TEST_BED.expired);
    let issuers = [&ours.root, &ours.issuer, &old.root, &old.issuer];
    for order in [[0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1], [0, 2, 1, 3]] {
        let made = authorities(&pems(order.map(|place| issuers[place]))).unwrap();
        assert_eq!(chains(&made, &issuers), BTreeSet::from([vec![0], vec![1, 0], vec![2], vec![3, 2]]));
    }
}

#[test]
fn an_authority_is_trusted_while_its_whole_path_is_valid() {
    let root = &TEST_BED.fulcio.root;
    let early = like(&TEST_BED.fulcio.issuer, root, |certificate| certificate.validity.not_after = at(1));
    let late = like(&TEST_BED.fulcio.issuer, root, |certificate| certificate.validity.not_before = at(2));
    let made = authorities(&pems([root, &early, &late])).unwrap();
    let windows: BTreeSet<(&str, &str)> = made
        .as_array()
        .unwrap()
        .iter()
        .map(|authority| (&authority["validFor"]["start"], &authority["validFor"]["end"]))
        .map(|(start, end)| (start.as_str().unwrap(), end.as_str().unwrap()))
        .collect();
    let time = |time: Time| time.to_date_time().to_string();
    let (begin, end) =
        (root.certificate.tbs_certificate.validity.not_before, root.certificate.tbs_certificate.validity.not_after);
    let expected = [(begin, end), (begin, at(1)), (at(2), end)].map(|(start, end)| (time(start), time(end)));
    assert_eq!(windows, expected.iter().map(|(start, end)| (start.as_str(), end.as_str())).collect());
}

#[test]
fn roots_of_one_name_are_told_apart_by_their_keys() {
    let first = &TEST_BED.fulcio.root;
    let second = root_like(first, Key::new(Curve::P256), |_| {});
    let third = root_like(first, Key::ed25519(), |_| {});
    let issued = like(&TEST_BED.fulcio.issuer, &second, |_| {});
    let issuers = [first, &third, &second, &issued];
    let made = authorities(&pems(issuers)).unwrap();
    assert_eq!(chains(&made, &issuers), BTreeSet::from([vec![0], vec![1], vec![2], vec![3, 2]]));
}

#[test]
fn a_root_that_was_renewed_with_its_key_is_a_root_twice() {
    let old = like(&TEST_BED.fulcio.root, &TEST_BED.fulcio.root, |certificate| certificate.validity.not_after = at(1));
    let new = &TEST_BED.fulcio.root;
    let issuers = [&old, new, &TEST_BED.fulcio.issuer];
    let made = authorities(&pems(issuers)).unwrap();
    assert_eq!(chains(&made, &issuers), BTreeSet::from([vec![0], vec![1], vec![2, 0], vec![2, 1]]));
    // Only with one of them was this intermediate valid at any time.
    let late = like(&TEST_BED.fulcio.issuer, new, |certificate| certificate.validity.not_before = at(2));
    let issuers = [&old, new, &late];
    let made = authorities(&pems(issuers)).unwrap();
    assert_eq!(chains(&made, &issuers), BTreeSet::from([vec![0], vec![1], vec![2, 1]]));
}

#[test]
fn an_authority_without_a_path_to_a_root_is_named() {
    let (root, issuer) = (&TEST_BED.fulcio.root, &TEST_BED.fulcio.issuer);
    let named_like = root_like(root, Key::new(Curve::P384), |_| {});
    let never_together = like(root, root, |certificate| certificate.validity.not_before = at(20));
    let never_together = like(&never_together, root, |certificate| certificate.validity.not_after = at(21));
    let never = like(root, root, |certificate| certificate.validity.not_after = at(0));
    let never = like(&never, root, |certificate| certificate.validity.not_before = at(1));
    let stranger = like(issuer, &TEST_BED.expired.root, |_| {});
    let up = like(issuer, issuer, |certificate| {
        (certificate.subject, certificate.issuer) = (name("up"), name("down"));
    });
    let down = like(issuer, issuer, |certificate| {
        (certificate.subject, certificate.issuer) = (name("down"), name("up"));
    });
    for (what, issuers) in [
        ("its issuer is not there", vec![issuer]),
        ("its issuer has another name", vec![issuer, &TEST_BED.expired.root]),
        ("its issuer has another key", vec![issuer, &named_like]),
        ("another signed it", vec![&stranger, root]),
        ("they are never valid at the same time", vec![issuer, &never_together]),
        ("they issued each other", vec![&up, &down, root]),
        ("it is never valid", vec![&never]),
    ] {
        let error = refused(authorities(&pems(issuers)), what);
        assert!(error.starts_with("certificate 1 (") && error.contains("no path leads from it to a root"), "{error}");
    }
}

#[test]
fn what_is_no_authority_is_refused_among_them() {
    let error = authorities(&pems([&TEST_BED.fulcio.root, &TEST_BED.tsa.issuer])).unwrap_err().to_string();
    assert!(error.starts_with("certificate 2 (") && error.contains("is no certificate authority's"), "{error}");
    let old = like(&TEST_BED.fulcio.root, &TEST_BED.fulcio.root, |certificate| certificate.extensions = None);
    assert!(authorities(&pem(&old)).unwrap_err().to_string().contains("is no certificate authority's"));
}

#[test]
fn a_certificate_without_an_end_is_trusted() {
    let root = like(&TEST_BED.fulcio.root, &TEST_BED.fulcio.root, |certificate| {
        let last = DateTime::new(9999, 12, 31, 23, 59, 59).unwrap();
        certificate.validity.not_after = Time::GeneralTime(GeneralizedTime::from_date_time(last));
    });
    let made = authorities(&pem(&root)).unwrap();
    assert!(made[0]["validFor"]["end"].as_str().unwrap().starts_with("9999-12-30T"));
}

#[test]
fn a_certificate_that_is_there_twice_counts_once() {
    let twice = TEST_BED.fulcio.pem() + &TEST_BED.fulcio.pem();
    assert_eq!(authorities(&twice).unwrap(), authorities(&TEST_BED.fulcio.pem()).unwrap());
}

#[test]
fn text_between_the_sections_and_line_ends_of_windows_do_not_matter() {
    let text = format!("# Fulcio\n{}\nSubject: root\n{}", pem(&TEST_BED.fulcio.issuer), pem(&TEST_BED.fulcio.root));
    let expected = authorities(&TEST_BED.fulcio.pem()).unwrap();
    assert_eq!(authorities(&text).unwrap(), expected);
    assert_eq!(authorities(&text.replace('\n', "\r\n")).unwrap(), expected);
}

#[test]
fn many_certificates_and_many_paths_are_refused() {
    let key = TEST_BED.key.public_pem();
    assert!(logs(&key.repeat(TRUST_OBJECTS + 1), &["P-256"]).unwrap_err().to_string().contains("more than 64"));
    let root = pem(&TEST_BED.fulcio.root);
    assert!(authorities(&root.repeat(TRUST_OBJECTS)).is_ok());
    assert!(authorities(&root.repeat(TRUST_OBJECTS + 1)).unwrap_err().to_string().contains("more than 64"));

    // Four roots of one key, four intermediates of one key below each, four below each of those.
    let layers: Vec<Issuer> = (0..12)
        .map(|number: u8| {
            like(&TEST_BED.fulcio.root, &TEST_BED.fulcio.root, |certificate| {
                certificate.serial_number = serial(number + 1);
                certificate.subject = name(&format!("layer {}", number / 4));
                certificate.issuer = name(&format!("layer {}", (number / 4).saturating_sub(1)));
            })
        })
        .collect();
    let error = authorities(&pems(&layers)).unwrap_err().to_string();
    assert!(error.contains("more than 64 paths"), "{error}");
}

#[test]
fn timestamp_authorities_may_be_written_in_any_order() {
    let (root, own) = (&TEST_BED.tsa.root, &TEST_BED.tsa.issuer);
    for order in [[root, own], [own, root]] {
        assert_eq!(chains(&timestamp_authorities(&pems(order)).unwrap(), &[own, root]), BTreeSet::from([vec![0, 1]]));
    }
    // The next one of the same authority.
    let next = like(own, root, |certificate| certificate.serial_number = serial(1));
    let made = timestamp_authorities(&pems([&next, own, root])).unwrap();
    assert_eq!(chains(&made, &[own, root, &next]), BTreeSet::from([vec![0, 1], vec![2, 1]]));
}

#[test]
fn timestamp_authorities_that_cannot_sign_timestamps_are_refused() {
    let (root, own) = (&TEST_BED.tsa.root, &TEST_BED.tsa.issuer);
    let for_anything = like(own, root, |certificate| {
        certificate.extensions.as_mut().unwrap().retain(|extension| extension.extn_id.to_string() != "2.5.29.37");
    });
    let of_itself =
        root_like(own, Key::new(Curve::P384), |certificate| certificate.issuer = certificate.subject.clone());
    for (reason, issuers) in [
        ("holds no timestamp authority's own certificate", vec![root]),
        ("is not for timestamps", vec![&for_anything, root]),
        ("no path leads from it to a root", vec![own]),
        ("no path leads from it to a root", vec![own, &TEST_BED.fulcio.root]),
        ("no path leads from it to a root", vec![&of_itself]),
        ("no path leads from it to a root", vec![own, root, &TEST_BED.fulcio.issuer]),
    ] {
        let error = refused(timestamp_authorities(&pems(issuers)), reason);
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

const KINDS: [&str; 4] = ["P-256", "P-384", "Ed25519", "RSA"];

#[test]
fn logs_have_every_kind_of_key_and_its_hash_for_an_id() {
    let keys = [
        (DerPublicKey::new(Key::new(Curve::P256).public_der()), "PKIX_ECDSA_P256_SHA_256"),
        (DerPublicKey::new(Key::new(Curve::P384).public_der()), "PKIX_ECDSA_P384_SHA_384"),
        (DerPublicKey::new(Key::ed25519().public_der()), "PKIX_ED25519"),
        (rsa(2048), "PKIX_RSA_PKCS1V15_2048_SHA256"),
        (rsa(3072), "PKIX_RSA_PKCS1V15_3072_SHA256"),
        (rsa(4096), "PKIX_RSA_PKCS1V15_4096_SHA256"),
    ];
    let text: String = keys.iter().map(|(key, _)| key.to_pem()).collect();
    let made = logs(&text, &KINDS).unwrap();
    assert_eq!(made.as_array().unwrap().len(), keys.len());
    for (log, (key, details)) in made.as_array().unwrap().iter().zip(&keys) {
        assert_eq!(log["publicKey"]["keyDetails"], *details);
        assert_eq!(log["publicKey"]["rawBytes"], key.to_base64());
        assert_eq!(log["logId"]["keyId"], sha256(key.as_bytes()).to_base64());
    }
}

#[test]
fn keys_that_are_weak_or_of_another_kind_are_refused() {
    let p521 = Any::encode_from(&ObjectIdentifier::new_unwrap("1.3.132.0.35")).unwrap();
    let p256 = Any::encode_from(&ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7")).unwrap();
    let ec = "1.2.840.10045.2.1";
    let x25519 = public_key("1.3.101.110", Any::null(), &[1; 32]);
    for (what, key) in [
        ("RSA of 1024 bits", rsa(1024)),
        ("RSA of 2047 bits", rsa(2047)),
        ("RSA of 8192 bits", rsa(8192)),
        ("curve", public_key(ec, p521, &[4; 133])),
        ("unsupported key algorithm", x25519),
        ("malformed P-256 key", public_key(ec, p256, &[4; 64])),
        ("invalid RSA public key", public_key("1.2.840.113549.1.1.1", Any::null(), &[0x30, 0x80])),
    ] {
        let error = refused(logs(&key.to_pem(), &KINDS), what);
        assert!(error.starts_with("key 1: ") && error.contains(what), "{what}: {error}");
    }
    let error = logs(&Key::ed25519().public_pem(), &["P-256", "RSA"]).unwrap_err().to_string();
    assert_eq!(error, "key 1: Ed25519 is not supported here: take one of P-256, RSA");
}

#[test]
fn an_rsa_key_in_its_older_form_is_answered_with_how_to_convert_it() {
    let error =
        logs("-----BEGIN RSA PUBLIC KEY-----\nMIIB\n-----END RSA PUBLIC KEY-----\n", &KINDS).unwrap_err().to_string();
    assert!(error.contains("openssl rsa -RSAPublicKey_in"), "{error}");
}
