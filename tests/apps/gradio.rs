//! A Gradio app under a subpath: the page with its assets, the queue's event streams, uploads and downloads.

use crate::application::{Place, installed, own_file};
use crate::browser::Browser;
use crate::guide::Guide;
use crate::support::Gateway;
use serde_json::{Value, json};
use std::net::TcpStream;

const PROGRAM: &str = "target/apps/gradio/bin/python";

/// The page names `/manifest.json` from the root, regardless of `root_path`; browsers only use it to install
/// an app.
const ROOTED: &[&str] = &["/manifest.json"];

#[test]
fn a_user_opens_the_app_and_gets_responses_from_the_queue() {
    if !installed("a_user_opens_the_app_and_gets_responses_from_the_queue", &[PROGRAM]) {
        return;
    }
    let (place, guide) = (Place::new(), Guide::of("gradio"));
    let address = place.address();
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let settings = guide.file("gradio.env", &[("127.0.0.1", &ip), ("7860", &port)]);
    let mut command = place.command(PROGRAM);
    command
        .arg(own_file("gradio_app.py"))
        .envs(settings.lines().map(|line| line.split_once('=').unwrap()))
        .env("GRADIO_ANALYTICS_ENABLED", "False")
        .env("GRADIO_TEMP_DIR", place.path("uploads"))
        .env("HF_HUB_OFFLINE", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let _gradio = place.start(&mut command, || TcpStream::connect(address).is_ok());
    let gateway = Gateway::start(&guide.yaml(&[("127.0.0.1:7860", &address.to_string())]));
    let mut browser = Browser::new(gateway.web());
    guide.check(gateway.web(), &[]);

    browser.redirected("/gradio", "/gradio/");
    log_in(&mut browser);
    let (page, _) = browser.open("/gradio/", "/gradio/", ROOTED);
    // The app uses this address from now on.
    let own = format!("{}/gradio", browser.origin());
    assert!(page.text().contains(&format!("\"root\":\"{own}\"")), "the page does not call itself {own}");
    assert_eq!(browser.good("/gradio/config").json()["root"], own);
    browser.good("/gradio/theme.css");

    assert_eq!(ask(&mut browser, "greet", &json!(["moon"])), ["complete [\"Hello moon\"]"]);
    let steps = ask(&mut browser, "count", &json!([3]));
    assert_eq!(
        steps,
        [
            "generating [\"step 0\"]",
            "generating [\"step 1\"]",
            "generating [\"step 2\"]",
            "complete [\"step 2\"]"
        ]
    );
    the_queue_responds(&mut browser);
    files_go_both_ways(&mut browser);
}

/// The login form of the app, whose cookies have the path `/` at the app.
fn log_in(browser: &mut Browser) {
    assert_eq!(browser.get("/gradio/config").status, 401);
    browser.open("/gradio/", "/gradio/", ROOTED);
    let form_type = [("Content-Type", "application/x-www-form-urlencoded")];
    let login = browser.send("POST", "/gradio/login", &form_type, b"username=operator&password=open-sesame");
    assert_eq!(login.status, 200, "{}{}", login.head, login.text());
    let cookies = browser.cookie_paths();
    assert!(!cookies.is_empty(), "{}", login.head);
    for (name, path) in cookies {
        assert!(["/gradio", "/gradio/"].contains(&path), "the cookie {name} is for {path}");
    }
}

/// Calls a function of the app; returns its events.
fn ask(browser: &mut Browser, function: &str, data: &Value) -> Vec<String> {
    let target = format!("/gradio/gradio_api/call/{function}");
    let call = browser.post_json(&target, &[], &json!({ "data": *data }));
    assert_eq!(call.status, 200, "{}{}", call.head, call.text());
    let id = call.json()["event_id"].as_str().unwrap().to_owned();
    let events = browser.events(&format!("{target}/{id}"), |event| {
        event.starts_with("event: complete") || event.starts_with("event: error")
    });
    let events = events.iter().map(|event| event.replace("event: ", "").replace("\ndata: ", " "));
    events.filter(|event| !event.starts_with("heartbeat")).collect()
}

/// The page's own way: one stream for all responses of a session.
fn the_queue_responds(browser: &mut Browser) {
    let join = json!({ "data": ["queue"], "fn_index": 0, "session_hash": "here" });
    let joined = browser.post_json("/gradio/gradio_api/queue/join?", &[], &join);
    assert_eq!(joined.status, 200, "{}{}", joined.head, joined.text());
    let events = browser.events("/gradio/gradio_api/queue/data?session_hash=here", |event| {
        event.contains("process_completed")
    });
    assert!(events[events.len() - 1].contains("Hello queue"), "{events:?}");
}

/// 8 MiB up, and down again.
fn files_go_both_ways(browser: &mut Browser) {
    let content: Vec<u8> = (0..8u32 << 20).map(|n| (n % 251) as u8).collect();
    let mut form = b"--edge\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a b.bin\"\r\n\
                     Content-Type: application/octet-stream\r\n\r\n"
        .to_vec();
    form.extend_from_slice(&content);
    form.extend_from_slice(b"\r\n--edge--\r\n");
    let form_type = [("Content-Type", "multipart/form-data; boundary=edge")];
    let upload = browser.send("POST", "/gradio/gradio_api/upload?upload_id=one", &form_type, &form);
    assert_eq!(upload.status, 200, "{}{}", upload.head, upload.text());
    let path = upload.json()[0].as_str().unwrap().to_owned();
    let data = json!([{ "path": path, "meta": { "_type": "gradio.FileData" } }]);
    let events = ask(browser, "copy", &data);
    let answer = events[events.len() - 1].strip_prefix("complete ").unwrap_or_else(|| panic!("{events:?}"));
    let answer: Value = serde_json::from_str(answer).unwrap();
    let url = answer[0]["url"].as_str().unwrap();
    let target = url.strip_prefix(&browser.origin()).unwrap_or_else(|| panic!("{url} leads elsewhere"));
    assert!(target.starts_with("/gradio/gradio_api/file="), "{target}");
    assert!(browser.good(target).body == content, "the file came back changed");
}
