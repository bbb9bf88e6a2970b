//! Tests of stores with a server in memory, whose responses can fail or be withheld.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::connection::{
    ClientCount, Reply, StoreClient, StoreConnection, StoreError, StoredSecrets, TokenGrant, TokenRequest,
};
use super::shared_connections::SharedConnections;
use super::shared_tokens::SharedTokens;
use super::store::{OnFailure, Store, StoreParts, StoreSettings};
use moongate_config::Files;
use moongate_sdk::testing::settings;
use moongate_sdk::{SharedLimiter, SharedOutcome, TokenOutcome};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::{pending, ready};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Mood {
    #[default]
    Well,
    Failing,
    Silent,
}

/// The counts by key and gateway, with the sequence of their last write.
type Counts = HashMap<String, HashMap<Arc<str>, (u32, u64)>>;

#[derive(Default)]
struct Server {
    mood: Mutex<Mood>,
    counts: Mutex<Counts>,
    asked: Mutex<u32>,
}

impl Server {
    fn reply<T: Send + 'static>(&self, value: impl FnOnce() -> T) -> Reply<T> {
        *self.asked.lock() += 1;
        match *self.mood.lock() {
            Mood::Well => Box::pin(ready(Ok(value()))),
            Mood::Failing => Box::pin(ready(Err(StoreError("READONLY".to_owned())))),
            Mood::Silent => Box::pin(pending()),
        }
    }

    fn sum(&self) -> u32 {
        self.counts.lock().values().flat_map(HashMap::values).map(|(count, _)| count).sum()
    }
}

struct Connection(Arc<Server>);

impl StoreConnection for Connection {
    fn tokens(&self, _: String, request: TokenRequest) -> Reply<TokenGrant> {
        self.0.reply(|| TokenGrant { given: request.wanted, ..TokenGrant::default() })
    }

    fn count(&self, key: String, count: ClientCount) -> Reply<bool> {
        self.0.reply(|| {
            let mut counts = self.0.counts.lock();
            let of_client = counts.entry(key).or_default();
            let others = of_client.iter().filter(|(gateway, _)| **gateway != count.gateway);
            let others: u32 = others.map(|(_, (count, _))| count).sum();
            if others + count.count > count.limit {
                return false;
            }
            let own = of_client.entry(count.gateway).or_default();
            if count.sequence > own.1 {
                *own = (count.count, count.sequence);
            }
            true
        })
    }

    fn heartbeat(&self, _: String, gateway: Arc<str>, _: Duration) -> Reply<Vec<Arc<str>>> {
        self.0.reply(|| vec![gateway, "another".into()])
    }

    fn secrets(
        &self,
        _: String,
        known: Zeroizing<String>,
        fresh: Option<Zeroizing<String>>,
        _: Duration,
    ) -> Reply<StoredSecrets> {
        self.0.reply(|| StoredSecrets { text: known, now: 1_000_000, is_rotated: fresh.is_some() })
    }

    fn leave(&self, _: String, _: Arc<str>) -> Reply<()> {
        self.0.reply(|| ())
    }
}

struct Client(Arc<Server>);

impl StoreClient for Client {
    fn connect(&self) -> Reply<Arc<dyn StoreConnection>> {
        Box::pin(ready(Ok(Arc::new(Connection(Arc::clone(&self.0))) as Arc<dyn StoreConnection>)))
    }

    fn server(&self) -> String {
        "memory".to_owned()
    }
}

/// A store with its task.
async fn store(on_failure: OnFailure) -> (Arc<Server>, Arc<Store>) {
    let server = Arc::new(Server::default());
    let shared =
        StoreSettings { deadline: Duration::from_millis(20), on_failure, key_prefix: "test:".to_owned() };
    let parts = StoreParts { settings: shared, client: Arc::new(Client(Arc::clone(&server))) };
    let written = ("memory".to_owned(), settings(serde_json::json!({})));
    let store = Arc::new(Store::new("testing", parts, written, Files::default()));
    tokio::spawn(Arc::clone(&store).run());
    until(&store, true).await;
    (server, store)
}

async fn until(store: &Store, is_up: bool) {
    let begun = Instant::now();
    while store.is_up() != is_up {
        assert!(begun.elapsed() < Duration::from_secs(5), "the store is up: {is_up}");
        sleep(Duration::from_millis(1)).await;
    }
}

fn limit(store: &Arc<Store>) -> Arc<SharedTokens> {
    SharedTokens::new(Arc::clone(store), "a".to_owned(), "10/s".parse().unwrap(), 10, 100).unwrap()
}

fn decided(outcome: SharedOutcome) -> Option<bool> {
    match outcome {
        SharedOutcome::Decided(outcome) => Some(matches!(outcome, TokenOutcome::Taken { .. })),
        SharedOutcome::Local => None,
    }
}

#[tokio::test(start_paused = true)]
async fn three_time_outs_open_the_breaker_and_a_probe_closes_it() {
    let (server, store) = store(OnFailure::Local).await;
    let limit = limit(&store);
    assert_eq!(decided(limit.take(1).await), Some(true));
    *server.mood.lock() = Mood::Silent;
    let begun = Instant::now();
    for _ in 0..3 {
        assert!(store.is_up());
        assert_eq!(decided(limit.take(1).await), None);
    }
    assert_eq!(begun.elapsed().as_millis(), 60);
    assert!(!store.is_up());
    let begun = Instant::now();
    assert_eq!(decided(limit.take(1).await), None);
    assert_eq!(decided(limit.take_leased(1)), None);
    assert_eq!(begun.elapsed(), Duration::ZERO, "no request waits");
    sleep(Duration::from_secs(10)).await;
    assert!(!store.is_up());
    assert!(store.status().error.unwrap().contains("no response within 20 ms"));
    *server.mood.lock() = Mood::Well;
    let begun = Instant::now();
    until(&store, true).await;
    assert!(begun.elapsed() <= Duration::from_secs(1));
    assert_eq!(decided(limit.take(1).await), Some(true));
}

#[tokio::test(start_paused = true)]
async fn one_error_opens_the_breaker() {
    for (on_failure, expected) in
        [(OnFailure::Local, None), (OnFailure::Open, Some(true)), (OnFailure::Closed, Some(false))]
    {
        let (server, store) = store(on_failure).await;
        let limit = limit(&store);
        *server.mood.lock() = Mood::Failing;
        assert_eq!(decided(limit.take(1).await), expected);
        assert!(!store.is_up());
        assert_eq!(decided(limit.take(1).await), expected);
        let asked = *server.asked.lock();
        for _ in 0..100 {
            limit.take(1).await;
        }
        assert_eq!(*server.asked.lock(), asked, "an unavailable store is not asked");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_store_is_found_without_requests() {
    let (server, store) = store(OnFailure::Local).await;
    *server.mood.lock() = Mood::Silent;
    until(&store, false).await;
    *server.mood.lock() = Mood::Well;
    until(&store, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_asks_again_after_an_outage() {
    let (server, store) = store(OnFailure::Open).await;
    let limit = limit(&store);
    *server.mood.lock() = Mood::Silent;
    assert_eq!(decided(limit.take_leased(1)), Some(true));
    until(&store, false).await;
    *server.mood.lock() = Mood::Well;
    until(&store, true).await;
    let asked = *server.asked.lock();
    assert_eq!(decided(limit.take_leased(1)), Some(true));
    sleep(Duration::from_millis(1)).await;
    assert!(*server.asked.lock() > asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_ten_thousand_opens_and_closes_the_sum_is_the_truth() {
    let (server, store) = store(OnFailure::Local).await;
    let connections = SharedConnections::new(Arc::clone(&store), "a".to_owned());
    let worker = |number: u32| {
        let connections = Arc::clone(&connections);
        async move {
            let mut open = Vec::new();
            for round in 0..2500_u32 {
                let client = u128::from(fastrand::u32(..20));
                open.extend(connections.open(client, 40).await);
                while open.len() > 30 || (round % 3 == number % 3 && !open.is_empty()) {
                    open.swap_remove(fastrand::usize(..open.len()));
                }
            }
            open
        }
    };
    let workers: Vec<_> = (0..4).map(|number| tokio::spawn(worker(number))).collect();
    let mut open = Vec::new();
    for worker in workers {
        open.extend(worker.await.unwrap());
    }
    let truth = u32::try_from(open.len()).unwrap();
    assert_eq!(connections.open_now(), truth);
    let begun = Instant::now();
    while server.sum() != truth {
        assert!(begun.elapsed() < Duration::from_secs(5), "{} in the store, {truth} open", server.sum());
        sleep(Duration::from_millis(1)).await;
    }
    drop(open);
    let begun = Instant::now();
    while server.sum() != 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "{} in the store, none open", server.sum());
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_count_survives_an_outage_of_the_store() {
    let (server, store) = store(OnFailure::Local).await;
    let connections = SharedConnections::new(Arc::clone(&store), "a".to_owned());
    let first = connections.open(1, 4).await.unwrap();
    *server.mood.lock() = Mood::Failing;
    // Two gateways live, so that the share of this one is two.
    let _second = connections.open(1, 4).await.unwrap();
    assert!(connections.open(1, 4).await.is_none());
    drop(first);
    server.counts.lock().clear();
    *server.mood.lock() = Mood::Well;
    until(&store, true).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(server.sum(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_abandoned_gives_its_place_back() {
    let (server, store) = store(OnFailure::Local).await;
    let connections = SharedConnections::new(Arc::clone(&store), "a".to_owned());
    *server.mood.lock() = Mood::Silent;
    tokio::select! {
        biased;
        _ = connections.open(1, 1) => panic!("the store is silent"),
        () = ready(()) => {}
    }
    assert_eq!(connections.open_now(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_no_store_can_count_is_refused() {
    let (_, store) = store(OnFailure::Local).await;
    let refused = SharedTokens::new(store, "a".to_owned(), "100001/s".parse().unwrap(), 1, 1).unwrap_err();
    assert_eq!(refused.message, "`100001/s` is too high for a store");
}
