//! Tests of lookups with a name server on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use super::testing::{NameServer, Reply};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn resolver(server: &NameServer) -> Arc<Resolver> {
    let resolver = Resolver::new(SystemFiles::of("/nonexistent/hosts", "/nonexistent/resolv.conf"));
    resolver.configure(ResolverKind::Hickory, &[server.address]);
    resolver
}

async fn look(resolver: &Arc<Resolver>, host: &str) -> Result<Vec<String>, LookupError> {
    let resolution = resolver.lookup(host, None, HOUR).await?;
    Ok(resolution.addresses.iter().map(ToString::to_string).collect())
}

/// Repeats the lookup until it returns these addresses.
async fn await_addresses(resolver: &Arc<Resolver>, host: &str, expected: &[&str]) {
    let until = Instant::now() + Duration::from_secs(20);
    while look(resolver, host).await.is_ok_and(|found| found != expected) {
        assert!(Instant::now() < until, "timed out waiting for {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_response_is_cached_for_its_ttl() {
    let server = NameServer::start(Reply::Addresses(vec![[10, 0, 0, 1]], 1)).await;
    let resolver = resolver(&server);
    assert_eq!(look(&resolver, "web.test").await.unwrap(), ["10.0.0.1"]);
    for _ in 0..50 {
        look(&resolver, "WEB.test").await.unwrap();
    }
    assert_eq!(server.questions(), 1);
    server.set_reply(Reply::Addresses(vec![[10, 0, 0, 2], [10, 0, 0, 3]], 1));
    await_addresses(&resolver, "web.test", &["10.0.0.2", "10.0.0.3"]).await;
}

#[tokio::test]
async fn a_response_is_never_older_than_the_caller_accepts() {
    let server = NameServer::start(Reply::Addresses(vec![[10, 0, 0, 1]], 3600)).await;
    let resolver = resolver(&server);
    let look = |age| resolver.lookup("web.test", None, age);
    let resolution = look(HOUR).await.unwrap();
    assert!(resolution.valid_for > Duration::from_secs(3000));
    look(Duration::from_nanos(1)).await.unwrap();
    assert_eq!(server.questions(), 2);
    look(HOUR).await.unwrap();
    assert_eq!(server.questions(), 2);
}

#[tokio::test]
async fn concurrent_callers_share_one_lookup() {
    let late = Reply::Late(Duration::from_millis(50), vec![[10, 0, 0, 1]], 60);
    let server = NameServer::start(late).await;
    let resolver = resolver(&server);
    let all = (0..100).map(|_| {
        let resolver = Arc::clone(&resolver);
        tokio::spawn(async move { look(&resolver, "web.test").await })
    });
    for one in all.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap().unwrap(), ["10.0.0.1"]);
    }
    assert_eq!(server.questions(), 1);
}

#[tokio::test]
async fn a_failure_keeps_the_last_addresses_and_is_reported() {
    let server = NameServer::start(Reply::Addresses(vec![[10, 0, 0, 1]], 0)).await;
    let resolver = resolver(&server);
    look(&resolver, "web.test").await.unwrap();
    for (reply, is_expected) in [
        (Reply::Code(2), (|error| matches!(error, LookupError::Failed(_))) as fn(&LookupError) -> bool),
        (Reply::Code(3), |error| matches!(error, LookupError::NotFound)),
    ] {
        server.set_reply(reply);
        let pending = resolver.lookup("web.test", None, Duration::from_nanos(1));
        let resolution = pending.await.unwrap();
        let failure = resolution.failure.unwrap();
        assert!(is_expected(&failure), "{failure:?}");
        assert_eq!(resolution.addresses[0].to_string(), "10.0.0.1");
        // Other servers are tried at once.
        resolver.names.lock().values_mut().for_each(|entry| entry.failure = None);
    }
}

#[tokio::test]
async fn a_name_without_addresses_is_an_error_and_cached_briefly() {
    let server = NameServer::start(Reply::Code(3)).await;
    let resolver = resolver(&server);
    for _ in 0..20 {
        assert!(matches!(look(&resolver, "none.test").await, Err(LookupError::NotFound)));
    }
    assert!(server.questions() <= 2, "{}", server.questions());
}

#[tokio::test]
async fn a_call_waits_for_a_dead_name_server_only_while_nothing_is_known() {
    let server = NameServer::start(Reply::Addresses(vec![[10, 0, 0, 1]], 0)).await;
    let resolver = resolver(&server);
    look(&resolver, "web.test").await.unwrap();
    server.set_reply(Reply::Silence);
    resolver.names.lock().values_mut().for_each(|entry| {
        entry.found.as_mut().unwrap().at -= MAX_AGE;
    });
    let begun = Instant::now();
    let resolution = resolver.lookup_soon("web.test").await.unwrap();
    assert_eq!(resolution.addresses[0].to_string(), "10.0.0.1");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_late_response_is_used_and_counted_as_slow() {
    let server = NameServer::start(Reply::Late(Duration::from_millis(1300), vec![[10, 0, 0, 1]], 60)).await;
    let before = metrics::render(metrics::TextFormat::Classic);
    let count = |text: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with("moongate_name_lookups_slow_total "));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    };
    let resolver = resolver(&server);
    assert_eq!(look(&resolver, "slow.test").await.unwrap(), ["10.0.0.1"]);
    assert!(count(&metrics::render(metrics::TextFormat::Classic)) > count(&before));
}

#[tokio::test]
async fn new_name_servers_are_queried_at_once() {
    let first = NameServer::start(Reply::Addresses(vec![[10, 0, 0, 1]], 3600)).await;
    let second = NameServer::start(Reply::Addresses(vec![[10, 0, 0, 2]], 3600)).await;
    let resolver = resolver(&first);
    look(&resolver, "web.test").await.unwrap();
    let mut changes = resolver.changes();
    resolver.configure(ResolverKind::Hickory, &[first.address]);
    assert!(!changes.has_changed().unwrap(), "equal settings are not a change");
    resolver.configure(ResolverKind::Hickory, &[second.address]);
    changes.changed().await.unwrap();
    await_addresses(&resolver, "web.test", &["10.0.0.2"]).await;
}

#[tokio::test]
async fn a_second_name_server_replaces_a_dead_one() {
    let dead = NameServer::start(Reply::Silence).await;
    let good = NameServer::start(Reply::Addresses(vec![[10, 0, 0, 2]], 60)).await;
    let resolver = resolver(&dead);
    resolver.configure(ResolverKind::Hickory, &[dead.address, good.address]);
    let begun = Instant::now();
    assert_eq!(look(&resolver, "web.test").await.unwrap(), ["10.0.0.2"]);
    assert!(begun.elapsed() < LONGEST);
}

#[tokio::test]
async fn names_in_the_hosts_file_and_localhost_cause_no_query() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "10.1.1.1 listed.test\n").unwrap();
    let server = NameServer::start(Reply::Silence).await;
    let resolver = Resolver::new(SystemFiles::of(&hosts, "/nonexistent"));
    resolver.configure(ResolverKind::Hickory, &[server.address]);
    assert_eq!(look(&resolver, "listed.test").await.unwrap(), ["10.1.1.1"]);
    assert_eq!(look(&resolver, "localhost").await.unwrap(), ["127.0.0.1", "::1"]);
    assert_eq!(server.questions(), 0);
}

#[tokio::test]
async fn a_query_uses_the_hosts_file_and_no_cache() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "10.1.1.1 listed.test\nfd00::1 listed.test\n").unwrap();
    let server = NameServer::start(Reply::Addresses(vec![[10, 0, 0, 1]], 3600)).await;
    let resolver = Resolver::new(SystemFiles::of(&hosts, "/nonexistent"));
    resolver.configure(ResolverKind::Hickory, &[server.address]);
    let texts = |half: Result<FamilyAddresses, LookupError>| {
        let half = half.unwrap();
        (half.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), half.ttl.is_some())
    };
    for host in ["listed.test", "LISTED.test."] {
        let HostAnswer { v4, v6 } = resolver.query_host(host, None).await;
        assert_eq!(texts(v4), (vec!["10.1.1.1".to_owned()], false));
        assert_eq!(texts(v6), (vec!["fd00::1".to_owned()], false));
        assert_eq!(texts(resolver.query_family(host, Family::V6).await).0, ["fd00::1"]);
    }
    assert_eq!(texts(resolver.query_host("localhost", None).await.v4).0, ["127.0.0.1"]);
    assert_eq!(server.questions(), 0);
    for questions in 1..4 {
        let HostAnswer { v4, v6 } = resolver.query_host("web.test.", None).await;
        assert_eq!(texts(v4), (vec!["10.0.0.1".to_owned()], true));
        assert_eq!(texts(v6).0, [] as [&str; 0]);
        assert_eq!(server.questions(), questions);
    }
    let system = resolver.query_host("localhost", Some(ResolverKind::System)).await;
    assert!(!system.v4.unwrap().addresses.is_empty() || !system.v6.unwrap().addresses.is_empty());
    assert_eq!(server.questions(), 3);
}

#[tokio::test]
async fn the_system_knows_localhost_too() {
    let server = NameServer::start(Reply::Silence).await;
    let resolver = resolver(&server);
    let resolution = resolver.lookup("localhost", Some(ResolverKind::System), HOUR).await.unwrap();
    assert!(resolution.addresses.iter().all(IpAddr::is_loopback));
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let server = NameServer::start(Reply::Code(3)).await;
    let resolver = resolver(&server);
    for number in 0..MOST_NAMES * 2 {
        let entry = Entry { failure: Some((LookupError::NotFound, Instant::now())), ..Entry::default() };
        let key = Key::new(&format!("n{number}.test"), ResolverKind::Hickory);
        let mut names = resolver.names.lock();
        if names.len() >= MOST_NAMES {
            make_room(&mut names);
        }
        names.insert(key, entry);
        assert!(names.len() <= MOST_NAMES);
    }
}

#[tokio::test]
async fn the_configured_kind_is_the_default() {
    let server = NameServer::start(Reply::Addresses(vec![[10, 0, 0, 1]], 3600)).await;
    let resolver = resolver(&server);
    let changes = resolver.changes();
    resolver.configure(ResolverKind::System, &[server.address]);
    assert!(changes.has_changed().unwrap());
    // getaddrinfo resolves an address literal everywhere; this name server responds with another address.
    assert_eq!(look(&resolver, "192.0.2.1").await.unwrap(), ["192.0.2.1"]);
    let soon = resolver.lookup_soon("192.0.2.1").await.unwrap();
    assert_eq!(soon.addresses[0].to_string(), "192.0.2.1");
    assert_eq!(server.questions(), 0);
    let own = resolver.lookup("192.0.2.1", Some(ResolverKind::Hickory), HOUR).await.unwrap();
    assert_eq!(own.addresses[0].to_string(), "10.0.0.1");
    resolver.configure(ResolverKind::Hickory, &[server.address]);
    assert_eq!(look(&resolver, "192.0.2.1").await.unwrap(), ["10.0.0.1"]);
}
