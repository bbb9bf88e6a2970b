//! WebSockets over HTTP/2 (RFC 8441), which a browser uses if they are offered.

use crate::chromium::installed;
use crate::support::h2ws::certificate;
use crate::support::{Gateway, LIMIT, Origin};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Opens a WebSocket to its own origin, and reports the result to the backend.
const PAGE: &str = "<!doctype html><script>
const heard = [];
const tell = (what) => fetch('/told?' + encodeURIComponent(what));
const socket = new WebSocket('wss://' + location.host + '/ws');
socket.onopen = () => { for (let n = 0; n < 100; n += 1) socket.send('message ' + n); };
socket.onmessage = (event) => { heard.push(event.data); if (heard.length === 100) socket.close(3000, 'thanks'); };
socket.onclose = (event) => tell(heard.every((text, n) => text === 'message ' + n) + '-' + heard.length + '-' + event.code);
</script>";

/// Ended in every case.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn visit(chromium: &Path, address: &str, folder: &Path) -> Browser {
    let child = Command::new(chromium)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
        .args(["--ignore-certificate-errors", "--remote-debugging-port=0"])
        .arg(format!("--user-data-dir={}", folder.display()))
        .arg(address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Browser(child.unwrap_or_else(|e| panic!("{}: {e}", chromium.display())))
}

#[test]
fn chromium_opens_its_websocket_on_the_connection_that_brought_the_page() {
    let test = "chromium_opens_its_websocket_on_the_connection_that_brought_the_page";
    let Some(chromium) = installed(test, &[]) else { return };
    let a = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let (cert, key, _) = certificate();
    std::fs::write(folder.path().join("cert.pem"), cert).unwrap();
    std::fs::write(folder.path().join("key.pem"), key).unwrap();
    let place = folder.path().display();
    let page = serde_json::to_string(PAGE).unwrap();
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - name: web
    address: 127.0.0.1:0
    tls: {{ certificates: [{{ cert: {place}/cert.pem, key: {place}/key.pem }}] }}
access_log: {{ path: {place}/access.log }}
routes:
  - path: =/page
    upstream: ['{a}']
    plugins: [{{ kind: respond, body: {page}, headers: {{ Content-Type: text/html }} }}]
  - upstream: ['{a}']"
    ));
    let browser = visit(
        &chromium,
        &format!("https://localhost:{}/page", gateway.web().port()),
        &folder.path().join("profile"),
    );
    let told = crate::support::eventually::within(LIMIT * 2, "the page has told", || {
        a.seen().into_iter().find(|seen| seen.target().starts_with("/told"))
    });
    assert_eq!(told.target(), "/told?true-100-3000");
    drop(browser);
    let log = std::fs::read_to_string(folder.path().join("access.log")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let open = lines.iter().find(|line| line["event"] == "open").unwrap();
    assert_eq!((&open["protocol"], &open["status"]), (&"HTTP/2.0".into(), &200.into()), "{log}");
    let agent = a.seen().iter().find_map(|seen| seen.field("user-agent").map(str::to_owned)).unwrap();
    assert!(agent.contains("Chrome/"), "{agent}");
}
