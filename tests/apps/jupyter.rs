//! JupyterLab under a subpath: the login form, the page with its assets, files, and a kernel over its WebSocket.

use crate::application::{Application, Place, START, installed};
use crate::browser::Browser;
use crate::guide::Guide;
use crate::support::{Gateway, Socket};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpStream};

const PROGRAM: &str = "target/apps/jupyter/bin/jupyter-lab";
const TOKEN: &str = "open-sesame";

fn start(place: &Place, guide: &Guide) -> (Application, SocketAddr) {
    let address = place.address();
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let settings =
        guide.file("jupyter_server_config.py", &[("\"127.0.0.1\"", &format!("\"{ip}\"")), ("8888", &port)]);
    let settings = place.write("jupyter_server_config.py", &settings);
    std::fs::create_dir(place.path("notebooks")).unwrap();
    let mut command = place.command(PROGRAM);
    command
        .arg(format!("--config={}", settings.display()))
        .args(["--no-browser", "--allow-root", "--ServerApp.root_dir=notebooks"])
        .env("JUPYTER_TOKEN", TOKEN)
        .env("JUPYTER_PLATFORM_DIRS", "1");
    (place.start(&mut command, || TcpStream::connect(address).is_ok()), address)
}

/// Enters the token in the login form.
fn log_in(browser: &mut Browser) {
    browser.redirected("/jupyter/lab", "/jupyter/login?next=%2Fjupyter%2Flab");
    let (page, _) = browser.open("/jupyter/login?next=%2Fjupyter%2Flab", "/jupyter/", &[]);
    let page = page.text();
    let token = page.split("name=\"_xsrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let form = format!("_xsrf={}&password={TOKEN}", token.replace('|', "%7C"));
    let form_type = [("Content-Type", "application/x-www-form-urlencoded")];
    let response = browser.send("POST", "/jupyter/login?next=%2Fjupyter%2Flab", &form_type, form.as_bytes());
    assert_eq!(response.status, 302, "{}{}", response.head, response.text());
    assert_eq!(response.field("location"), Some("/jupyter/lab"));
    for (name, path) in browser.cookie_paths() {
        assert_eq!(path, "/jupyter/", "the cookie {name} leaves the subpath");
    }
}

fn xsrf(browser: &Browser) -> String {
    browser.cookie("/jupyter/", "_xsrf")
}

#[test]
fn a_person_logs_in_opens_the_lab_and_runs_a_cell() {
    if !installed("a_person_logs_in_opens_the_lab_and_runs_a_cell", &[PROGRAM]) {
        return;
    }
    let (place, guide) = (Place::new(), Guide::of("jupyter"));
    let (_jupyter, address) = start(&place, &guide);
    let gateway = Gateway::start(&guide.yaml(&[("127.0.0.1:8888", &address.to_string())]));
    let mut browser = Browser::new(gateway.web());
    guide.check(gateway.web(), &[]);

    browser.redirected("/jupyter/", "/jupyter/lab?");
    log_in(&mut browser);
    browser.open("/jupyter/lab", "/jupyter/", &[]);
    files_are_kept(&mut browser);

    let token = xsrf(&browser);
    let kernel =
        browser.post_json("/jupyter/api/kernels", &[("X-XSRFToken", &token)], &json!({ "name": "python3" }));
    assert_eq!(kernel.status, 201, "{}{}", kernel.head, kernel.text());
    let kernel = kernel.json()["id"].as_str().unwrap().to_owned();
    let target = format!("/jupyter/api/kernels/{kernel}/channels?session_id=here");
    let mut socket = browser.socket(&target, &[]);
    assert_eq!(run(&mut socket, "print(6 * 7)"), "42\n");
    // A result of 2 MiB, larger than one frame of many programs.
    let long = run(&mut socket, "print('x' * (2 << 20))");
    assert_eq!(long.len(), (2 << 20) + 1);
    socket.close();

    let removed =
        browser.send("DELETE", &format!("/jupyter/api/kernels/{kernel}"), &[("X-XSRFToken", &token)], b"");
    assert_eq!(removed.status, 204, "{}", removed.head);
}

/// Files in directories, with spaces and with `%2F` between the directory and the name, as some clients send
/// it; one is larger than nginx's default limit of 1 MiB.
fn files_are_kept(browser: &mut Browser) {
    let token = xsrf(browser);
    let fields = [("X-XSRFToken", token.as_str()), ("Content-Type", "application/json")];
    let folder = browser.send(
        "PUT",
        "/jupyter/api/contents/my%20data",
        &fields,
        json!({ "type": "directory" }).to_string().as_bytes(),
    );
    assert_eq!(folder.status, 201, "{}{}", folder.head, folder.text());
    let text = "0123456789abcdef".repeat(1 << 18);
    let file = json!({ "type": "file", "format": "text", "content": text });
    let put = browser.send(
        "PUT",
        "/jupyter/api/contents/my%20data/a%20b.txt",
        &fields,
        file.to_string().as_bytes(),
    );
    assert_eq!(put.status, 201, "{}{}", put.head, put.text());
    let read = browser.good("/jupyter/api/contents/my%20data%2Fa%20b.txt?type=file&format=text");
    assert!(read.json()["content"] == text, "the file came back changed");
    // Jupyter serves files only to its own pages.
    let page = format!("{}/jupyter/lab", browser.origin());
    let target = "/jupyter/files/my%20data/a%20b.txt";
    assert_eq!(browser.get(target).status, 403);
    let download = browser.send("GET", target, &[("Referer", &page)], b"");
    assert_eq!(download.status, 200, "{}{}", download.head, download.text());
    assert!(download.text() == text, "the file came back changed");
}

/// Executes code in the kernel; returns its output.
fn run(socket: &mut Socket, code: &str) -> String {
    let id = format!("request-{}", code.len());
    let request = json!({
        "header": {
            "msg_id": id, "username": "", "session": "here", "msg_type": "execute_request", "version": "5.3",
            "date": "2026-01-01T00:00:00Z",
        },
        "parent_header": {}, "metadata": {}, "channel": "shell", "buffers": [],
        "content": {
            "code": code, "silent": false, "store_history": false, "user_expressions": {}, "allow_stdin": false,
            "stop_on_error": true,
        },
    });
    socket.say(&request.to_string());
    let mut printed = String::new();
    loop {
        let message = socket.hear_within(START).expect("the kernel says nothing");
        let message: Value = serde_json::from_str(&message).unwrap();
        if message["parent_header"]["msg_id"] != id {
            continue;
        }
        match message["msg_type"].as_str().unwrap() {
            "stream" => printed.push_str(message["content"]["text"].as_str().unwrap()),
            "error" => panic!("{message}"),
            "status" if message["content"]["execution_state"] == "idle" => return printed,
            _ => {}
        }
    }
}
