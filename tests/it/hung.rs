//! Isolation of slow parts: name servers, file systems and commands that wait delay nothing else.

#![cfg(target_os = "linux")]

use crate::support::certs::Authority;
use crate::support::eventually::within;
use crate::support::hung_file::HungFile;
use crate::support::name_server::{NameServer, Says};
use crate::support::{Gateway, Origin, eventually, get, moongate};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The bound for "at once" on a busy machine.
const SOON: Duration = Duration::from_secs(8);

fn ends_soon(gateway: &Gateway) {
    gateway.signal("TERM");
    assert_eq!(gateway.exit_within(SOON).code(), Some(0));
}

/// The current addresses of the upstream `web`.
fn members(gateway: &Gateway) -> Vec<String> {
    let status = gateway.status();
    let endpoints = status["upstreams"]["web"]["endpoints"].as_array().unwrap();
    endpoints.iter().map(|endpoint| endpoint["address"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn twelve_upstreams_and_a_dead_name_server_hold_up_neither_a_reload_nor_the_end() {
    let dead = NameServer::start(Says::Nothing);
    let yaml = |prefix: &str| {
        let kinds = ["hickory", "system"];
        let upstreams: Vec<_> = (0..12)
            .map(|n| format!("  u{n}: {{ endpoints: ['{prefix}{n}.test:80'], resolver: {} }}", kinds[n % 2]))
            .collect();
        format!(
            "server: {{ name_servers: ['{}'], grace_period: 30s }}\nupstreams:\n{}\nroutes: [{{ upstream: u0 }}]",
            dead.address(),
            upstreams.join("\n")
        )
    };
    let gateway = Gateway::start(&yaml("a"));
    for prefix in ["b", "c"] {
        let begun = Instant::now();
        gateway.reload(&yaml(prefix)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
        eventually("it is ready", || (get(gateway.admin(), "/readyz").status == 200).then_some(()));
    }
    eventually("names were asked for", || (dead.questions() > 0).then_some(()));
    ends_soon(&gateway);
}

#[test]
fn a_name_is_resolved_again_after_its_ttl_and_a_failure_keeps_its_addresses() {
    let origin = Origin::named("a");
    let port = origin.address().port();
    let names = NameServer::start(Says::Address(Ipv4Addr::new(127, 9, 9, 9), 1));
    let gateway = Gateway::start(&format!(
        "server: {{ name_servers: ['{}'] }}
upstreams: {{ web: {{ endpoints: ['web.test:{port}'], resolve: 1h }} }}
routes: [{{ upstream: web }}]",
        names.address()
    ));
    assert_eq!(members(&gateway), [format!("127.9.9.9:{port}")]);
    names.says(Says::Address(Ipv4Addr::LOCALHOST, 1));
    // The former address is kept for a while.
    eventually("the new address", || members(&gateway).contains(&format!("127.0.0.1:{port}")).then_some(()));
    assert_eq!(gateway.get("/").text(), "a");
    names.says(Says::ServFail);
    let failures =
        || gateway.metrics().sum("moongate_upstream_resolve_failures_total", &[("upstream", "web")]);
    eventually("a failure is counted", || (failures() >= 1.0).then_some(()));
    gateway.log().wait(0, &["host name not resolved"]);
    assert_eq!(gateway.get("/").text(), "a");
    let failed = gateway.metrics().sum("moongate_name_lookups_total", &[("result", "failed")]);
    assert!(failed >= 1.0, "{failed}");
}

#[test]
fn an_unresolved_name_delays_no_other_of_its_upstream() {
    let names = NameServer::start(Says::Address(Ipv4Addr::new(127, 9, 9, 9), 1));
    let gateway = Gateway::start(&format!(
        "server: {{ name_servers: ['{}'] }}
upstreams: {{ web: {{ endpoints: ['web.test:80', 'silent.test:80'], resolve: 1h }} }}
routes: [{{ upstream: web }}]",
        names.address()
    ));
    assert_eq!(members(&gateway), ["127.9.9.9:80"]);
    // Each lookup of the other name takes several seconds.
    eventually("lookups at the pace of the TTL", || (names.questions() >= 8).then_some(()));
}

#[test]
fn other_name_servers_are_queried_after_a_reload_and_not_after_a_rejected_one() {
    let (first, second) = (
        NameServer::start(Says::Address(Ipv4Addr::new(127, 9, 9, 1), 3600)),
        NameServer::start(Says::Address(Ipv4Addr::new(127, 9, 9, 2), 3600)),
    );
    let yaml = |server: &NameServer, upstream: &str| {
        format!(
            "server: {{ name_servers: ['{}'] }}
upstreams: {{ web: {{ endpoints: ['web.test:80'], resolve: 1h }} }}
routes: [{{ upstream: {upstream} }}]",
            server.address()
        )
    };
    let gateway = Gateway::start(&yaml(&first, "web"));
    assert_eq!(members(&gateway), ["127.9.9.1:80"]);
    gateway.reload(&yaml(&second, "nobody")).unwrap_err();
    assert_eq!((members(&gateway), second.questions()), (vec!["127.9.9.1:80".to_owned()], 0));
    gateway.reload(&yaml(&second, "web")).unwrap();
    eventually("the address of the second", || {
        members(&gateway).contains(&"127.9.9.2:80".to_owned()).then_some(())
    });
}

#[test]
fn a_plugin_s_calls_share_one_lookup_and_outlive_the_name_server() {
    let (backend, guard) = (Origin::named("web"), Origin::named("guard"));
    let names = NameServer::start(Says::Address(Ipv4Addr::LOCALHOST, 1));
    let gateway = Gateway::start(&format!(
        "server: {{ name_servers: ['{}'] }}
routes:
  - {{ upstream: ['{backend}'], plugins: [{{ kind: forward_auth, url: 'http://guard.test:{}/' }}] }}",
        names.address(),
        guard.address().port()
    ));
    for _ in 0..50 {
        assert_eq!(gateway.get("/").text(), "web");
    }
    assert!(names.questions() < 25, "{} lookups for 50 calls", names.questions());
    names.says(Says::Nothing);
    let asked = names.questions();
    eventually("the name is asked for again", || {
        assert_eq!(gateway.get("/").text(), "web");
        (names.questions() > asked).then_some(())
    });
    assert_eq!(gateway.get("/").text(), "web");
}

/// A gateway with a probed backend.
fn probing(origin: &Origin, more: &str) -> String {
    format!(
        "server: {{ grace_period: 30s }}
{more}
upstreams: {{ web: {{ endpoints: ['{origin}'], health_check: {{ kind: http, path: /health, interval: 50ms }} }} }}
routes: [{{ upstream: web }}]"
    )
}

fn everything_else_goes_on(gateway: &Gateway, origin: &Origin) {
    let probes = origin.probes();
    eventually("probes go on", || (origin.probes() > probes + 3).then_some(()));
    for path in ["/readyz", "/healthz", "/metrics", "/api/v1/status"] {
        assert_eq!(get(gateway.admin(), path).status, 200, "{path}");
    }
    assert_eq!(gateway.get("/").text(), "a");
}

#[test]
fn a_configuration_that_cannot_be_read_holds_up_only_its_reload() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&probing(&origin, ""));
    let hung = HungFile::hold(&gateway.file());
    gateway.signal("HUP");
    hung.await_opener();
    everything_else_goes_on(&gateway, &origin);
    ends_soon(&gateway);
}

#[test]
fn certificates_that_cannot_be_read_hold_up_nothing() {
    let (origin, authority) = (Origin::named("a"), Authority::new());
    let pair = authority.issue("web", &["localhost"]);
    let listeners = format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {{ name: secure, address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: '{}', key: '{}' }}] }} }}",
        pair.cert.display(),
        pair.key.display()
    );
    let gateway = Gateway::start_whole(&probing(&origin, &listeners));
    // The certificate watcher blocks on it, and so does a reload.
    let hung = HungFile::hold(&pair.key);
    hung.await_opener();
    gateway.signal("HUP");
    everything_else_goes_on(&gateway, &origin);
    ends_soon(&gateway);
}

#[test]
fn an_acme_folder_that_hangs_holds_up_nothing() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let storage = folder.path().join("acme");
    let listeners = format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - name: secure
    address: 127.0.0.1:0
    tls: {{ acme: {{ domains: [a.example], directory: 'http://127.0.0.1:1/dir', storage: '{}' }} }}",
        storage.display()
    );
    let gateway = Gateway::start_whole(&probing(&origin, &listeners));
    // The first attempt creates the directory and reaches no CA; the next one reads the account.
    gateway.log().wait(0, &["certificate request failed"]);
    let account = storage.join("127.0.0.1_1_dir").join("account.json");
    fs::write(&account, "{}").unwrap();
    let hung = HungFile::hold(&account);
    hung.await_opener();
    everything_else_goes_on(&gateway, &origin);
    gateway.reload_whole(&probing(&origin, &listeners)).unwrap();
    ends_soon(&gateway);
}

#[test]
fn a_second_signal_ends_a_drain_although_a_file_system_hangs() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&probing(&origin, ""));
    let _open = crate::support::Socket::open(gateway.web(), "/ws");
    let hung = HungFile::hold(&gateway.file());
    gateway.signal("HUP");
    hung.await_opener();
    gateway.signal("TERM");
    gateway.log().wait(0, &["draining"]);
    gateway.signal("TERM");
    gateway.exit_within(SOON);
}

/// A running command of the binary.
struct Running(Child);

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moongate"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn ends_by(&mut self, signal: &str, number: i32) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.0.id().to_string()).status();
        assert!(sent.unwrap().success());
        let status = within(SOON, "the command ends", || self.0.try_wait().unwrap());
        assert_eq!(status.signal(), Some(number), "{status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const ENDING: [(&str, i32); 3] = [("INT", 2), ("TERM", 15), ("HUP", 1)];

#[test]
fn commands_that_read_a_fifo_end_on_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["run", "check", "reload"] {
        // If it is going to serve, a SIGHUP waits until then.
        for (signal, number) in ENDING.into_iter().filter(|(signal, _)| command != "run" || *signal != "HUP")
        {
            let fifo = folder.path().join(format!("{command}-{signal}"));
            assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
            let mut running = Running::start(&[command, "-c", fifo.to_str().unwrap()]);
            // It opens without blocking once there is a reader.
            let _writer = eventually("the file is read", || {
                fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&fifo).ok()
            });
            running.ends_by(signal, number);
        }
    }
}

fn deaf_admin(folder: &Path) -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = folder.join("moongate.yaml");
    let address = listener.local_addr().unwrap();
    fs::write(&file, format!("admin: {{ address: '{address}' }}\nroutes: [{{ upstream: [127.0.0.1:1] }}]\n"))
        .unwrap();
    (listener, file.to_str().unwrap().to_owned())
}

#[test]
fn a_reload_that_gets_no_response_ends_on_a_signal_and_after_its_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, file) = deaf_admin(folder.path());
    for (signal, number) in ENDING {
        let mut running = Running::start(&["reload", "-c", &file]);
        let _asked = listener.accept().unwrap();
        running.ends_by(signal, number);
    }
    let output = moongate(&["reload", "-c", &file, "--timeout", "300ms"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("no response") && said.contains("within 300ms") && said.contains("--timeout"),
        "{said}"
    );
    for wrong in ["0s", "soon", "5"] {
        let output = moongate(&["reload", "-c", &file, "--timeout", wrong]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn a_refused_reload_makes_no_folder_and_no_file() {
    let (origin, authority) = (Origin::named("a"), Authority::new());
    let pair = authority.issue("web", &["localhost"]);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let yaml = |tls: &str, log: &Path| {
        format!(
            "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {{ name: secure, address: 127.0.0.1:0, tls: {{ {tls} }} }}
access_log: {{ path: '{}' }}
routes: [{{ upstream: ['{origin}'] }}]",
            log.display()
        )
    };
    let files =
        format!("certificates: [{{ cert: '{}', key: '{}' }}]", pair.cert.display(), pair.key.display());
    let acme = format!("acme: {{ domains: [a.example], storage: '{}' }}", at("acme").display());
    let gateway = Gateway::start_whole(&yaml(&files, &at("first.log")));
    // Every check accepts a FIFO; opening one without a reader fails, and comes last.
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    let report = gateway.reload_whole(&yaml(&acme, &at("fifo"))).unwrap_err();
    assert!(report.contains("fifo"), "{report}");
    assert!(!at("acme").exists());
    // Unreadable stored state rejects the file before a log is created.
    let own = at("acme").join("acme-v02.api.letsencrypt.org_directory");
    fs::create_dir_all(&own).unwrap();
    fs::create_dir(own.join("a.example.pem")).unwrap();
    let report = gateway.reload_whole(&yaml(&acme, &at("second.log"))).unwrap_err();
    assert!(report.contains("cannot be used"), "{report}");
    assert!(!at("second.log").exists());
    assert_eq!((gateway.generation(), gateway.get("/").text()), (1, "a".to_owned()));
}

#[test]
fn lines_that_requests_cause_are_counted_once_a_second() {
    let gateway = Gateway::start("routes: [{ name: dead, upstream: [127.0.0.1:1] }]");
    const REQUESTS: usize = 300;
    for _ in 0..REQUESTS {
        assert_eq!(gateway.get("/").status, 502);
    }
    let told = || {
        let text = gateway.log().text();
        let lines: Vec<_> =
            text.lines().filter(|line| line.contains("request failed")).map(str::to_owned).collect();
        let counted = |line: &String| -> usize {
            line.split_once("repeated=")
                .map_or(1, |(_, count)| count.split(' ').next().unwrap().parse().unwrap())
        };
        (lines.len(), lines.iter().map(counted).sum::<usize>())
    };
    eventually("every one of them is counted", || (told().1 == REQUESTS).then_some(()));
    assert!(told().0 < REQUESTS / 4, "{} lines for {REQUESTS} requests", told().0);
}
