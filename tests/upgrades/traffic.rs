//! WebSockets in traffic through ten upgrades in a row: none closes, no byte is lost, doubled or out of order, the
//! counters continue, and memory and descriptors stay flat.

use crate::descriptors::{open_descriptors, websockets_within_limit};
use crate::order::{Moved, upgrade_and_end};
use crate::support::certs::Authority;
use crate::support::secured::{Issuer, Life, quoted};
use crate::support::{Gateway, eventually};
use crate::traffic_client::{Counts, Target, Traffic, TrafficClient};
use crate::{alone, echo_server, slow_client};
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

const WEBSOCKETS: usize = 2000;
const UPGRADES: usize = 10;

/// Clients with messages on their way. All take turns.
const TURNS: usize = 200;

/// Handshakes at the same time.
const HANDSHAKES: usize = 64;

type Client = JoinHandle<Result<TrafficClient, String>>;

#[test]
fn two_thousand_websockets_in_traffic_move_through_ten_upgrades() {
    let _alone = alone();
    let count = websockets_within_limit(WEBSOCKETS);
    let (authority, issuer) = (Authority::new(), Issuer::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = issuer.server(&["127.0.0.1"], Life::Now, false);
    let (plain, secure) =
        runtime.block_on(async { (echo_server::start(None).await, echo_server::start(Some(server)).await) });
    let pair = authority.issue("a", &["localhost"]);
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {{ name: tls, address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: '{}', key: '{}' }}] }} }}
upstreams: {{ secure: {{ endpoints: ['{secure}'], tls: {{ ca: {} }} }} }}
routes:
  - {{ name: plain, path: /plain, upstream: ['{plain}'], websocket: {{ ping_interval: 5s, ping_timeout: 30s }} }}
  - {{ name: secure, path: /secure, upstream: secure, websocket: {{ ping_interval: 5s, ping_timeout: 30s }} }}
  - {{ name: slow, path: /slow, upstream: ['{plain}'], websocket: {{ ping_interval: 0s, write_timeout: 0s }} }}
",
        pair.cert.display(),
        pair.key.display(),
        quoted(&issuer.file("ca.pem")),
    ));
    let (web, tls) = (gateway.web(), gateway.listener("tls"));
    // Alternately plain and with TLS, and every second pair with TLS to the backend.
    let target = |number: usize| {
        let tls = (number % 2 == 1).then(|| (tls, authority.client()));
        Target {
            address: tls.as_ref().map_or(web, |(address, _)| *address),
            path: if number % 4 < 2 { "/plain" } else { "/secure" }.to_owned(),
            tls: tls.map(|(_, client)| client),
            receive_buffer: None,
        }
    };
    let traffic = Traffic::new(TURNS);
    let (allow, allowed) = watch::channel(0);
    let opening = Arc::new(Semaphore::new(HANDSHAKES));
    let slow: Vec<Client> = (0..2)
        .map(|number| Target { path: "/slow".to_owned(), ..target(number) })
        .map(|target| runtime.spawn(slow_client::run(9001, target, allowed.clone())))
        .collect();
    let clients: Vec<Client> = (slow.len()..count)
        .map(|number| {
            let (target, traffic, opening) = (target(number), Arc::clone(&traffic), Arc::clone(&opening));
            runtime.spawn(async move {
                let turn = opening.acquire().await.unwrap();
                let client = TrafficClient::open(number, &target).await.map_err(|error| error.to_string())?;
                drop(turn);
                client.run(traffic).await
            })
        })
        .collect();
    let sum = |name: &str, labels: &[(&str, &str)]| gateway.metrics().sum(name, labels) as usize;
    eventually("all are open", || (sum("moongate_websocket_connections_active", &[]) == count).then_some(()));

    let mut sizes = Vec::new();
    for round in 0..UPGRADES {
        let goal = traffic.finished() + count as u64;
        let is_broken = || slow.iter().chain(&clients).any(JoinHandle::is_finished);
        eventually("every client has its turn", || (traffic.finished() >= goal || is_broken()).then_some(()));
        if is_broken() {
            break;
        }
        let relayed = sum("moongate_websocket_messages_total", &[]);
        assert_eq!(upgrade_and_end(&gateway), Moved { moved: count, left: 0 }, "upgrade {round}");
        assert!(sum("moongate_websocket_messages_total", &[]) >= relayed, "upgrade {round}");
        assert_eq!(sum("moongate_websocket_opened_total", &[]), count, "upgrade {round}");
        assert_eq!(sum("moongate_websocket_connections_active", &[]), count, "upgrade {round}");
        sizes.push((open_descriptors(gateway.pid()), gateway.memory()));
        // A slow reader has something to read after every upgrade, and is behind at every one.
        allow.send_replace((round + 1) * slow_client::MESSAGES / (2 * UPGRADES));
    }
    traffic.end();
    allow.send_replace(slow_client::MESSAGES);
    let clients: Vec<_> = runtime.block_on(async {
        let mut done = Vec::new();
        for client in slow.into_iter().chain(clients) {
            done.push(client.await.unwrap());
        }
        done
    });
    let failures: Vec<_> = clients.iter().filter_map(|client| client.as_ref().err()).collect();
    assert!(failures.is_empty(), "{} failed: {:#?}", failures.len(), &failures[..failures.len().min(10)]);

    // What the clients counted is what the gateway counted, over eleven processes.
    let clients: Vec<_> = clients.into_iter().flatten().collect();
    let total = clients.iter().fold(Counts::default(), |sum, client| Counts {
        text: sum.text + client.counts.text,
        binary: sum.binary + client.counts.binary,
    });
    for direction in ["to_backend", "to_client"] {
        for (opcode, count) in [("text", total.text), ("binary", total.binary)] {
            let labels = [("direction", direction), ("opcode", opcode)];
            eventually(&format!("{count} {opcode} {direction}"), || {
                (sum("moongate_websocket_messages_total", &labels) as u64 == count).then_some(())
            });
        }
    }
    // The second process has every WebSocket adopted, as all later ones.
    let ((descriptors, memory), (last_descriptors, last_memory)) = (sizes[1], sizes[UPGRADES - 1]);
    assert!(last_descriptors.abs_diff(descriptors) <= 8, "descriptors: {sizes:?}");
    assert!(last_memory <= memory * 3 / 2, "KiB of memory: {sizes:?}");

    let closed = runtime.block_on(async {
        let closing: Vec<_> = clients.into_iter().map(|client| tokio::spawn(client.close())).collect();
        let mut failures = Vec::new();
        for client in closing {
            failures.extend(client.await.unwrap().err());
        }
        failures
    });
    assert_eq!(closed, [""; 0]);
    eventually("every close is counted", || {
        (sum("moongate_websocket_closed_total", &[("code", "1000")]) == count).then_some(())
    });
    assert_eq!(sum("moongate_websocket_closed_total", &[]), count);
}
