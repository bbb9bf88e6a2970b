//! WebSockets of which neither side reads: every buffer of the gateway is full when they move.

use crate::alone;
use crate::echo_server::{self, Behaviour};
use crate::order::{Moved, upgrade_and_end};
use crate::slow_client::{self, MESSAGES};
use crate::support::certs::Authority;
use crate::support::secured::{Issuer, Life, quoted};
use crate::support::{Gateway, eventually};
use crate::traffic_client::{Target, TrafficClient};
use tokio::sync::watch;

const CLIENTS: usize = 8;

/// The numbers of the messages: what clients send, and what the backend sends.
const FROM_CLIENT: usize = 1;
const FROM_BACKEND: usize = 2;

#[test]
fn websockets_of_which_no_side_reads_move_with_all_bytes_that_wait() {
    let _alone = alone();
    let (authority, issuer) = (Authority::new(), Issuer::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = issuer.server(&["127.0.0.1"], Life::Now, false);
    let (allow, allowed) = watch::channel(0);
    let behaviour = || Behaviour::Exchange([FROM_BACKEND, FROM_CLIENT], allowed.clone());
    let (plain, secure) = runtime.block_on(async {
        (
            echo_server::start_with(None, behaviour()).await,
            echo_server::start_with(Some(server), behaviour()).await,
        )
    });
    let pair = authority.issue("a", &["localhost"]);
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {{ name: tls, address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: '{}', key: '{}' }}] }} }}
upstreams: {{ secure: {{ endpoints: ['{secure}'], tls: {{ ca: {} }} }} }}
routes:
  - {{ name: plain, path: /plain, upstream: ['{plain}'], websocket: {{ ping_interval: 0s, write_timeout: 0s }} }}
  - {{ name: secure, path: /secure, upstream: secure, websocket: {{ ping_interval: 0s, write_timeout: 0s }} }}
",
        pair.cert.display(),
        pair.key.display(),
        quoted(&issuer.file("ca.pem")),
    ));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let tls = (number % 2 == 1).then(|| authority.client());
            let target = Target {
                address: if tls.is_some() { gateway.listener("tls") } else { gateway.web() },
                path: if number % 4 < 2 { "/plain" } else { "/secure" }.to_owned(),
                tls,
                receive_buffer: Some(64 << 10),
            };
            let allowed = allowed.clone();
            runtime.spawn(async move {
                let mut client = TrafficClient::open(1, &target).await?;
                let (frames, sink) = (&mut client.frames, &mut client.sink);
                let numbers = [FROM_CLIENT, FROM_BACKEND];
                slow_client::exchange(numbers, frames, sink, Some([0; 4]), allowed).await
            })
        })
        .collect();
    let relayed = || gateway.metrics().sum("moongate_websocket_bytes_total", &[]);
    let moved = Moved { moved: CLIENTS, left: 0 };
    for round in 1..=4 {
        // Every buffer is full when scrape after scrape has the same bytes.
        let (mut before, mut equal) = (0.0, 0);
        eventually("the buffers are full", || {
            let now = relayed();
            equal = if now > 0.0 && now == before { equal + 1 } else { 0 };
            before = now;
            (equal == 20).then_some(())
        });
        assert_eq!(upgrade_and_end(&gateway), moved, "round {round}");
        allow.send_replace(round * MESSAGES / 8);
    }
    allow.send_replace(MESSAGES);
    for client in clients {
        runtime.block_on(client).unwrap().unwrap();
    }
    let messages = gateway.metrics().sum("moongate_websocket_messages_total", &[("opcode", "binary")]);
    assert_eq!(messages as usize, 2 * CLIENTS * MESSAGES);
}
