//! `routes.websocket`: backends that vanish.

use super::loaded_gateway::LoadedGateway;
use super::websocket_limits::to;
use super::{Case, case};
use crate::support::Origin;
use crate::support::ws::{masked, open_raw, read_frame};

pub(super) const CASES: &[Case] = &[
    case(&["routes.websocket.on_endpoint_loss"], on_endpoint_loss),
    case(&["routes.websocket.reconnect_buffer"], reconnect_buffer),
    case(&["routes.websocket.reconnect_timeout"], reconnect_timeout),
];

fn on_endpoint_loss(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let mut sockets = ["close", "reconnect"].map(|policy| {
        gateway.reload(&to(&origin, &format!("on_endpoint_loss: {policy}")));
        gateway.open("/case").unwrap()
    });
    origin.await_sockets(2);
    origin.die();
    assert_eq!(sockets[0].end(), Some(1001));
    origin.revive();
    sockets[1].echo("reconnected");
}

fn reconnect_timeout(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let mut sockets = ["1h", "300ms"].map(|time| {
        gateway.reload(&to(&origin, &format!("on_endpoint_loss: reconnect, reconnect_timeout: {time}")));
        gateway.open("/case").unwrap()
    });
    origin.await_sockets(2);
    origin.die();
    assert_eq!(sockets[1].end(), Some(1012));
    origin.revive();
    sockets[0].echo("reconnected");
}

fn reconnect_buffer(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let message = masked(2, &[7; 4000]);
    let mut wires = ["64KiB", "100"].map(|size| {
        gateway.reload(&to(&origin, &format!("on_endpoint_loss: reconnect, reconnect_buffer: {size}")));
        let mut wire = open_raw(gateway.web(), "/case");
        // An interrupted message.
        wire.send(&message[..2000]);
        wire.await_read();
        wire
    });
    origin.await_sockets(2);
    origin.die();
    origin.revive();
    let (first, payload) = read_frame(&mut wires[1]).unwrap();
    assert_eq!((first, &payload[..2]), (0x88, &1012_u16.to_be_bytes()[..]));
    wires[0].send(&message[2000..]);
    assert_eq!(read_frame(&mut wires[0]).unwrap(), (0x82, vec![7; 4000]));
}
