//! Tests of stored files, their owners, and substitute certificates.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;
use crate::config::Challenge;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use std::os::unix::fs::PermissionsExt;

pub(in crate::acme) fn settings(storage: &Path, names: &[&str]) -> Settings {
    Settings {
        names: names.iter().map(|name| Box::from(*name)).collect(),
        directory: "http://127.0.0.1:1/dir".to_owned(),
        email: Vec::new(),
        challenge: Challenge::Http01,
        storage: storage.to_owned(),
        roots: None,
        external: None,
    }
}

/// A key and its certificate for these names, valid until that year.
pub(in crate::acme) fn pem(names: &[&str], until: i32) -> String {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    key.serialize_pem() + &params.self_signed(&key).unwrap().pem()
}

#[test]
fn stored_files_are_private_and_can_be_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let storage = folder.path().join("a/b");
    let settings = settings(&storage, &["a.example", "b.example"]);
    prepare(&settings).unwrap();
    assert!(load(&settings).unwrap().is_none());
    keep(&settings, &pem(&["a.example", "b.example"], 4000)).unwrap();
    let (kept, own) = load(&settings).unwrap().unwrap();
    assert!(own && kept.covers(&settings.names) && kept.validity.until > now());
    let path = certificate(&settings);
    for (path, mode) in [(path.as_path(), 0o600), (path.parent().unwrap(), 0o700), (&storage, 0o700)] {
        let found = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", path.display());
    }
    let beside: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(beside.len(), 1, "a draft is left: {beside:?}");
}

#[test]
fn a_draft_of_a_dead_process_does_not_block_a_write() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), &["a.example"]);
    prepare(&settings).unwrap();
    let draft = certificate(&settings).with_file_name(".a.example.pem.1.new");
    fs::write(&draft, "half a").unwrap();
    keep(&settings, &pem(&["a.example"], 4000)).unwrap();
    assert!(load(&settings).unwrap().is_some() && !draft.exists());
}

#[test]
fn unusable_certificates_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), &["a.example"]);
    prepare(&settings).unwrap();
    let (one, other) = (pem(&["a.example"], 4000), pem(&["a.example"], 4000));
    let mark = "-----END PRIVATE KEY-----\n";
    let (key, _) = one.split_at(one.find(mark).unwrap() + mark.len());
    let (_, foreign) = other.split_at(other.find(mark).unwrap() + mark.len());
    for wrong in ["", "nonsense", key, foreign, &format!("{key}{foreign}"), &pem(&["a.example"], 2001)] {
        keep(&settings, wrong).unwrap();
        assert!(load(&settings).unwrap().is_none(), "{wrong}");
    }
}

#[test]
fn an_unreadable_stored_certificate_is_an_error_without_an_order() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), &["a.example"]);
    prepare(&settings).unwrap();
    let file = certificate(&settings);
    fs::create_dir(&file).unwrap();
    assert!(
        load(&settings).unwrap_err().to_string().contains("a.example.pem` cannot be read: it is a directory")
    );
    fs::remove_dir(&file).unwrap();
    for target in ["nothing", "a.example.pem"] {
        std::os::unix::fs::symlink(target, &file).unwrap();
        assert!(load(&settings).is_err(), "{target}");
        fs::remove_file(&file).unwrap();
    }
    assert!(load(&settings).unwrap().is_none());
}

#[test]
fn the_certificate_with_most_names_is_the_substitute() {
    let folder = tempfile::tempdir().unwrap();
    let three = settings(folder.path(), &["a.example", "b.example", "c.example"]);
    prepare(&three).unwrap();
    for names in [&["a.example"][..], &["a.example", "b.example"], &["d.example"]] {
        keep(&settings(folder.path(), names), &pem(names, 4000)).unwrap();
    }
    let (kept, own) = load(&three).unwrap().unwrap();
    assert_eq!((kept.names.len(), own), (2, false));
    assert!(
        load(&settings(folder.path(), &["e.example"])).unwrap().is_none(),
        "no certificate covers another name"
    );
}

#[test]
fn failed_tries_are_known_after_a_restart_and_forgotten_after_a_success() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), &["a.example"]);
    prepare(&settings).unwrap();
    assert_eq!(load_tries(&settings), FailedAttempts::default());
    let failed = FailedAttempts { failed: vec![1, 2] };
    keep_tries(&settings, &failed).unwrap();
    assert_eq!(load_tries(&settings), failed);
    fs::write(tries(&settings), "nonsense").unwrap();
    assert_eq!(load_tries(&settings), FailedAttempts::default());
    for _ in 0..2 {
        keep_tries(&settings, &FailedAttempts::default()).unwrap();
    }
    assert!(!tries(&settings).exists());
}

#[test]
fn every_certificate_and_every_account_has_its_own_file() {
    let one = settings(Path::new("s"), &["a.example", "b.example"]);
    let reversed = settings(Path::new("s"), &["b.example", "a.example"]);
    let alone = settings(Path::new("s"), &["a.example"]);
    assert!(certificate(&one).to_str().unwrap().starts_with("s/127.0.0.1_1_dir/a.example-"));
    assert_eq!(certificate(&alone), Path::new("s/127.0.0.1_1_dir/a.example.pem"));
    assert_ne!(certificate(&one), certificate(&reversed), "the first name is in it");
    assert_eq!(account(&alone), Path::new("s/127.0.0.1_1_dir/account.json"));
    let mut external = alone.clone();
    external.external = Some(("../../x".to_owned(), vec![1]));
    assert_eq!(account(&external).parent(), account(&alone).parent());
    assert_ne!(account(&external), account(&alone));
}

proptest::proptest! {
    #[test]
    fn no_file_panics(bytes: Vec<u8>, text: String) {
        let _ = KeyedCertificate::read(&bytes);
        let _ = KeyedCertificate::read(format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n").as_bytes());
    }
}
