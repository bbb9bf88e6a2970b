"""Connections of OpenSSL that are read to their end. A missing close_notify is an error (suppress_ragged_eofs=False).

Arguments: the port, a file of trusted certificates, a case and the number of connections, of which every second one has
TLS 1.2. Prints `ready` once all are open, and then a line for the end of each.
"""

import socket
import ssl
import struct
import sys

PORT, CA, CASE, COUNT = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])

LIMIT = 20
HANDSHAKE = (
    "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def connect(number):
    context = ssl.create_default_context(cafile=CA)
    if number % 2:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2" if CASE == "h2" else "http/1.1"])
    plain = socket.create_connection(("127.0.0.1", PORT), LIMIT)
    return context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)


def close_frame(code):
    # Masked with zeros.
    return bytes([0x88, 0x82, 0, 0, 0, 0]) + struct.pack(">H", code)


def http_head(tls):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += tls.recv(1) or sys.exit(f"the connection ended after {head!r}")
    return head.decode("latin1")


def open_websocket(tls, path):
    tls.sendall(HANDSHAKE.format(path).encode())
    head = http_head(tls)
    assert head.startswith("HTTP/1.1 101 "), head


def h2_frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def read_to_end(tls, responds):
    """The bytes, and whether the peer sent close_notify. `responds` sends a Close frame after the peer's."""
    read = b""
    try:
        while True:
            part = tls.recv(65536)
            if not part:
                return read, "clean"
            read += part
            if responds and b"\x88" in read:
                responds = False
                tls.sendall(close_frame(1000))
    except ssl.SSLError as error:
        return read, f"ragged: {error.reason}"
    except OSError as error:
        return read, f"ragged: {error}"


def close_code(read):
    at = read.rfind(b"\x88")
    return str(struct.unpack(">H", read[at + 2 : at + 4])[0]) if at >= 0 else "none"


def last_frame(read):
    """The type and the error code of the last frame of HTTP/2."""
    at, last = 0, "none"
    while at + 9 <= len(read):
        length, kind = int.from_bytes(read[at : at + 3], "big"), read[at + 3]
        payload = read[at + 9 : at + 9 + length]
        last = f"GOAWAY {int.from_bytes(payload[4:8], 'big')}" if kind == 7 else f"type {kind}"
        at += 9 + length
    return last


def begin(tls):
    if CASE == "h2":
        # SETTINGS, their acknowledgement, and a request with indexed fields: GET, https, / and a literal authority.
        head = bytes([0x82, 0x87, 0x84, 0x41, 9]) + b"localhost"
        tls.sendall(PREFACE + h2_frame(4, 0, 0) + h2_frame(4, 1, 0) + h2_frame(1, 5, 1, head))
        return
    if CASE.startswith("http "):
        fields = "Connection: close\r\n" if CASE.endswith("close") else ""
        tls.sendall(f"GET /plain HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode())
        return
    open_websocket(tls, CASE.split()[1])
    if CASE.endswith("client"):
        tls.sendall(close_frame(1000))


connections = [connect(number) for number in range(COUNT)]
for tls in connections:
    begin(tls)
print("ready", flush=True)
for number, tls in enumerate(connections):
    # Half of the clients respond to a Close frame.
    read, end = read_to_end(tls, CASE.startswith("websocket") and not CASE.endswith("client") and number % 4 < 2)
    if CASE == "h2":
        seen = last_frame(read)
    elif CASE.startswith("http "):
        seen = read[9:12].decode()
    else:
        seen = close_code(read)
    print(f"{end}, {seen}", flush=True)
