//! RabbitMQ's management UI under a subpath, with both configurations of the page: the UI with its assets,
//! the API with `%2F` in its paths, messages, and definitions as files.

use crate::application::{Application, Place, START, installed};
use crate::browser::Browser;
use crate::guide::Guide;
use crate::support::Gateway;
use crate::support::eventually::within;
use serde_json::json;
use std::net::{SocketAddr, TcpStream};

/// The server itself: the wrapper in /usr/sbin starts it as another user, with the system's directories.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const EPMD: &str = "/usr/bin/epmd";

/// `guest:guest` in base64.
const GUEST: (&str, &str) = ("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");

/// A separate broker: node name, ports, data, and the daemon that maps node names to ports.
struct Broker {
    _server: Application,
    _names: Application,
    address: SocketAddr,
}

fn start(place: &Place, settings: &str) -> Broker {
    let (amqp, distribution) = (place.address(), place.address());
    let names = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut daemon = place.command(EPMD);
    daemon.args(["-address", "127.0.0.1", "-port", &names.port().to_string()]);
    let names_daemon = place.start(&mut daemon, || TcpStream::connect(names).is_ok());
    let address = place.address();
    let settings = settings.replace("127.0.0.1", &address.ip().to_string());
    let settings = settings.replace("15672", &address.port().to_string());
    let settings = place.write("rabbitmq.conf", &format!("{settings}listeners.tcp.default = {amqp}\n"));
    let plugins = place.write("enabled_plugins", "[rabbitmq_management].\n");
    let mut command = place.command(SERVER);
    let ip = amqp.ip().to_string().replace('.', ",");
    command
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", names.port().to_string())
        .env("RABBITMQ_NODENAME", format!("moongate{}@localhost", names.port()))
        .env("RABBITMQ_DIST_PORT", distribution.port().to_string())
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", format!("-kernel inet_dist_use_interface {{{ip}}}"))
        .env("RABBITMQ_CONFIG_FILE", settings)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
        .env("RABBITMQ_MNESIA_BASE", place.path("data"))
        .env("RABBITMQ_LOG_BASE", place.path("log"));
    let server =
        place.start(&mut command, || TcpStream::connect(address).is_ok() && TcpStream::connect(amqp).is_ok());
    Broker { _server: server, _names: names_daemon, address }
}

fn missing(test: &str) -> bool {
    !installed(test, &[SERVER, EPMD])
}

#[test]
fn an_operator_uses_the_ui_under_a_prefix_that_the_gateway_removes() {
    if missing("an_operator_uses_the_ui_under_a_prefix_that_the_gateway_removes") {
        return;
    }
    let (place, guide) = (Place::new(), Guide::of("rabbitmq"));
    let broker = start(&place, &guide.file("rabbitmq.conf", &[]));
    let gateway = Gateway::start(&guide.yamls(&[("127.0.0.1:15672", &broker.address.to_string())])[0]);
    guide.check(gateway.web(), &[]);
    works(&gateway);
}

#[test]
fn an_operator_uses_the_ui_under_the_brokers_own_prefix() {
    if missing("an_operator_uses_the_ui_under_the_brokers_own_prefix") {
        return;
    }
    let (place, guide) = (Place::new(), Guide::of("rabbitmq"));
    let settings = guide.file("rabbitmq.conf", &[]) + "management.path_prefix = /rabbitmq\n";
    let broker = start(&place, &settings);
    let gateway = Gateway::start(&guide.yamls(&[("127.0.0.1:15672", &broker.address.to_string())])[1]);
    works(&gateway);
}

/// The UI loads, and its API calls work, those of the default virtual host `/` included.
fn works(gateway: &Gateway) {
    let mut browser = Browser::new(gateway.web());
    browser.redirected("/rabbitmq", "/rabbitmq/");
    browser.open("/rabbitmq/", "/rabbitmq/", &[]);
    for template in ["js/tmpl/login.ejs", "js/tmpl/queues.ejs"] {
        browser.good(&format!("/rabbitmq/{template}"));
    }
    assert_eq!(browser.get("/rabbitmq/api/whoami").status, 401);
    let me = browser.send("GET", "/rabbitmq/api/whoami", &[GUEST], b"");
    assert_eq!((me.status, &me.json()["name"]), (200, &json!("guest")), "{}", me.head);

    // A virtual host is one path segment, and the default one is named "/". A queue may have such a name too.
    let queue = "/rabbitmq/api/queues/%2F/orders%2F2026%20%25";
    let fields = [GUEST, ("Content-Type", "application/json")];
    let put = browser.send("PUT", queue, &fields, json!({ "durable": true }).to_string().as_bytes());
    assert_eq!(put.status, 201, "{}{}", put.head, put.text());
    // The statistics of a new queue appear a little later.
    let read = browser.send("GET", queue, &[GUEST], b"");
    assert_eq!((read.status, &read.json()["name"]), (200, &json!("orders/2026 %")), "{}", read.head);
    let message = json!({
        "properties": {}, "routing_key": "orders/2026 %", "payload": "hello", "payload_encoding": "string",
    });
    let publish = "/rabbitmq/api/exchanges/%2F/amq.default/publish";
    let published = browser.post_json(publish, &[GUEST], &message);
    assert_eq!((published.status, &published.json()["routed"]), (200, &json!(true)), "{}", published.head);
    let take = json!({ "count": 1, "ackmode": "ack_requeue_false", "encoding": "auto" });
    let taken = browser.post_json(&format!("{queue}/get"), &[GUEST], &take);
    assert_eq!(taken.json()[0]["payload"], "hello", "{}{}", taken.head, taken.text());

    definitions_go_both_ways(&mut browser, queue);
    let listed =
        browser.send("GET", "/rabbitmq/api/queues?page=1&page_size=100&name=&use_regex=false", &[GUEST], b"");
    assert_eq!(listed.status, 200, "{}", listed.head);
}

/// Exports the definitions as a file, removes the queue, and imports the file as the UI's form does.
fn definitions_go_both_ways(browser: &mut Browser, queue: &str) {
    let export = browser.send("GET", "/rabbitmq/api/definitions?download=rabbit.json", &[GUEST], b"");
    assert!(
        export.field("content-disposition").is_some_and(|field| field.contains("rabbit.json")),
        "{}",
        export.head
    );
    let removed = browser.send("DELETE", queue, &[GUEST], b"");
    assert_eq!(removed.status, 204, "{}", removed.head);
    assert_eq!(browser.send("GET", queue, &[GUEST], b"").status, 404);
    let mut form = b"--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"rabbit.json\"\r\n\
          Content-Type: application/json\r\n\r\n"
        .to_vec();
    form.extend_from_slice(&export.body);
    form.extend_from_slice(b"\r\n--edge--\r\n");
    let fields = [GUEST, ("Content-Type", "multipart/form-data; boundary=edge")];
    let import = browser.send("POST", "/rabbitmq/api/definitions", &fields, &form);
    assert!((200..300).contains(&import.status), "{}{}", import.head, import.text());
    within(START, "the queue is there again", || {
        (browser.send("GET", queue, &[GUEST], b"").status == 200).then_some(())
    });
}
