//! A Streamlit app under a subpath: the page with its assets, the WebSocket that carries the app, and an upload.

use crate::application::{Place, answer, installed, own_file};
use crate::browser::Browser;
use crate::guide::Guide;
use crate::support::Gateway;

const PROGRAM: &str = "target/apps/streamlit/bin/streamlit";

/// `BackMsg { rerun_script {} }` in Protocol Buffers: the first message of a page.
const RUN: &[u8] = &[0x5a, 0];

#[test]
fn a_person_opens_the_app_and_uploads_a_file() {
    if !installed("a_person_opens_the_app_and_uploads_a_file", &[PROGRAM]) {
        return;
    }
    let (place, guide) = (Place::new(), Guide::of("streamlit"));
    let address = place.address();
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    place.write(".streamlit/config.toml", &guide.file("config.toml", &[("127.0.0.1", &ip), ("8501", &port)]));
    let mut command = place.command(PROGRAM);
    command.arg("run").arg(own_file("streamlit_app.py")).args([
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
        "--server.fileWatcherType=none",
    ]);
    let _streamlit = place.start(&mut command, || {
        answer(address, "/streamlit/_stcore/health").is_some_and(|health| health.status == 200)
    });
    let gateway = Gateway::start(&guide.yaml(&[("127.0.0.1:8501", &address.to_string())]));
    let mut browser = Browser::new(gateway.web());
    guide.check(gateway.web(), &[]);

    browser.redirected("/streamlit", "/streamlit/");
    browser.open("/streamlit/", "/streamlit/", &[]);
    browser.good("/streamlit/_stcore/health");
    browser.good("/streamlit/_stcore/host-config");

    let token = browser.cookie("/streamlit/", "_streamlit_xsrf");
    let protocols = format!("streamlit, {token}");
    let mut socket =
        browser.socket("/streamlit/_stcore/stream", &[("Sec-WebSocket-Protocol", protocols.as_str())]);
    socket.say_bytes(RUN);
    let mut heard = Vec::new();
    while !contains(&heard, b"Hello from Streamlit") {
        heard.extend(socket.hear());
    }
    let session = session(&heard);

    // 12 MiB: above the defaults of other proxies, below Streamlit's own limit of 200 MB.
    let mut form =
        b"--edge\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\n\r\n".to_vec();
    form.resize(form.len() + (12 << 20), b'x');
    form.extend_from_slice(b"\r\n--edge--\r\n");
    let fields = [("Content-Type", "multipart/form-data; boundary=edge"), ("X-Xsrftoken", &*token)];
    let target = format!("/streamlit/_stcore/upload_file/{session}/one");
    let upload = browser.send("PUT", &target, &fields, &form);
    assert_eq!(upload.status, 204, "{}{}", upload.head, upload.text());
    let without = browser.send("PUT", &target, &fields[..1], &form);
    assert_eq!(without.status, 403, "an upload without the token: {}", without.head);
    socket.close();
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// `Initialize.session_id` in the first message: field 6, a string of 36 bytes.
fn session(heard: &[u8]) -> String {
    let at = heard.windows(2).position(|tag| tag == [0x32, 36]).expect("no session in the first message") + 2;
    String::from_utf8(heard[at..at + 36].to_vec()).unwrap()
}
