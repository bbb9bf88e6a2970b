//! The recipes in `examples/`: their programs, with packages of npm and with mosquitto and HAProxy of Debian, their
//! configuration, and the commands of their READMEs.

use crate::application::{Application, Place, installed, root};
use crate::guide::Guide;
use crate::support::gateway::BINARY;
use crate::support::{Gateway, Socket, get};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};

const PACKAGES: &str = "examples/node_modules/.installed-from";
const MOSQUITTO: &str = "/usr/sbin/mosquitto";
const HAPROXY: &str = "/usr/sbin/haproxy";
#[cfg(feature = "redis")]
const ETCD: &str = "/usr/bin/etcd";
#[cfg(feature = "redis")]
const ETCDCTL: &str = "/usr/bin/etcdctl";
#[cfg(feature = "redis")]
const REDIS: &str = "/usr/bin/redis-server";
const LOGROTATE: &str = "/usr/sbin/logrotate";
const PROMETHEUS: &str = "/usr/bin/prometheus";
const PROMTOOL: &str = "/usr/bin/promtool";

/// An example with its running backends.
struct Recipe {
    name: &'static str,
    /// Before the folder, which has their logs.
    running: Vec<Application>,
    place: Place,
    /// Addresses of the example's files, with those of the test.
    replaced: Vec<(&'static str, String)>,
}

impl Recipe {
    /// `None` if a program is missing.
    fn of(name: &'static str, programs: &[&str]) -> Option<Self> {
        let node = ["/usr/bin/node", "/usr/local/bin/node"].into_iter().find(|path| root(path).exists());
        let needed: Vec<&str> = programs.iter().copied().chain([node.unwrap_or("/usr/bin/node")]).collect();
        installed(name, &needed).then(|| Self {
            name,
            place: Place::new(),
            replaced: Vec::new(),
            running: Vec::new(),
        })
    }

    fn path(&self, file: &str) -> String {
        format!("examples/{}/{file}", self.name)
    }

    /// Starts `server.mjs` with these arguments in place of the one at `address` in the example's files.
    fn node(mut self, address: &'static str, arguments: &[&str]) -> Self {
        let own = self.place.address();
        let mut command = self.place.command("/usr/bin/env");
        command.arg("node").arg(root(&self.path("server.mjs"))).args(arguments).arg(own.port().to_string());
        command.env("HOST", own.ip().to_string());
        self.start(command, own);
        self.replaced.push((address, own.to_string()));
        self
    }

    fn start(&mut self, mut command: std::process::Command, address: SocketAddr) {
        self.running.push(self.place.start(&mut command, || TcpStream::connect(address).is_ok()));
    }

    /// A file of the example with the addresses of the test.
    fn file(&self, name: &str) -> String {
        let text = std::fs::read_to_string(root(&self.path(name))).unwrap();
        self.replaced.iter().fold(text, |text, (from, to)| text.replace(from, to))
    }

    /// The gateway with the configuration of the example.
    fn gateway(&self) -> Gateway {
        let yaml = self.file("moongate.yaml").replace("127.0.0.1:8080", "127.0.0.1:0");
        Gateway::start_whole(&yaml.replace("127.0.0.1:9901", "127.0.0.1:0"))
    }

    /// Runs the commands of the README.
    fn check(&self, gateway: &Gateway) {
        let mut replaced = self.replaced.clone();
        if self.file("moongate.yaml").contains("admin:") {
            replaced.push(("127.0.0.1:9901", gateway.admin().to_string()));
        }
        let replaced: Vec<_> = replaced.iter().map(|(from, to)| (*from, to.as_str())).collect();
        Guide::at(&self.path("README.md")).check(gateway.web(), &replaced);
    }

    fn run(&self) {
        self.check(&self.gateway());
    }
}

#[test]
fn socket_io_clients_upgrade_at_their_node() {
    if let Some(recipe) = Recipe::of("socketio", &[PACKAGES]) {
        recipe.node("127.0.0.1:3001", &["one"]).node("127.0.0.1:3002", &["two"]).run();
    }
}

#[test]
fn tokens_arrive_one_by_one() {
    if let Some(recipe) = Recipe::of("token-stream", &[]) {
        recipe.node("127.0.0.1:3001", &[]).run();
    }
}

#[test]
fn graphql_subscriptions_pass() {
    if let Some(recipe) = Recipe::of("graphql-ws", &[PACKAGES]) {
        recipe.node("127.0.0.1:3001", &[]).node("127.0.0.1:3002", &[]).run();
    }
}

#[test]
fn mqtt_messages_pass() {
    let Some(mut recipe) = Recipe::of("mqtt", &[PACKAGES, MOSQUITTO]) else { return };
    // mosquitto binds only addresses that an interface has.
    let [plain, own] =
        [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap()).map(|it| it.local_addr().unwrap());
    let conf = recipe.file("mosquitto.conf").replace("listener 1883", &format!("listener {}", plain.port()));
    let conf = conf.replace("listener 3001", &format!("listener {}", own.port()));
    let file = recipe.place.write("mosquitto.conf", &conf);
    let mut command = recipe.place.command(MOSQUITTO);
    command.arg("-c").arg(file);
    recipe.start(command, own);
    recipe.replaced.push(("127.0.0.1:3001", own.to_string()));
    recipe.run();
}

#[test]
fn tokens_of_both_keys_are_valid_in_a_rotation() {
    if let Some(recipe) = Recipe::of("jwt-rotation", &[]) {
        recipe.node("127.0.0.1:3001", &[]).run();
    }
}

#[test]
fn a_canary_gets_its_share() {
    if let Some(recipe) = Recipe::of("canary", &[]) {
        recipe.node("127.0.0.1:3001", &["blue"]).node("127.0.0.1:3002", &["green"]).run();
    }
}

#[test]
fn signalr_clients_reach_the_node_of_their_negotiation() {
    if let Some(recipe) = Recipe::of("signalr", &[PACKAGES]) {
        recipe.node("127.0.0.1:3001", &["one"]).node("127.0.0.1:3002", &["two"]).run();
    }
}

#[test]
fn grpc_calls_and_streams_pass() {
    if let Some(recipe) = Recipe::of("grpc", &[PACKAGES]) {
        recipe.node("127.0.0.1:3001", &[]).node("127.0.0.1:3002", &[]).run();
    }
}

#[test]
fn a_drained_backend_loses_its_clients_before_it_ends() {
    if let Some(recipe) = Recipe::of("deploy", &[PACKAGES]) {
        recipe.node("127.0.0.1:3001", &["old"]).node("127.0.0.1:3002", &["new"]).run();
    }
}

/// `systemctl` is a script here: it writes its arguments, and the status of the gateway at that time.
#[test]
fn a_deployment_restarts_the_service_of_a_drained_endpoint() {
    let Some(recipe) = Recipe::of("deploy", &[PACKAGES, "/usr/bin/curl"]) else { return };
    let recipe = recipe.node("127.0.0.1:3001", &["old"]).node("127.0.0.1:3002", &["new"]);
    let gateway = recipe.gateway();
    let (admin, endpoint) = (gateway.admin(), recipe.replaced[0].1.parse().unwrap());
    for (_, address) in &recipe.replaced {
        gateway.await_health("chat", address.parse().unwrap(), "healthy");
    }
    let sockets: Vec<_> = (0..4).map(|_| Socket::open(gateway.web(), "/")).collect();
    assert_eq!(gateway.active("chat", endpoint), Some(2), "`least_connections` balances them");

    let place = &recipe.place;
    let script = place.write(
        "bin/systemctl",
        &format!("#!/bin/sh\nset -e\ncd \"$HOME\"\necho \"$@\" >>calls\ncurl -sf http://{admin}/api/v1/status >status\n"),
    );
    std::fs::set_permissions(script, PermissionsExt::from_mode(0o755)).unwrap();
    symlink(BINARY, place.path("bin/moongate")).unwrap();
    let configuration = place.write("admin.yaml", &format!("admin: {{ address: '{admin}' }}\n"));
    let mut command = place.command("/bin/sh");
    command.env("PATH", format!("{}:/usr/bin:/bin", place.path("bin").display()));
    command.arg(root(&recipe.path("deploy.sh"))).arg(configuration);
    place.run(command.args(["chat", &endpoint.to_string(), "chat-old"]));

    assert_eq!(std::fs::read_to_string(place.path("calls")).unwrap(), "restart chat-old\n");
    let status: Value = serde_json::from_slice(&std::fs::read(place.path("status")).unwrap()).unwrap();
    let endpoints = status["upstreams"]["chat"]["endpoints"].as_array().unwrap();
    let restarted = endpoints.iter().find(|it| it["address"] == endpoint.to_string()).unwrap();
    assert_eq!((&restarted["draining"], &restarted["active"]), (&json!("operator"), &json!(0)));
    assert_eq!(gateway.endpoint("chat", endpoint).unwrap()["draining"], Value::Null);
    drop(sockets);
}

#[test]
fn a_rotation_loses_no_line() {
    let Some(recipe) = Recipe::of("logrotate", &[LOGROTATE]) else { return };
    let mut recipe = recipe.node("127.0.0.1:3001", &[]);
    let logs = recipe.place.path("logs").display().to_string();
    std::fs::create_dir(&logs).unwrap();
    recipe.replaced.push(("/var/log/moongate", logs));
    let gateway = recipe.gateway();
    let rotation = recipe.file("moongate.logrotate").replace("$(pidof moongate)", &gateway.pid().to_string());
    let file = recipe.place.write("moongate.logrotate", &rotation);
    recipe.replaced.push(("examples/logrotate/moongate.logrotate", file.display().to_string()));
    // Debian's PATH of a user is without it.
    recipe.replaced.push(("logrotate --force", format!("{LOGROTATE} --force")));
    recipe.check(&gateway);
}

#[test]
fn prometheus_scrapes_with_the_token() {
    const TOKEN: (&str, &str) = ("MOONGATE_ADMIN_TOKEN", "of-the-recipe");
    let Some(recipe) = Recipe::of("prometheus", &[PROMETHEUS, PROMTOOL, "/usr/bin/curl"]) else { return };
    let mut recipe = recipe.node("127.0.0.1:3001", &[]);
    let yaml = recipe.file("moongate.yaml").replace("127.0.0.1:8080", "127.0.0.1:0");
    let gateway = Gateway::start_whole_with_all(&[TOKEN], &yaml.replace("127.0.0.1:9901", "127.0.0.1:0"));
    recipe.place.write("token", TOKEN.1);
    let rules = root("packaging/prometheus/alerts.yaml").display().to_string();
    let file = recipe.file("prometheus.yml").replace("127.0.0.1:9901", &gateway.admin().to_string());
    let file = file.replace("../../packaging/prometheus/alerts.yaml", &rules).replace("15s", "1s");
    let file = recipe.place.write("prometheus.yml", &file);
    let own = recipe.place.address();
    let mut command = recipe.place.command(PROMETHEUS);
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.tsdb.path={}", recipe.place.path("data").display()));
    command.arg(format!("--web.listen-address={own}"));
    let is_scraped = || {
        TcpStream::connect(own).is_ok()
            && get(own, "/api/v1/query?query=moongate_upstream_healthy").text().contains("\"value\"")
    };
    recipe.running.push(recipe.place.start(&mut command, is_scraped));
    recipe.replaced.push(("127.0.0.1:9090", own.to_string()));
    recipe.check(&gateway);
}

#[test]
fn clients_need_a_certificate() {
    let Some(recipe) = Recipe::of("mtls", &["/usr/bin/openssl"]) else { return };
    let mut recipe = recipe.node("127.0.0.1:3001", &[]);
    let certs = recipe.place.path("certs").display().to_string();
    let script = root(&recipe.path("certs.sh"));
    recipe.place.run(recipe.place.command("/bin/sh").arg(script).arg(&certs));
    let yaml = recipe.file("moongate.yaml").replace("certs/", &format!("{certs}/"));
    let gateway = Gateway::start_whole(&yaml.replace("127.0.0.1:8080", "127.0.0.1:0"));
    recipe.replaced.push(("examples/mtls/certs", certs));
    recipe.check(&gateway);
}

#[test]
fn haproxy_reports_the_client() {
    let Some(recipe) = Recipe::of("proxy-protocol", &[HAPROXY]) else { return };
    let mut recipe = recipe.node("127.0.0.1:3001", &[]);
    let gateway = recipe.gateway();
    let front = recipe.place.address();
    let conf = recipe.file("haproxy.cfg").replace("127.0.0.1:8080", &gateway.web().to_string());
    let file = recipe.place.write("haproxy.cfg", &conf.replace("127.0.0.1:8000", &front.to_string()));
    let mut command = recipe.place.command(HAPROXY);
    command.arg("-db").arg("-f").arg(file);
    recipe.start(command, front);
    recipe.replaced.push(("127.0.0.1:8000", front.to_string()));
    recipe.check(&gateway);
}

/// As operators run it: etcd and Redis, three gateways with one file, and HAProxy in front of them.
#[cfg(feature = "redis")]
#[test]
fn three_gateways_are_one() {
    use crate::support::etcd::Etcd;
    use crate::support::eventually;
    use crate::support::redis::Redis;
    let Some(recipe) = Recipe::of("fleet", &[HAPROXY, ETCD, ETCDCTL, REDIS]) else { return };
    let mut recipe = recipe.node("127.0.0.1:3001", &["a"]).node("127.0.0.1:3002", &["b"]);
    let (etcd, redis) = (Etcd::start(), Redis::start());
    recipe.replaced.push(("127.0.0.1:2379", etcd.address().to_string()));
    recipe.replaced.push(("127.0.0.1:6379", redis.address()));
    let gateways = [(); 3].map(|()| recipe.gateway());
    let front = recipe.place.address();
    let conf = recipe.file("haproxy.cfg").replace("127.0.0.1:8000", &front.to_string());
    let conf = gateways.iter().zip(1..).fold(conf, |conf, (gateway, number)| {
        let (web, admin) = (gateway.web().to_string(), gateway.admin().port());
        conf.replace(&format!("127.0.0.1:808{number}"), &web)
            .replace(&format!("port 990{number}"), &format!("port {admin}"))
    });
    let file = recipe.place.write("haproxy.cfg", &conf);
    let mut command = recipe.place.command(HAPROXY);
    command.arg("-db").arg("-f").arg(file);
    recipe.start(command, front);
    recipe.replaced.push(("127.0.0.1:8000", front.to_string()));
    recipe.check(&gateways[0]);
    // Each gateway has the route, by a generation of its own.
    for gateway in &gateways {
        eventually("the route of the document", || (gateway.generation() == 2).then_some(()));
    }
}
