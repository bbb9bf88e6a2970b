//! noVNC and websockify under a subpath, before a real VNC server: the page with its modules, and RFB over the WebSocket.

use crate::application::{Application, Place, installed};
use crate::browser::Browser;
use crate::guide::Guide;
use crate::support::{Gateway, Socket};
use std::net::{SocketAddr, TcpStream};

const WEBSOCKIFY: &str = "/usr/bin/websockify";
const VNC: &str = "/usr/bin/Xvnc";
const PAGE: &str = "/usr/share/novnc/vnc.html";

/// A virtual screen with a VNC server.
fn screen(place: &Place) -> (Application, SocketAddr) {
    let address = place.address();
    let mut command = place.command(VNC);
    command
        // Xvnc takes the first free display and prints its number on standard output.
        .args(["-displayfd", "1", "-SecurityTypes", "None", "-desktop", "moon", "-geometry", "640x480"])
        .args(["-interface", &address.ip().to_string(), "-rfbport", &address.port().to_string()]);
    (place.start(&mut command, || TcpStream::connect(address).is_ok()), address)
}

#[test]
fn a_person_opens_the_page_and_sees_the_screen() {
    if !installed("a_person_opens_the_page_and_sees_the_screen", &[WEBSOCKIFY, VNC, PAGE]) {
        return;
    }
    let (place, guide) = (Place::new(), Guide::of("novnc"));
    let (_screen, vnc) = screen(&place);
    let address = place.address();
    let line = guide
        .file("command", &[("127.0.0.1:6080", &address.to_string()), ("127.0.0.1:5900", &vnc.to_string())]);
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("websockify"));
    let mut command = place.command(WEBSOCKIFY);
    let _websockify = place.start(command.args(words), || TcpStream::connect(address).is_ok());
    let gateway = Gateway::start(&guide.yaml(&[("127.0.0.1:6080", &address.to_string())]));
    let mut browser = Browser::new(gateway.web());
    guide.check(gateway.web(), &[]);

    browser.redirected("/novnc", "/novnc/");
    browser.open("/novnc/vnc.html?path=novnc/websockify", "/novnc/", &[]);
    for module in ["app/ui.js", "core/rfb.js", "core/websock.js", "app/styles/base.css"] {
        browser.good(&format!("/novnc/{module}"));
    }
    shows_the_screen(&mut browser.socket("/novnc/websockify", &[("Sec-WebSocket-Protocol", "binary")]));
}

/// Speaks RFB 3.8 (RFC 6143 §7) up to the first picture.
fn shows_the_screen(socket: &mut Socket) {
    let mut ahead = Vec::new();
    let mut read = |socket: &mut Socket, length: usize| -> Vec<u8> {
        while ahead.len() < length {
            ahead.extend(socket.hear());
        }
        ahead.drain(..length).collect()
    };
    assert_eq!(read(socket, 12), b"RFB 003.008\n");
    socket.say_bytes(b"RFB 003.008\n");
    let count = usize::from(read(socket, 1)[0]);
    assert!(read(socket, count).contains(&1), "no access without a password");
    socket.say_bytes(&[1]);
    assert_eq!(read(socket, 4), [0; 4], "the server refuses");
    // The shared flag of ClientInit.
    socket.say_bytes(&[1]);
    let init = read(socket, 24);
    let size = [u16::from_be_bytes([init[0], init[1]]), u16::from_be_bytes([init[2], init[3]])];
    assert_eq!(size, [640, 480]);
    let length = u32::from_be_bytes(init[20..24].try_into().unwrap()) as usize;
    let name = read(socket, length);
    assert_eq!(String::from_utf8_lossy(&name), "moon");
    // The whole screen, raw, with the bits per pixel of ServerInit.
    let pixel = usize::from(init[4] / 8);
    socket.say_bytes(&[2, 0, 0, 1, 0, 0, 0, 0]);
    socket.say_bytes(&[3, 0, 0, 0, 0, 0, 0x02, 0x80, 0x01, 0xe0]);
    let head = read(socket, 4);
    assert_eq!(head[0], 0, "no update of the screen: {head:?}");
    let mut pixels = 0;
    while pixels < 640 * 480 {
        let rectangle = read(socket, 12);
        assert_eq!(rectangle[8..], [0; 4], "not raw");
        let area = |at: usize| usize::from(u16::from_be_bytes([rectangle[at], rectangle[at + 1]]));
        let count = area(4) * area(6);
        read(socket, count * pixel);
        pixels += count;
    }
}
