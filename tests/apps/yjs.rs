//! Yjs with y-websocket: two editors with separate state that receive each other's edits, documents spread
//! over two servers.

use crate::application::{Application, Place, installed, own_file, root};
use crate::guide::Guide;
use crate::support::Gateway;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

const SERVER: &str = "target/apps/npm/node_modules/.bin/y-websocket-server";

fn start(place: &Place) -> (Application, SocketAddr) {
    let address = place.address();
    let mut command = place.command(SERVER);
    command.env("HOST", address.ip().to_string()).env("PORT", address.port().to_string());
    (place.start(&mut command, || TcpStream::connect(address).is_ok()), address)
}

#[test]
fn two_editors_see_each_others_edits() {
    if !installed("two_editors_see_each_others_edits", &[SERVER]) {
        return;
    }
    let (places, guide) = ([Place::new(), Place::new()], Guide::of("yjs"));
    let [(_one, first), (_two, second)] = [start(&places[0]), start(&places[1])];
    let gateway = Gateway::start(
        &guide.yaml(&[("127.0.0.1:1234", &first.to_string()), ("127.0.0.1:1235", &second.to_string())]),
    );
    guide.check(gateway.web(), &[]);
    let script = std::fs::read_to_string(own_file("yjs.mjs")).unwrap();
    // Enough documents to use both servers; each server keeps its documents to itself.
    for room in 0..8 {
        let output = Command::new("node")
            .current_dir(root("target/apps/npm"))
            .args(["--input-type=module", "-e", &script])
            .args([format!("ws://{}/yjs", gateway.web()), format!("room {room}")])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "room {room}: {said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "both see moongate\n", "room {room}: {said}");
    }
    let opened = |address: SocketAddr| {
        let endpoint = address.to_string();
        gateway.metrics().sum("moongate_websocket_opened_total", &[("endpoint", &endpoint)])
    };
    assert!(opened(first) > 0.0 && opened(second) > 0.0, "all rooms are on one server");
}
