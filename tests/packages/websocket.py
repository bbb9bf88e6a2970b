"""A WebSocket client and backends with an echo (RFC 6455), as far as the tests of packages need them."""

import base64
import hashlib
import os
import socket
import struct
import threading

MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
LIMIT = 60


def read_head(stream):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = stream.recv(1)
        if not byte:
            raise EOFError
        head += byte
    return head.decode()


def read_exact(stream, size):
    data = b""
    while len(data) < size:
        part = stream.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def read_frame(stream):
    first, second = read_exact(stream, 2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack(">H", read_exact(stream, 2))
    mask = read_exact(stream, 4) if second & 0x80 else bytes(4)
    data = read_exact(stream, size)
    return first & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


def write_frame(stream, opcode, data, mask=None):
    size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + struct.pack(">H", len(data))
    if mask is None:
        stream.sendall(bytes([0x80 | opcode]) + size + data)
        return
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
    stream.sendall(bytes([0x80 | opcode, 0x80 | size[0]]) + size[1:] + mask + masked)


class Client:
    """An open WebSocket."""

    def __init__(self, address, path, host=None):
        self.stream = socket.create_connection(address, LIMIT)
        key = base64.b64encode(os.urandom(16)).decode()
        host = host or f"{address[0]}:{address[1]}"
        self.stream.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.head = read_head(self.stream)
        assert self.head.startswith("HTTP/1.1 101 "), self.head

    def echo(self, text):
        """Sends a text and expects its echo."""
        write_frame(self.stream, TEXT, text.encode(), os.urandom(4))
        while True:
            opcode, data = read_frame(self.stream)
            if opcode == PING:
                write_frame(self.stream, PONG, data, os.urandom(4))
                continue
            assert (opcode, data.decode()) == (TEXT, text), f"opcode {opcode} with {data!r} instead of {text!r}"
            return

    def close_code(self):
        """Waits for the peer's Close, and returns its code."""
        while True:
            opcode, data = read_frame(self.stream)
            if opcode == CLOSE:
                return int.from_bytes(data[:2], "big")

    def close(self):
        self.stream.close()


class Backend:
    """Accepts WebSockets on every path and sends every message back; other requests get 200 after their body."""

    def __init__(self, address):
        self.listener = socket.create_server(address)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(stream,), daemon=True).start()

    def close(self):
        self.listener.close()


def serve(stream):
    with stream:
        try:
            head = read_head(stream)
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n"))}
            key = fields.get("sec-websocket-key")
            if key is None:
                read_exact(stream, int(fields.get("content-length", "0")))
                stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                return
            accept = base64.b64encode(hashlib.sha1((key + MAGIC).encode()).digest()).decode()
            stream.sendall(
                f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode()
            )
            while True:
                opcode, data = read_frame(stream)
                write_frame(stream, PONG if opcode == PING else opcode, data)
                if opcode == CLOSE:
                    return
        except (EOFError, OSError):
            return
