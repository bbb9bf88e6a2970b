//! Every key that names a file, and every way in which a file cannot be read: `check` rejects it, a reload
//! rejects it, and the old configuration stays in use.
//!
//! Permissions are not among the ways: the tests may run as root, whom no mode keeps from reading. A loop of
//! symbolic links (ELOOP), a path through a regular file (ENOTDIR) and a file whose read fails (EIO of
//! `/proc/self/mem`) fail for root as well.

use crate::support::certs::Authority;
use crate::support::{Gateway, Origin, moongate};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The fault in place of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Missing,
    Directory,
    DanglingLink,
    LinkLoop,
    ThroughAFile,
    ReadError,
    Fifo,
    Empty,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::Missing,
        Self::Directory,
        Self::DanglingLink,
        Self::LinkLoop,
        Self::ThroughAFile,
        Self::ReadError,
        Self::Fifo,
        Self::Empty,
    ];

    /// Replaces `path` by it.
    fn apply(self, path: &Path) {
        remove(path);
        match self {
            Self::Missing => {}
            Self::Directory => fs::create_dir(path).unwrap(),
            Self::DanglingLink => symlink("nowhere/nothing", path).unwrap(),
            Self::LinkLoop => symlink(path, path).unwrap(),
            Self::ThroughAFile => symlink("moongate.yaml/x", path).unwrap(),
            Self::ReadError => symlink("/proc/self/mem", path).unwrap(),
            Self::Fifo => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
            Self::Empty => fs::write(path, "").unwrap(),
        }
    }
}

fn remove(path: &Path) {
    let Ok(found) = path.symlink_metadata() else { return };
    if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
}

/// How the gateway uses a named file.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// Reads it; an empty file is an error.
    Read,
    /// Reads it; an empty file is valid: a page without content, an empty list.
    ReadAnything,
    /// Appends to it, and creates it.
    Append,
    /// Stores files in it, and creates it.
    Folder,
    /// Checks that it exists.
    Look,
}

impl Use {
    fn refuses(self, fault: Fault) -> bool {
        match self {
            Self::Read => true,
            Self::ReadAnything => fault != Fault::Empty,
            // A FIFO without a reader is an error when opened, which `check` does not do.
            Self::Append => !matches!(fault, Fault::Missing | Fault::Empty | Fault::ReadError | Fault::Fifo),
            Self::Folder => !matches!(fault, Fault::Missing | Fault::Directory),
            // A link exists, wherever it leads; only a path through a file is an error.
            Self::Look => false,
        }
    }
}

/// A key, by its place, and the file that it names in the configuration's directory.
struct Named {
    place: &'static str,
    file: &'static str,
    used: Use,
}

const fn named(place: &'static str, file: &'static str, used: Use) -> Named {
    Named { place, file, used }
}

const KEYS: &[Named] = &[
    named("include", "more.yaml", Use::ReadAnything),
    named("access_log.path", "access.log", Use::Append),
    named("listeners[1].tls.certificates[0].cert", "site.pem", Use::Read),
    named("listeners[1].tls.certificates[0].key", "site.key", Use::Read),
    named("listeners[1].tls.certificates[0].ocsp", "site.ocsp", Use::Read),
    named("listeners[1].tls.client_auth.ca", "clients.pem", Use::Read),
    named("listeners[1].tls.ticket_keys[0]", "ticket.key", Use::Read),
    named("listeners[1].tls.acme.directory_ca", "authority.pem", Use::Read),
    named("listeners[1].tls.acme.storage", "acme", Use::Folder),
    named("upstreams.secure.tls.ca", "backends.pem", Use::Read),
    named("upstreams.secure.tls.cert", "shown.pem", Use::Read),
    named("upstreams.secure.tls.key", "shown.key", Use::Read),
    named("sources[0].tls.ca", "etcd.pem", Use::Read),
    named("sources[0].tls.cert", "etcd-shown.pem", Use::Read),
    named("sources[0].tls.key", "etcd-shown.key", Use::Read),
    named("sources[0].password_file", "etcd.password", Use::ReadAnything),
    named("upstreams.found.discovery.tls.ca", "etcd.pem", Use::Read),
    named("upstreams.found.discovery.tls.cert", "etcd-shown.pem", Use::Read),
    named("upstreams.found.discovery.tls.key", "etcd-shown.key", Use::Read),
    named("upstreams.found.discovery.password_file", "etcd.password", Use::ReadAnything),
    #[cfg(feature = "redis")]
    named("stores.fleet.password_file", "store.password", Use::ReadAnything),
    named("routes[1].plugins[0].allow[0].file", "allowed", Use::ReadAnything),
    named("routes[1].plugins[1].deny[0].file", "denied", Use::ReadAnything),
    named("routes[1].plugins[2].file", "htpasswd", Use::Read),
    named("routes[1].plugins[3].key_file", "public.pem", Use::Read),
    named("routes[1].plugins[4].jwks_file", "keys.json", Use::Read),
    named("routes[1].plugins[5].file", "closed.html", Use::ReadAnything),
    named("routes[1].plugins[5].except[0].file", "excepted", Use::ReadAnything),
    named("routes[1].plugins[5].when_file", "closed", Use::Look),
    named("routes[1].plugins[6].file", "page.html", Use::ReadAnything),
    #[cfg(feature = "luau")]
    named("routes[2].plugins[0].script", "filter.luau", Use::Read),
    #[cfg(feature = "wasm")]
    named("routes[3].plugins[0].module", "filter.wasm", Use::Read),
];

/// Keys whose description mentions files and that name none.
const NOT_PATHS: &[&str] = &["headers", "kind", "allow", "except", "directory", "secret", "upstream", "hold"];

fn yaml(origin: &Origin) -> String {
    let mut yaml = format!(
        "include: more.yaml
admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - name: secure
    address: 127.0.0.1:0
    tls:
      certificates: [{{ cert: site.pem, key: site.key, ocsp: site.ocsp }}]
      client_auth: {{ ca: clients.pem }}
      ticket_keys: [ticket.key]
      acme: {{ domains: [a.example], directory: 'https://127.0.0.1:1/', directory_ca: authority.pem, storage: acme }}
upstreams:
  secure: {{ endpoints: [127.0.0.1:1], tls: {{ ca: backends.pem, cert: shown.pem, key: shown.key }} }}
  found:
    discovery:
      kind: etcd
      servers: ['https://127.0.0.1:1']
      prefix: /found/
      tls: {{ ca: etcd.pem, cert: etcd-shown.pem, key: etcd-shown.key }}
      user: moongate
      password_file: etcd.password
sources:
  - kind: etcd
    servers: ['https://127.0.0.1:1']
    prefix: /moongate/
    tls: {{ ca: etcd.pem, cert: etcd-shown.pem, key: etcd-shown.key }}
    user: moongate
    password_file: etcd.password
routes:
  - upstream: [{origin}]
  - host: guarded.example
    upstream: secure
    plugins:
      - {{ kind: ip_access, allow: [{{ file: allowed }}] }}
      - {{ kind: ip_access, deny: [{{ file: denied }}] }}
      - {{ kind: basic_auth, file: htpasswd }}
      - {{ kind: jwt, key_file: public.pem }}
      - {{ kind: jwt, jwks_file: keys.json }}
      - {{ kind: maintenance, file: closed.html, except: [{{ file: excepted }}], when_file: closed }}
      - {{ kind: respond, file: page.html }}
"
    );
    if cfg!(feature = "luau") {
        yaml +=
            "  - { host: luau.example, upstream: secure, plugins: [{ kind: luau, script: filter.luau }] }\n";
    }
    if cfg!(feature = "wasm") {
        yaml +=
            "  - { host: wasm.example, upstream: secure, plugins: [{ kind: wasm, module: filter.wasm }] }\n";
    }
    if cfg!(feature = "redis") {
        yaml +=
            "stores: { fleet: { kind: redis, url: 'redis://127.0.0.1:1', password_file: store.password } }\n";
    }
    yaml
}

/// Every file in a valid state, to copy from.
struct Good {
    folder: TempDir,
}

impl Good {
    fn new() -> Self {
        let (folder, ca) = (tempfile::tempdir().unwrap(), Authority::new());
        let (site, shown) = (ca.issue("site", &["b.example"]), ca.issue("shown", &["c.example"]));
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        let read = |path: &Path| fs::read(path).unwrap();
        for name in ["clients.pem", "authority.pem", "backends.pem", "etcd.pem"] {
            write(name, &read(&ca.file()));
        }
        write("site.pem", &read(&site.cert));
        write("site.key", &read(&site.key));
        write("site.ocsp", &[0x30, 3, 0x0a, 1, 0]);
        for name in ["shown", "etcd-shown"] {
            write(&format!("{name}.pem"), &read(&shown.cert));
            write(&format!("{name}.key"), &read(&shown.key));
        }
        write("ticket.key", &(0..80).collect::<Vec<u8>>());
        write("store.password", b"secret\n");
        write("etcd.password", b"secret\n");
        write("allowed", b"127.0.0.1\n");
        write("denied", b"192.0.2.1\n");
        write("excepted", b"127.0.0.1\n");
        write("htpasswd", b"a:$2y$04$7Q0kVnvrkGvuKnlKyzgH6.bTMZyPmDAAKJgU0C1U/wVKIg4hHlFxm\n");
        write("public.pem", include_bytes!("../../plugins/jwt/testdata/rsa.pem"));
        let secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";
        write("keys.json", format!(r#"{{"keys":[{{"kty":"oct","k":"{secret}"}}]}}"#).as_bytes());
        write("filter.luau", b"function request_headers(req) end\n");
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/plugins/tag.wasm");
        write("filter.wasm", &read(&module));
        for name in ["more.yaml", "access.log", "closed.html", "page.html"] {
            write(name, b"");
        }
        Self { folder }
    }

    /// Restores the file of that key in `folder`.
    fn restore(&self, named: &Named, folder: &Path) {
        let path = folder.join(named.file);
        remove(&path);
        if !matches!(named.used, Use::Folder | Use::Look) {
            fs::copy(self.folder.path().join(named.file), path).unwrap();
        }
    }
}

#[test]
fn check_names_every_file_that_cannot_be_read_and_creates_none() {
    let (good, origin, folder) = (Good::new(), Origin::named("a"), tempfile::tempdir().unwrap());
    let config = folder.path().join("moongate.yaml");
    fs::write(&config, whole(&origin, folder.path())).unwrap();
    let check = || moongate(&["check", "-c", config.to_str().unwrap()]);
    KEYS.iter().for_each(|key| good.restore(key, folder.path()));
    let output = check();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for fault in Fault::ALL {
        for key in KEYS {
            fault.apply(&folder.path().join(key.file));
        }
        let output = check();
        let report = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{fault:?}: {report}");
        for key in KEYS {
            let told = report.lines().any(|line| line.ends_with(&format!("  {}", key.place)));
            assert_eq!(told, key.used.refuses(fault), "{fault:?} at {}:\n{report}", key.place);
        }
        if fault == Fault::Missing {
            let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
            assert_eq!(left.len(), 1, "check created something: {left:?}");
        }
    }
}

#[test]
fn a_reload_with_a_file_that_cannot_be_read_changes_nothing() {
    let (good, origin) = (Good::new(), Origin::named("a"));
    let folder = tempfile::tempdir().unwrap();
    KEYS.iter().for_each(|key| good.restore(key, folder.path()));
    let gateway = Gateway::start_in(folder, |folder| whole(&origin, folder));
    let folder = gateway.file().parent().unwrap().to_owned();
    let text = fs::read_to_string(gateway.file()).unwrap();
    let mut generation = gateway.generation();
    for key in KEYS {
        let path = folder.join(key.file);
        for fault in Fault::ALL.into_iter().filter(|fault| key.used.refuses(*fault)) {
            fault.apply(&path);
            let report = gateway.reload_whole(&text).unwrap_err();
            assert!(report.contains(&format!("  {}", key.place)), "{fault:?} at {}:\n{report}", key.place);
            assert_eq!(gateway.get("/").text(), "a");
        }
        good.restore(key, &folder);
        generation += 1;
        assert_eq!(gateway.reload_whole(&text), Ok(generation), "{}", key.place);
    }
}

#[test]
fn a_guard_in_a_folder_of_includes_does_not_vanish_with_the_folder() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("conf.d");
    fs::create_dir(&conf).unwrap();
    let guard = conf.join("guard.yaml");
    let text = "plugins: [{ kind: ip_access, deny: [all] }]\n";
    fs::write(&guard, text).unwrap();
    let whole = format!(
        "include: conf.d/*.yaml
admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
routes: [{{ upstream: [{origin}] }}]
"
    );
    let gateway = Gateway::start_in(folder, |_| whole.clone());
    assert_eq!(gateway.get("/").status, 403);
    for fault in Fault::ALL.into_iter().filter(|fault| !matches!(fault, Fault::Missing | Fault::Empty)) {
        fault.apply(&guard);
        let report = gateway.reload_whole(&whole).unwrap_err();
        assert!(report.contains("conf.d/guard.yaml` cannot be read"), "{fault:?}:\n{report}");
        assert_eq!(gateway.get("/").status, 403, "{fault:?}");
    }
    remove(&guard);
    fs::write(&guard, text).unwrap();
    let aside = conf.with_file_name("aside");
    fs::rename(&conf, &aside).unwrap();
    for fault in [Fault::DanglingLink, Fault::LinkLoop, Fault::ThroughAFile, Fault::Empty] {
        fault.apply(&conf);
        let report = gateway.reload_whole(&whole).unwrap_err();
        assert!(report.contains("conf.d` cannot be read"), "{fault:?}:\n{report}");
        assert_eq!(gateway.get("/").status, 403, "{fault:?}");
    }
    // A missing directory matches nothing, like an empty one; a warning is reported.
    remove(&conf);
    gateway.reload_whole(&whole).unwrap();
    let report = gateway.status()["last_reload"]["report"].as_str().unwrap().to_owned();
    assert!(report.contains("does not exist"), "{report}");
    fs::create_dir(&conf).unwrap();
    gateway.reload_whole(&whole).unwrap();
    assert!(gateway.status()["last_reload"]["report"].is_null());
    assert_eq!(gateway.get("/").text(), "a");
}

#[test]
fn every_key_that_names_a_file_is_in_the_table() {
    let schema: serde_json::Value = serde_json::from_slice(&moongate(&["schema"]).stdout).unwrap();
    let mut found = Vec::new();
    walk(&schema, &mut found);
    assert!(found.len() > 15, "{found:?}");
    let is_known = |name: &String| {
        let known = KEYS.iter().any(|key| {
            let last = key.place.rsplit('.').next().unwrap();
            last.split('[').next() == Some(name)
        });
        known || NOT_PATHS.contains(&name.as_str())
    };
    found.retain(|name| !is_known(name));
    assert_eq!(found, Vec::<String>::new(), "they name files and are not in KEYS");
}

/// The names of keys whose description mentions files.
fn walk(schema: &serde_json::Value, found: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(entries) => {
            for (name, property) in
                entries.get("properties").and_then(|all| all.as_object()).into_iter().flatten()
            {
                let text = property["description"].as_str().unwrap_or_default().to_lowercase();
                let mut words = text.split(|c: char| !c.is_alphanumeric());
                if words.any(|word| ["file", "files", "folder", "directory", "pem", "der"].contains(&word)) {
                    found.push(name.clone());
                }
            }
            entries.values().for_each(|value| walk(value, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
        _ => {}
    }
}

/// The access log's path is relative to the process, not to the file: here it is absolute.
fn whole(origin: &Origin, folder: &Path) -> String {
    let log: PathBuf = folder.join("access.log");
    format!("{}access_log: {{ path: {} }}\n", yaml(origin), log.display())
}
