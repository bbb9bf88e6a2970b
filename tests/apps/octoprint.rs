//! OctoPrint under a subpath with its virtual printer: login, page and assets, SockJS, an upload, and a camera.

use crate::application::{Application, Place, START, answer, installed};
use crate::browser::Browser;
use crate::guide::Guide;
use crate::support::eventually::eventually;
use crate::support::{Gateway, Socket};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const PROGRAM: &str = "target/apps/octoprint/bin/octoprint";

/// Settings that skip the wizard and accounts of other services, disable Internet requests, and add the
/// printer.
const OVERLAY: &str = "
server: { firstRun: false, seenWizards: {}, onlineCheck: { enabled: false }, pluginBlacklist: { enabled: false } }
accessControl: { salt: moon }
plugins:
  _disabled: [tracking, softwareupdate, announcements, backup, discovery, errortracking, pluginmanager, achievements,
    health_check]
  virtual_printer: { enabled: true }
";

fn start(place: &Place, guide: &Guide) -> (Application, SocketAddr) {
    let address = place.address();
    let folder = place.path("octoprint");
    place.write("octoprint/config.yaml", &guide.file("config.yaml", &[]));
    let overlay = place.write("overlay.yaml", OVERLAY);
    let mut user = place.command(PROGRAM);
    user.arg("--basedir").arg(&folder).args([
        "user",
        "add",
        "--password",
        "open-sesame",
        "--admin",
        "operator",
    ]);
    place.run(&mut user);
    let mut command = place.command(PROGRAM);
    command.args(["serve", "--iknowwhatimdoing", "--basedir"]).arg(&folder).arg("--overlay").arg(&overlay);
    command.args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()]);
    // It responds with a startup page until it has started.
    let started = || answer(address, "/login/").is_some_and(|page| page.text().contains("OctoPrint Login"));
    (place.start(&mut command, started), address)
}

#[test]
fn an_operator_logs_in_and_watches_the_printer() {
    if !installed("an_operator_logs_in_and_watches_the_printer", &[PROGRAM]) {
        return;
    }
    let (place, guide) = (Place::new(), Guide::of("octoprint"));
    let (_octoprint, address) = start(&place, &guide);
    let camera = Camera::start();
    let gateway =
        Gateway::start(&guide.yaml(&[
            ("127.0.0.1:5000", &address.to_string()),
            ("127.0.0.1:8081", &camera.address.to_string()),
        ]));
    let mut browser = Browser::new(gateway.web());
    guide.check(gateway.web(), &[]);

    browser.redirected("/octoprint", "/octoprint/");
    let asked = browser.get("/octoprint/");
    let login = asked.field("location").unwrap().to_owned();
    let login = login.strip_prefix(&browser.origin()).unwrap_or(&login);
    assert!(login.starts_with("/octoprint/login/?"), "{}", asked.head);
    browser.open(login, "/octoprint/", &[]);
    let session = log_in(&mut browser);
    browser.open("/octoprint/", "/octoprint/", &[]);
    for (name, path) in browser.cookie_paths() {
        assert_eq!(path, "/octoprint/", "the cookie {name} leaves the subpath");
    }

    assert_eq!(browser.good("/octoprint/sockjs/info").json()["websocket"], true);
    let mut socket = browser.socket("/octoprint/sockjs/000/moonmoon/websocket", &[]);
    assert_eq!(socket.hear(), b"o");
    let auth = json!({ "auth": format!("operator:{session}") }).to_string();
    socket.say(&json!([auth]).to_string());
    hear(&mut socket, |message| message["connected"]["version"].is_string());
    print_something(&mut browser, &mut socket);
    socket.close();
    polls(&mut browser);

    camera.is_seen_through(&browser);
}

fn log_in(browser: &mut Browser) -> String {
    let token = csrf(browser);
    let form = json!({ "user": "operator", "pass": "open-sesame", "remember": true });
    let without = browser.post_json("/octoprint/api/login", &[], &form);
    assert_eq!(without.status, 400, "a login without the token: {}", without.head);
    let response = browser.post_json("/octoprint/api/login", &[("X-CSRF-Token", &token)], &form);
    assert_eq!(response.status, 200, "{}{}", response.head, response.text());
    response.json()["session"].as_str().unwrap().to_owned()
}

/// The token that the page's scripts send back, from a cookie whose name contains the port and the prefix.
fn csrf(browser: &Browser) -> String {
    let port = browser.origin().rsplit(':').next().unwrap().to_owned();
    browser.cookie("/octoprint/", &format!("csrf_token_P{port}_R|octoprint"))
}

/// Waits for a matching SockJS message.
fn hear(socket: &mut Socket, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let frame = socket.hear_within(START).expect("SockJS says nothing");
        let Some(messages) = frame.strip_prefix('a') else { continue };
        let messages: Vec<Value> = serde_json::from_str(messages).unwrap();
        if let Some(found) = messages.into_iter().find(&wanted) {
            return found;
        }
    }
}

/// Connects the printer and uploads a file; the socket reports both.
fn print_something(browser: &mut Browser, socket: &mut Socket) {
    let token = csrf(browser);
    let connect = json!({ "command": "connect", "port": "VIRTUAL", "baudrate": 250_000 });
    let response = browser.post_json("/octoprint/api/connection", &[("X-CSRF-Token", &token)], &connect);
    assert_eq!(response.status, 204, "{}{}", response.head, response.text());
    hear(socket, |message| message["event"]["type"] == "Connected");

    // 4 MiB of moves.
    let moves = "G1 X10 Y10 F3000\nG1 X20 Y20 F3000\n".repeat(1 << 17);
    let form = format!(
        "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"cube.gcode\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n{moves}\r\n--edge--\r\n"
    );
    let fields = [("X-CSRF-Token", &*token), ("Content-Type", "multipart/form-data; boundary=edge")];
    let upload = browser.send("POST", "/octoprint/api/files/local", &fields, form.as_bytes());
    assert_eq!(upload.status, 201, "{}{}", upload.head, upload.text());
    let own = format!("{}/octoprint/", browser.origin());
    let location = upload.field("location").unwrap();
    assert!(location.starts_with(&own), "{location} is not below {own}");
    let file = upload.json();
    let download = file["files"]["local"]["refs"]["download"].as_str().unwrap();
    let target =
        download.strip_prefix(&browser.origin()).unwrap_or_else(|| panic!("{download} leads elsewhere"));
    assert!(browser.good(target).text() == moves, "the file came back changed");
    hear(socket, |message| message["event"]["type"] == "FileAdded");
}

/// SockJS without WebSockets, as behind a proxy that does not forward them.
fn polls(browser: &mut Browser) {
    let target = "/octoprint/sockjs/000/pollpoll/xhr";
    let opened = browser.send("POST", target, &[], b"");
    assert_eq!((opened.status, opened.text().as_str()), (200, "o\n"), "{}", opened.head);
    let heard = browser.send("POST", target, &[], b"");
    assert!(heard.text().starts_with("a["), "{}{}", heard.head, heard.text());
}

/// A camera like mjpg-streamer: an endless stream of pictures over HTTP/1.0.
struct Camera {
    address: SocketAddr,
    viewers: Arc<AtomicUsize>,
}

const PICTURE: &[u8] = &[0xff, 0xd8, 0xff, 0xe0, 0xff, 0xd9];

impl Camera {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let camera = Self { address: listener.local_addr().unwrap(), viewers: Arc::default() };
        let viewers = Arc::clone(&camera.viewers);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, viewers) = (stream.unwrap(), Arc::clone(&viewers));
                std::thread::spawn(move || {
                    viewers.fetch_add(1, Ordering::SeqCst);
                    // The viewer disconnected, or sent no request.
                    let _ = show(stream);
                    viewers.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        camera
    }

    fn is_seen_through(&self, browser: &Browser) {
        let mut wire = browser.wire("GET", "/webcam/?action=stream", &[], b"");
        let head = String::from_utf8(wire.head().unwrap().unwrap()).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(
            head.to_lowercase().contains("multipart/x-mixed-replace;boundary=boundarydonotcross"),
            "{head}"
        );
        let mut seen = Vec::new();
        while seen.windows(PICTURE.len()).filter(|window| *window == PICTURE).count() < 100 {
            seen.extend(wire.chunk().unwrap());
        }
        assert_eq!(self.viewers.load(Ordering::SeqCst), 1);
        drop(wire);
        eventually("the camera is left", || (self.viewers.load(Ordering::SeqCst) == 0).then_some(()));
    }
}

fn show(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    assert!(request.starts_with(b"GET /?action=stream "), "{:?}", String::from_utf8_lossy(&request));
    stream.write_all(
        b"HTTP/1.0 200 OK\r\nConnection: close\r\nCache-Control: no-store\r\n\
          Content-Type: multipart/x-mixed-replace;boundary=boundarydonotcross\r\n\r\n--boundarydonotcross\r\n",
    )?;
    loop {
        stream.write_all(
            format!("Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", PICTURE.len()).as_bytes(),
        )?;
        stream.write_all(PICTURE)?;
        stream.write_all(b"\r\n--boundarydonotcross\r\n")?;
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
