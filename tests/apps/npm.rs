//! A private npm registry (Verdaccio) under a subpath: npm publishes, views and installs a scoped package.

use crate::application::{Place, answer, installed};
use crate::browser::Browser;
use crate::guide::Guide;
use crate::support::Gateway;
use serde_json::json;
use std::process::Command;

const VERDACCIO: &str = "target/apps/npm/node_modules/.bin/verdaccio";

/// npm without this machine's settings.
struct Npm<'a> {
    place: &'a Place,
    token: String,
}

impl Npm<'_> {
    fn run(&self, folder: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("npm");
        // Environment settings take precedence over those in files.
        for (name, _) in std::env::vars().filter(|(name, _)| name.to_lowercase().starts_with("npm_")) {
            command.env_remove(name);
        }
        command
            .current_dir(self.place.path(folder))
            .env("HOME", self.place.path(""))
            .env("NPM_CONFIG_USERCONFIG", self.place.path(".npmrc"))
            .env("NPM_CONFIG_GLOBALCONFIG", self.place.path("no-such-file"))
            .env("NPM_CONFIG_CACHE", self.place.path("cache"))
            .env("NPM_CONFIG_UPDATE_NOTIFIER", "false")
            .env("NPM_CONFIG_FETCH_RETRIES", "0")
            .env("NPM_TOKEN", &self.token)
            .args(arguments);
        self.place.run(&mut command).trim().to_owned()
    }
}

#[test]
fn npm_publishes_views_and_installs_a_scoped_package() {
    if !installed("npm_publishes_views_and_installs_a_scoped_package", &[VERDACCIO]) {
        return;
    }
    let (place, guide) = (Place::new(), Guide::of("npm"));
    let address = place.address();
    let settings = place.write("config.yaml", &guide.file("config.yaml", &[]));
    let mut command = place.command(VERDACCIO);
    command.args(["--config", settings.to_str().unwrap(), "--listen", &address.to_string()]);
    let _registry =
        place.start(&mut command, || answer(address, "/-/ping").is_some_and(|pong| pong.status == 200));
    let gateway = Gateway::start(&guide.yaml(&[("127.0.0.1:4873", &address.to_string())]));
    let web = gateway.web().to_string();
    let mut browser = Browser::new(gateway.web());
    guide.check(gateway.web(), &[]);

    browser.redirected("/npm", "/npm/");
    browser.open("/npm/", "/npm/", &[]);

    let account = json!({ "name": "me", "password": "open-sesame" });
    let made = browser.send(
        "PUT",
        "/npm/-/user/org.couchdb.user:me",
        &[("Content-Type", "application/json")],
        account.to_string().as_bytes(),
    );
    assert_eq!(made.status, 201, "{}{}", made.head, made.text());
    place.write(".npmrc", &guide.file(".npmrc", &[("127.0.0.1:8080", &web)]));
    let npm = Npm { place: &place, token: made.json()["token"].as_str().unwrap().to_owned() };
    assert_eq!(npm.run("", &["whoami"]), "me");

    // 3 MiB that do not compress: the upload is a JSON document that contains all of it.
    let mut state = 1u64;
    let noise: Vec<u8> = (0..3 << 20)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    for version in ["1.0.0", "1.1.0"] {
        let manifest =
            json!({ "name": "@moon/gate", "version": version, "main": "noise.bin", "license": "MIT" });
        place.write("package/package.json", &manifest.to_string());
        std::fs::write(place.path("package/noise.bin"), &noise).unwrap();
        npm.run("package", &["publish"]);
    }
    assert_eq!(npm.run("", &["view", "@moon/gate", "version"]), "1.1.0");
    let tarball = npm.run("", &["view", "@moon/gate@1.0.0", "dist.tarball"]);
    assert_eq!(tarball, format!("http://{web}/npm/@moon/gate/-/gate-1.0.0.tgz"));
    npm.run("", &["dist-tag", "add", "@moon/gate@1.0.0", "old"]);
    assert!(npm.run("", &["dist-tag", "ls", "@moon/gate"]).contains("old: 1.0.0"));

    place.write("user/package.json", &json!({ "name": "user", "private": true }).to_string());
    npm.run("user", &["install", "--no-audit", "--no-fund", "@moon/gate@old"]);
    let installed = place.path("user/node_modules/@moon/gate");
    assert!(std::fs::read(installed.join("noise.bin")).unwrap() == noise, "the package came back changed");
    let manifest = std::fs::read_to_string(installed.join("package.json")).unwrap();
    assert!(manifest.contains("1.0.0"), "{manifest}");
    npm.run("", &["unpublish", "--force", "@moon/gate@1.1.0"]);
    assert_eq!(npm.run("", &["view", "@moon/gate", "versions"]), "1.0.0");
}
