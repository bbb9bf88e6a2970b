//! Tests of the DNS client with name servers on loopback.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::answers::{Family, FamilyAddresses, ServiceRecord, Services};
use super::name_server::{Client, of_system};
use super::testing::{AAAA, Message, NameServer, Question, Record, Reply, SRV, zone};
use super::*;
use std::sync::Arc;

async fn client(reply: Reply) -> (NameServer, Client) {
    let server = NameServer::start(reply).await;
    let client = Client::new(&[server.address], b"").unwrap();
    (server, client)
}

fn script(script: impl Fn(&Question) -> Option<Message> + Send + Sync + 'static) -> Reply {
    Reply::Script(Arc::new(script))
}

fn code(code: u8) -> Option<Message> {
    Some(Message { code, ..Message::default() })
}

fn answers(answers: Vec<Record>) -> Option<Message> {
    Some(Message { answers, ..Message::default() })
}

fn texts(half: &Result<FamilyAddresses, LookupError>) -> Vec<String> {
    half.as_ref().unwrap().addresses.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_failure_of_one_family_neither_hides_nor_drops_the_other() {
    for failure in [code(2), code(5), None] {
        let (_server, client) = client(script(move |question| match question.kind {
            AAAA => failure.clone(),
            _ => answers(vec![Record::address(&question.name, 60, "10.0.0.1")]),
        }))
        .await;
        let answer = client.host("web.test.").await;
        assert_eq!(texts(&answer.v4), ["10.0.0.1"]);
        assert!(answer.v6.is_err(), "{answer:?}");
    }
}

#[tokio::test]
async fn no_such_name_and_no_records_are_answers_with_a_lifetime() {
    for code in [0, 3] {
        let (_server, client) = client(script(move |_| {
            let authorities = vec![Record::authority("test.", 7)];
            Some(Message { code, authorities, ..Message::default() })
        }))
        .await;
        let answer = client.host("web.test.").await;
        assert_eq!(texts(&answer.v4), [] as [&str; 0]);
        assert_eq!(answer.v6.unwrap().ttl, Some(Duration::from_secs(7)));
        assert_eq!(client.services("_ws._tcp.test.").await.unwrap(), Services::default());
    }
}

#[tokio::test]
async fn the_search_list_stops_at_a_failure() {
    for (failing, expected) in [("", "10.0.0.3"), ("web.b.test.", ""), ("web.a.test.", "")] {
        let (_server, mut client) = client(script(move |question| match &*question.name {
            name if name == failing => code(2),
            "web.c.test." => answers(vec![Record::address("web.c.test.", 60, "10.0.0.3")]),
            _ => code(3),
        }))
        .await;
        client.search = ["a.test", "b.test", "c.test"].map(str::to_owned).into();
        client.ndots = 1;
        let answer = client.host("web").await;
        match expected {
            "" => assert!(answer.v4.is_err(), "{failing}: {answer:?}"),
            expected => assert_eq!(texts(&answer.v4), [expected], "{failing}"),
        }
    }
}

#[tokio::test]
async fn aliases_are_followed_in_one_response_and_over_several() {
    let alias = |from: &str, ttl, to: &str| Record::alias(from, ttl, to);
    let together = script(move |_| {
        answers(vec![
            alias("web.test.", 60, "a.test."),
            alias("a.test.", 9, "b.test."),
            Record::address("b.test.", 60, "10.0.0.1"),
        ])
    });
    let apart = script(move |question| match &*question.name {
        "web.test." => answers(vec![alias("web.test.", 9, "a.test.")]),
        "a.test." => answers(vec![alias("a.test.", 60, "b.test.")]),
        _ => answers(vec![Record::address("b.test.", 60, "10.0.0.1")]),
    });
    for reply in [together, apart] {
        let (_server, client) = client(reply).await;
        let found = client.family("web.test.", Family::V4).await.unwrap();
        assert_eq!(found.addresses, [IpAddr::from([10, 0, 0, 1])]);
        // The shortest lifetime of the chain.
        assert!(found.ttl.unwrap() <= Duration::from_secs(9), "{found:?}");
    }
}

#[tokio::test]
async fn a_truncated_response_is_asked_for_again_by_tcp() {
    let all =
        |name: &str| (0..200).map(|n| Record::address(name, 60, &format!("10.0.0.{n}"))).collect::<Vec<_>>();
    let (_server, client) = client(script(move |question| {
        let (by_tcp, all) = (question.by_tcp, all(&question.name));
        Some(match by_tcp {
            true => Message { answers: all, ..Message::default() },
            false => Message { answers: all[..3].to_vec(), is_truncated: true, ..Message::default() },
        })
    }))
    .await;
    assert_eq!(client.family("web.test.", Family::V4).await.unwrap().addresses.len(), 200);
}

#[tokio::test]
async fn a_truncated_response_alone_is_no_answer() {
    let (_server, client) = client(script(|question| {
        let record = Record::address(&question.name, 60, "10.0.0.1");
        let response = Message { answers: vec![record], is_truncated: true, ..Message::default() };
        (!question.by_tcp).then_some(response)
    }))
    .await;
    let outcome = client.family("web.test.", Family::V4).await;
    assert!(outcome.is_err(), "{outcome:?}");
}

#[tokio::test]
async fn each_try_has_a_socket_of_its_own() {
    let ports = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ports);
    let (_server, client) = client(script(move |question| {
        let mut ports = seen.lock();
        ports.push(question.port);
        (ports.len() > 2).then(|| Message {
            answers: vec![Record::address(&question.name, 60, "10.0.0.1")],
            ..Message::default()
        })
    }))
    .await;
    client.family("web.test.", Family::V4).await.unwrap();
    let mut ports = ports.lock().clone();
    assert!(ports.len() > 2);
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() > 2, "{ports:?}");
}

#[tokio::test]
async fn a_name_server_that_fails_is_followed_by_the_next() {
    for failure in [Reply::Silence, Reply::Code(2), Reply::Code(5)] {
        let is_silent = matches!(failure, Reply::Silence);
        let bad = [NameServer::start(failure.clone()).await, NameServer::start(failure).await];
        let good = NameServer::start(Reply::Addresses(vec![[10, 0, 0, 1]], 60)).await;
        let servers = [bad[0].address, bad[1].address, good.address];
        let client = Client::new(&servers, b"").unwrap();
        let look = async |name: &str| {
            let found = client.family(name, Family::V4).await.unwrap();
            assert_eq!(found.addresses, [IpAddr::from([10, 0, 0, 1])]);
        };
        for number in 0..3 {
            look(&format!("web{number}.test.")).await;
        }
        let before = bad[0].questions();
        assert!(before >= 3);
        // One that has not responded for some time is not waited for any more; one that fails may know other names.
        let begun = Instant::now();
        look("web.test.").await;
        assert!(begun.elapsed() < Duration::from_millis(400) || !is_silent);
        assert_eq!(bad[0].questions() > before, !is_silent);
    }
}

#[tokio::test]
async fn a_later_name_server_without_the_name_waits_for_the_first() {
    let late = Reply::Late(Duration::from_millis(1200), vec![[10, 0, 0, 1]], 60);
    let (first, second) = (NameServer::start(late).await, NameServer::start(Reply::Code(3)).await);
    let client = Client::new(&[first.address, second.address], b"").unwrap();
    let found = client.family("web.test.", Family::V4).await.unwrap();
    assert_eq!(found.addresses, [IpAddr::from([10, 0, 0, 1])]);
    assert_eq!(second.questions(), 1);
    first.set_reply(Reply::Silence);
    let begun = Instant::now();
    assert_eq!(client.family("web.test.", Family::V4).await.unwrap().addresses, [] as [IpAddr; 0]);
    assert!(begun.elapsed() < LONGEST / 2);
}

#[tokio::test]
async fn a_name_server_that_works_is_the_only_one_asked() {
    let servers = [Reply::Code(3), Reply::Addresses(vec![[10, 0, 0, 1]], 60)];
    let [first, second] = servers.map(NameServer::start);
    let (first, second) = (first.await, second.await);
    let client = Client::new(&[first.address, second.address], b"").unwrap();
    assert_eq!(texts(&client.host("web.test.").await.v4), [] as [&str; 0]);
    assert_eq!((first.questions(), second.questions()), (1, 0));
}

#[tokio::test]
async fn srv_records_come_with_their_additional_addresses() {
    let (_server, client) = client(script(|question| {
        let name = &question.name;
        Some(Message {
            answers: vec![
                Record::srv(name, 60, [1, 65535, 8081], "A.test."),
                Record::srv(name, 30, [2, 0, 8082], "b.test."),
            ],
            additionals: vec![
                Record::address("a.TEST.", 20, "10.0.0.1"),
                Record::address("a.test.", 10, "10.0.0.2"),
                Record::address("a.test.", 10, "fd00::1"),
            ],
            ..Message::default()
        })
    }))
    .await;
    let services = client.services("_ws._tcp.test.").await.unwrap();
    let shown = |record: &ServiceRecord| {
        format!("{} {} {} {}", record.priority, record.weight, record.port, record.target)
    };
    let shown: Vec<_> = services.records.iter().map(shown).collect();
    assert_eq!(shown, ["1 65535 8081 a.test.", "2 0 8082 b.test."]);
    assert_eq!(services.ttl, Some(Duration::from_secs(30)));
    assert_eq!(services.additional.len(), 2);
    let v4 = &services.additional[&("a.test.".into(), Family::V4)];
    assert_eq!((v4.addresses.len(), v4.ttl), (2, Some(Duration::from_secs(10))));
}

#[tokio::test]
async fn the_name_of_a_service_may_be_an_alias() {
    let record = |name: &str, ttl| Record::srv(name, ttl, [1, 1, 8081], "a.test.");
    let together = script(move |question| match (&*question.name, question.kind) {
        ("_ws.test.", SRV) => {
            answers(vec![Record::alias("_ws.test.", 9, "_ws.b.test."), record("_ws.b.test.", 60)])
        }
        ("_ws.test.", _) => answers(vec![Record::alias("_ws.test.", 9, "_ws.b.test.")]),
        ("_ws.b.test.", SRV) => answers(vec![record("_ws.b.test.", 60)]),
        _ => code(3),
    });
    let apart = zone(vec![Record::alias("_ws.test.", 9, "_ws.b.test."), record("_ws.b.test.", 60)]);
    for reply in [together, apart] {
        let (_server, client) = client(reply).await;
        let services = client.services("_ws.test.").await.unwrap();
        assert_eq!(services.records.len(), 1);
        assert_eq!(services.ttl, Some(Duration::from_secs(9)));
    }
}

#[tokio::test]
async fn aliases_without_an_end_are_a_failure() {
    let (_server, client) = client(zone(vec![Record::alias("_ws.test.", 9, "_ws.test.")])).await;
    assert!(matches!(client.services("_ws.test.").await, Err(LookupError::Failed(_))));
}

#[test]
fn an_invalid_resolv_conf_means_the_local_name_server() {
    for text in ["", "nonsense", "nameserver x\n", "search ..bad..\n", "options ndots:99999999999"] {
        let (config, _) = of_system(text.as_bytes());
        let servers: Vec<_> = config.name_servers().iter().map(|server| server.ip).collect();
        assert_eq!(servers, [IpAddr::from([127, 0, 0, 1])], "{text}");
    }
}

#[tokio::test]
async fn resolv_conf_has_the_search_list_and_the_dots() {
    let text = b"nameserver 10.0.0.53\nsearch shop.test test\noptions ndots:5 timeout:1 attempts:2\n";
    let client = Client::new(&[], text).unwrap();
    assert_eq!((client.ndots, client.search.len()), (5, 2));
    let own = Client::new(&["127.0.0.1:5353".parse().unwrap()], text).unwrap();
    assert_eq!((own.ndots, own.search.len()), (0, 0));
}

proptest::proptest! {
    #[test]
    fn no_resolv_conf_panics(text in "((nameserver|search|domain|options|sortlist|#)[ -~]{0,40}\n){0,6}") {
        let _ = of_system(text.as_bytes());
    }
}
