//! Random trees of locations: nginx and the gateway choose the same location for every path.

use super::{Nginx, observation, program, start};
use crate::import::{import, stderr};
use crate::support::raw::{Response, Wire};
use crate::support::{Gateway, eventually};
use observation::{Kind, request};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};

/// The number of servers, each with a tree of its own.
const SERVERS: usize = 150;

/// The number of paths for each of them.
const PATHS: usize = 60;

/// A small generator: the same trees in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    /// A path below a prefix that ends with a slash.
    fn below_prefix(&mut self, prefix: &str) -> String {
        let mut path = prefix.to_owned();
        for _ in 0..=self.below(2) {
            let _ = write!(path, "{}/", self.one_of(&["a", "b", "c"]));
        }
        path
    }

    /// Locations of a level; each responds with its number.
    fn level(&mut self, prefix: &str, depth: usize, number: &mut usize, text: &mut String) {
        let mut known = BTreeSet::new();
        for _ in 0..2 + self.below(5) {
            let (modifier, path) = match self.below(9) {
                8 => ("", format!("{}x", self.below_prefix(prefix))),
                0..3 => ("", self.below_prefix(prefix)),
                3..5 => ("^~", self.below_prefix(prefix)),
                5 => ("=", format!("{}x.a", self.below_prefix(prefix))),
                6 => ("~", self.one_of(&["\\.a$", "\\.b$", "/a/", "/b/.*\\.a$", "^/c/"]).to_owned()),
                _ => ("~*", self.one_of(&["\\.A$", "/B/", "X\\.B$"]).to_owned()),
            };
            let is_prefix = ["", "^~"].contains(&modifier);
            let key = format!("{} {path}", if is_prefix { "" } else { modifier });
            if !known.insert(key) {
                continue;
            }
            *number += 1;
            let _ = write!(text, "location {modifier} \"{path}\" {{ ");
            let _ = write!(text, "return 200 \"{number}\"; ");
            // A prefix of the gateway has whole segments, unless it may refuse. `return` comes before `deny`.
            if path.ends_with('x') && is_prefix {
                text.push_str("deny all; ");
            }
            // Neither nests in an exact location, nor a prefix in an expression.
            if depth < 3 && is_prefix && path.ends_with('/') && self.below(2) == 0 {
                self.level(&path, depth + 1, number, text);
            } else if depth < 3 && modifier == "~" && self.below(3) == 0 {
                *number += 1;
                let _ = write!(text, "location ~ \"x\" {{ return 200 \"{number}\"; }} ");
            }
            text.push_str("} ");
        }
    }

    fn path(&mut self) -> String {
        let prefix = self.below_prefix("/");
        let prefix = if self.below(2) == 0 { self.below_prefix(&prefix) } else { prefix };
        format!("{prefix}{}", self.one_of(&["x.a", "x.b", "y.a", "x.A", "y", "xx/y", "x/a/x.b"]))
    }
}

fn body(address: SocketAddr, host: &str, path: &str) -> String {
    let mut wire = Wire::connect(address);
    wire.send(request(Kind::Get, host, path, ""));
    let Response { status, body, .. } = wire.response();
    format!("{status} {}", if status == 200 { String::from_utf8_lossy(&body) } else { "".into() })
}

#[test]
fn nginx_and_the_gateway_choose_the_same_location() {
    let Some(program) = program() else { return };
    let listener = [TcpListener::bind("127.0.0.1:0").unwrap()];
    let address = listener[0].local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().display().to_string();
    let mut numbers = Numbers(7);
    let mut servers = String::new();
    for server in 0..SERVERS {
        let mut text = String::new();
        numbers.level("/", 0, &mut 0, &mut text);
        // A server without a match has nginx's files.
        let _ = writeln!(
            servers,
            "server {{ listen {address}; server_name s{server}.example; {text} location = /none {{ return 404; }} }}"
        );
    }
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {directory}/{name}; "))
        .collect();
    let text = format!(
        "daemon off; pid {directory}/nginx.pid; events {{ }} http {{ access_log off; {paths} {servers} \
         server {{ listen {address} default_server; return 404; }} }}"
    );
    fs::write(folder.path().join("nginx.conf"), text).unwrap();
    let (output, file) = import(&folder, "nginx.conf", &[]);
    let yaml = fs::read_to_string(&file).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    let served = yaml
        .replace("127.0.0.1:9901", "127.0.0.1:0")
        .replace(&format!("http-{}", address.port()), "web")
        .replace(&address.to_string(), "127.0.0.1:0");
    let gateway = Gateway::start_whole(&served);
    let _nginx: Nginx = start(program, &folder, &listener);
    drop(listener);
    eventually("nginx serves", || {
        let mut wire = TcpStream::connect(address).ok().map(Wire::of)?;
        wire.try_send(request(Kind::Get, "unknown.example", "/", "")).ok()?;
        wire.head().ok().flatten().map(|_| ())
    });
    let mut differences = Vec::new();
    let mut found = BTreeSet::new();
    for server in 0..SERVERS {
        let host = format!("s{server}.example");
        for _ in 0..PATHS {
            let path = numbers.path();
            let theirs = body(address, &host, &path);
            let ours = body(gateway.web(), &host, &path);
            found.insert(format!("{server} {theirs}"));
            if theirs != ours {
                differences.push(format!("{host}{path}: nginx {theirs}, ours {ours}"));
            }
        }
    }
    assert!(found.len() > SERVERS * 3, "{} locations were chosen", found.len());
    assert!(differences.is_empty(), "{}:\n{}\n{servers}", differences.len(), differences.join("\n"));
}
