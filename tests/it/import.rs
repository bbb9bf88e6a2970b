//! `moongate import nginx`: the command, its exit codes, and imported files that the gateway accepts. Real nginx and the
//! gateway on the imported file forward alike to the same backends.

mod against_nginx;
mod random_directives;

use crate::support::certs::Authority;
use crate::support::moongate;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/import/fixtures")
}

/// A folder with a configuration and the files that fixtures name.
fn folder(name: &str, text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.issue("site", &["example.com"]);
    fs::create_dir(folder.path().join("certs")).unwrap();
    fs::copy(pair.cert, folder.path().join("certs/site.pem")).unwrap();
    fs::copy(pair.key, folder.path().join("certs/site.key")).unwrap();
    let users = "ada:$2y$10$abcdefghijklmnopqrstuuYoA/Ig5dOcHJ1Uzls.zCgSC7r9v4W76\n";
    fs::write(folder.path().join("htpasswd"), users).unwrap();
    fs::write(folder.path().join(name), text).unwrap();
    folder
}

/// Imports a file beside which the result is written.
fn import(folder: &TempDir, name: &str, options: &[&str]) -> (Output, PathBuf) {
    let input = folder.path().join(name).display().to_string();
    let output = folder.path().join("moongate.yaml");
    let written = output.display().to_string();
    let arguments = [&["import", "nginx", &input], options].concat();
    let arguments =
        if options.contains(&"--explain") { arguments } else { [&arguments[..], &["-o", &written]].concat() };
    (moongate(&arguments), output)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_fixture_becomes_a_valid_configuration() {
    let mut names: Vec<String> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".conf"))
        .collect();
    names.sort();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let text = fs::read_to_string(fixtures().join(&name)).unwrap();
        let folder = folder(&name, &text);
        let (output, file) = import(&folder, &name, &[]);
        assert!([Some(0), Some(3)].contains(&output.status.code()), "{name}: {}", stderr(&output));
        // The directory of the package's unit is not on this machine.
        let logs = folder.path().display().to_string();
        let yaml = fs::read_to_string(&file).unwrap().replace("/var/log/moongate", &logs);
        fs::write(&file, yaml).unwrap();
        let check = moongate(&["check", "-c", &file.display().to_string()]);
        assert!(check.status.success(), "{name}: {}\n{}", stderr(&check), fs::read_to_string(&file).unwrap());
    }
}

#[test]
fn the_exit_code_says_whether_everything_is_taken_over() {
    let howto = fs::read_to_string(fixtures().join("howto.conf")).unwrap();
    let complete = folder("nginx.conf", &howto);
    let (output, _) = import(&complete, "nginx.conf", &["--strict"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("0 changed, 0 not translated"), "{}", stderr(&output));

    let unknown = howto.replace("proxy_http_version 1.1;", "sub_filter a b;");
    let incomplete = folder("nginx.conf", &unknown);
    let (output, file) = import(&incomplete, "nginx.conf", &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(file.exists());
    let report = stderr(&output);
    assert!(report.contains("not translated: `sub_filter`"), "{report}");
    assert!(report.contains("nginx.conf:13:9"), "the report has a place: {report}");
    fs::remove_file(&file).unwrap();
    let (output, file) = import(&incomplete, "nginx.conf", &["--strict"]);
    assert_eq!((output.status.code(), file.exists()), (Some(3), false), "{}", stderr(&output));

    let broken = folder("nginx.conf", "server {\n  listen 80\n}\n");
    let (output, file) = import(&broken, "nginx.conf", &[]);
    assert_eq!((output.status.code(), file.exists()), (Some(78), false));
    assert!(stderr(&output).contains("`listen` does not end with `;`"), "{}", stderr(&output));
    assert_eq!(moongate(&["import", "nginx", "/nonexistent/nginx.conf"]).status.code(), Some(78));
    let empty = folder("nginx.conf", "# nothing\n");
    let (output, file) = import(&empty, "nginx.conf", &[]);
    assert_eq!((output.status.code(), file.exists()), (Some(78), false));
    assert!(stderr(&output).contains("no directive in the file"), "{}", stderr(&output));
}

#[test]
fn explain_shows_every_line_beside_what_it_became() {
    let howto = fs::read_to_string(fixtures().join("howto.conf")).unwrap();
    let folder = folder("nginx.conf", &howto);
    let (output, file) = import(&folder, "nginx.conf", &["--explain"]);
    assert_eq!((output.status.code(), file.exists()), (Some(0), false));
    let text = stdout(&output);
    let line = text.lines().find(|line| line.contains("proxy_connect_timeout 4s")).unwrap();
    assert!(
        line.contains("nginx.conf:19 ") && line.contains("`connect_timeout: 4s` of the upstream"),
        "{line}"
    );
}

#[test]
fn includes_are_read_relative_to_the_prefix() {
    let main = "http { include sites/*.conf; include mime.types; include missing.conf; }";
    let folder = folder("nginx.conf", main);
    fs::create_dir(folder.path().join("sites")).unwrap();
    for (name, port) in [("a.conf", 8081), ("b.conf", 8082)] {
        let text =
            format!("server {{ listen {port}; location / {{ proxy_pass http://127.0.0.1:{port}; }} }}");
        fs::write(folder.path().join("sites").join(name), text).unwrap();
    }
    let (output, file) = import(&folder, "nginx.conf", &[]);
    let yaml = fs::read_to_string(file).unwrap();
    assert!(yaml.contains("http-8081") && yaml.contains("http-8082"), "{yaml}");
    let report = stderr(&output);
    assert_eq!(report.matches("not translated: `include`").count(), 1, "{report}");
}

#[test]
fn only_a_result_is_replaced_without_force() {
    let howto = fs::read_to_string(fixtures().join("howto.conf")).unwrap();
    let folder = folder("nginx.conf", &howto);
    let (output, file) = import(&folder, "nginx.conf", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let written = fs::read_to_string(&file).unwrap();
    let (output, _) = import(&folder, "nginx.conf", &[]);
    assert_eq!(output.status.code(), Some(0), "a result is replaced: {}", stderr(&output));

    fs::write(&file, "routes: []\n").unwrap();
    let (output, _) = import(&folder, "nginx.conf", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("exists; --force replaces it"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&file).unwrap(), "routes: []\n");
    let (output, _) = import(&folder, "nginx.conf", &["--force"]);
    assert_eq!((output.status.code(), fs::read_to_string(&file).unwrap()), (Some(0), written));

    let main = "http { include site.conf; }";
    fs::write(folder.path().join("main.conf"), main).unwrap();
    fs::write(folder.path().join("site.conf"), "# Imported from nginx\nserver { listen 8080; return 200; }")
        .unwrap();
    for name in ["main.conf", "site.conf"] {
        let path = folder.path().join(name);
        let before = fs::read_to_string(&path).unwrap();
        let input = folder.path().join("main.conf").display().to_string();
        let output = moongate(&["import", "nginx", &input, "--force", "-o", &path.display().to_string()]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("is a file that the import reads"), "{}", stderr(&output));
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
    }
}

#[test]
fn a_site_is_read_relative_to_the_directory_of_nginx_conf() {
    let folder = folder("nginx.conf", "");
    for sites in ["sites-enabled", "sites-available", "conf.d"] {
        fs::create_dir(folder.path().join(sites)).unwrap();
        let site = "server { listen 8443 ssl; ssl_certificate certs/site.pem; ssl_certificate_key certs/site.key; \
                    location / { include upgrade.conf; proxy_pass http://127.0.0.1:1; } }";
        fs::write(folder.path().join(sites).join("chat"), site).unwrap();
        let fields = "proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade; \
                      proxy_set_header Connection $connection_upgrade;";
        fs::write(folder.path().join("upgrade.conf"), fields).unwrap();
        let (output, file) = import(&folder, &format!("{sites}/chat"), &[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let yaml = fs::read_to_string(&file).unwrap();
        assert!(yaml.contains("cert: certs/site.pem"), "{yaml}");
    }
}

#[test]
fn the_report_is_short_and_ends_with_what_matters() {
    let main = "types { text/html html; text/css css; } map $http_upgrade $c { default upgrade; '' close; } \
                upstream u { server 127.0.0.1:1; server 127.0.0.1:2; }\n\
                server { listen 8080; location /a/ { include snippet.conf; proxy_pass http://u; }\n\
                location /b/ { include snippet.conf; proxy_pass http://u; } }";
    let folder = folder("nginx.conf", main);
    let snippet = "sub_filter a b;\nssl_early_data on;\nproxy_http_version 1.1;\n";
    fs::write(folder.path().join("snippet.conf"), snippet).unwrap();
    let (output, _) = import(&folder, "nginx.conf", &[]);
    let report = stderr(&output);
    assert!(report.contains("implied: types: 2 entries: "), "{report}");
    assert!(report.contains("upstream u: 2 entries"), "{report}");
    assert!(!report.contains("text/html") && !report.contains("server 127.0.0.1:1"), "{report}");
    for text in ["not translated: `sub_filter`", "changed: `ssl_early_data`", "proxy_http_version 1.1:"] {
        assert_eq!(report.matches(text).count(), 1, "{text}: {report}");
    }
    let at = |text: &str| report.find(text).unwrap_or_else(|| panic!("{text}: {report}"));
    assert!(at("proxy_http_version") < at("note: "), "{report}");
    assert!(at("note: ") < at("changed: `ssl_early_data`"), "{report}");
    assert!(at("changed: `ssl_early_data`") < at("not translated: `sub_filter`"), "{report}");
    assert!(at("not translated: `sub_filter`") < at(" directives: "), "{report}");
}
