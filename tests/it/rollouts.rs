//! A rollout under open WebSockets: backends are replaced one by one, and clients that are closed with 1012 reconnect.

use crate::support::{Gateway, LIMIT, Origin, Socket, eventually};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const SOCKETS: usize = 1000;
const BACKENDS: usize = 10;

/// A client that reconnects at once whenever its WebSocket is closed with 1012, until the gateway ends. Returns how often
/// it has moved.
fn client(web: SocketAddr, open: Arc<AtomicUsize>) -> JoinHandle<usize> {
    let follow = move || {
        let mut moves = 0;
        let mut socket = Socket::open(web, "/");
        loop {
            open.fetch_add(1, SeqCst);
            let code = socket.end();
            open.fetch_sub(1, SeqCst);
            if code != Some(1012) {
                return moves;
            }
            moves += 1;
            socket = Socket::open(web, "/");
        }
    };
    thread::Builder::new().stack_size(256 << 10).spawn(follow).unwrap()
}

fn list<'a>(folder: &Path, backends: impl Iterator<Item = &'a Origin>) {
    let text: String = backends.map(|backend| format!("- {backend}\n")).collect();
    let part = folder.join("backends.part");
    fs::write(&part, text).unwrap();
    fs::rename(part, folder.join("backends.list")).unwrap();
}

/// The order in which a step of the rollout changes the list.
#[derive(Clone, Copy)]
enum Step {
    /// The new backend takes the place of the old one.
    Replace,
    /// The new backend joins, and the old one leaves afterwards.
    JoinFirst,
}

/// Replaces every backend, and returns how often each client has moved.
fn roll_out(upstream: &str, step: Step) -> Vec<usize> {
    let named = |generation: &str, n: usize| Origin::named(&format!("{generation}{n}"));
    let old: Vec<_> = (0..BACKENDS).map(|n| named("old", n)).collect();
    let new: Vec<_> = (0..BACKENDS).map(|n| named("new", n)).collect();
    let folder = tempfile::tempdir().unwrap();
    list(folder.path(), old.iter());
    let gateway = Gateway::start_in(folder, |_| {
        format!(
            "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
upstreams: {{ chat: {{ discovery: {{ kind: file, path: backends.list }}, {upstream} }} }}
routes: [{{ upstream: chat, websocket: {{ drain_window: 1s, ping_interval: 3s }} }}]
"
        )
    });
    let folder = gateway.file().parent().unwrap().to_owned();
    let open = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..SOCKETS).map(|_| client(gateway.web(), Arc::clone(&open))).collect();
    let settled = || (open.load(SeqCst) == SOCKETS).then_some(());
    eventually("all clients are connected", settled);
    for n in 0..BACKENDS {
        if matches!(step, Step::JoinFirst) {
            list(&folder, old[n..].iter().chain(&new[..=n]));
            eventually("the new backend joins", || {
                let endpoints = gateway.status()["upstreams"]["chat"]["endpoints"].clone();
                let is_it = |endpoint: &serde_json::Value| endpoint["address"] == new[n].to_string();
                endpoints.as_array().unwrap().iter().any(is_it).then_some(())
            });
        }
        list(&folder, old[n + 1..].iter().chain(&new[..=n]));
        old[n].await_sockets(0);
        eventually("its clients are back", settled);
    }
    let even = SOCKETS / BACKENDS;
    let held: Vec<_> = new.iter().map(Origin::sockets).collect();
    assert!(held.iter().all(|held| *held <= even * 5 / 4), "{held:?}");
    assert_eq!(gateway.generation(), 1);
    drop(gateway);
    clients.into_iter().map(|client| client.join().unwrap()).collect()
}

fn assert_few_moves(moves: &[usize]) {
    let sum: usize = moves.iter().sum();
    assert!((SOCKETS..=SOCKETS * 11 / 10).contains(&sum), "{sum} moves of {SOCKETS} clients");
    assert!(moves.iter().all(|moves| *moves <= 2), "{:?}", moves.iter().max());
}

#[test]
fn a_rollout_moves_a_websocket_once_with_least_connections_even_in_a_slow_start() {
    assert_few_moves(&roll_out("balance: least_connections, slow_start: 1h", Step::Replace));
}

#[test]
fn a_rollout_moves_a_websocket_once_with_round_robin() {
    assert_few_moves(&roll_out("balance: round_robin", Step::Replace));
}

#[test]
fn a_rollout_whose_new_backends_join_first_moves_a_websocket_once() {
    assert_few_moves(&roll_out("balance: p2c, slow_start: 10s", Step::JoinFirst));
}

/// All old backends are replaced in one change: their clients leave over the window, evenly.
#[test]
fn the_clients_of_ten_backends_leave_with_1012_over_the_window() {
    const CLIENTS: usize = 500;
    const WINDOW: Duration = Duration::from_secs(6);
    let named = |generation: &str| -> Vec<_> {
        (0..BACKENDS).map(|n| Origin::named(&format!("{generation}{n}"))).collect()
    };
    let (old, new) = (named("old"), named("new"));
    let folder = tempfile::tempdir().unwrap();
    list(folder.path(), old.iter());
    let gateway = Gateway::start_in(folder, |_| {
        "admin: { address: 127.0.0.1:0 }
listeners: [{ name: web, address: 127.0.0.1:0 }]
upstreams: { chat: { discovery: { kind: file, path: backends.list }, balance: least_connections } }
routes: [{ upstream: chat, websocket: { drain_window: 6s } }]
"
        .to_owned()
    });
    let web = gateway.web();
    let (ends, ended) = mpsc::channel();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (mut socket, ends) = (Socket::open(web, "/"), ends.clone());
            let follow = move || {
                let code = socket.end();
                ends.send((Instant::now(), code)).unwrap();
                let mut back = Socket::open(web, "/");
                back.echo("back");
                back
            };
            thread::Builder::new().stack_size(256 << 10).spawn(follow).unwrap()
        })
        .collect();
    let began = Instant::now();
    list(gateway.file().parent().unwrap(), new.iter());
    let ends: Vec<_> = (0..CLIENTS).map(|_| ended.recv_timeout(LIMIT).unwrap()).collect();
    assert!(ends.iter().all(|(_, code)| *code == Some(1012)), "{ends:?}");
    let first = ends.iter().map(|(at, _)| *at).min().unwrap();
    let last = ends.iter().map(|(at, _)| *at).max().unwrap();
    assert!(last - first <= WINDOW + Duration::from_secs(1), "{:?} after the change", last - began);
    let mut seconds = vec![0; WINDOW.as_secs() as usize + 2];
    for (at, _) in &ends {
        seconds[(*at - first).as_secs() as usize] += 1;
    }
    let even = CLIENTS / WINDOW.as_secs() as usize;
    assert!(seconds.iter().all(|count| *count <= even * 3 / 2), "{seconds:?}, even share {even}");
    // The new backends have all of them.
    let back: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert_eq!(new.iter().map(Origin::sockets).sum::<usize>(), back.len());
}
