"""websocket-client."""

import os
import struct

import shared
import websocket
from websocket import ABNF


def opened(url, **options):
    return websocket.create_connection(url, sslopt={"ca_certs": os.environ["CA"]}, timeout=10, **options)


def exchange(socket, data):
    text = isinstance(data, str)
    socket.send(data, ABNF.OPCODE_TEXT if text else ABNF.OPCODE_BINARY)
    opcode, answer = socket.recv_data()
    expected = data.encode() if text else data
    print(ABNF.OPCODE_MAP[opcode], len(data), "same" if answer == expected else "different")


def received(socket):
    """The next frame that is no ping, which the library answers."""
    while True:
        opcode, data = socket.recv_data(control_frame=True)
        if opcode == ABNF.OPCODE_CLOSE:
            return "close", struct.unpack(">H", data[:2])[0] if data else None, data[2:].decode()
        if opcode != ABNF.OPCODE_PING:
            return ABNF.OPCODE_MAP[opcode], data.decode()


def end(socket, code=1000, reason=""):
    socket.send_close(code, reason.encode())
    print(*received(socket))
    socket.shutdown()


def echo(url):
    socket = opened(url + "/echo")
    for data in ("", "héllo wörld ☃", bytes(range(256)), shared.TEXT, shared.pattern(shared.MIB)):
        exchange(socket, data)
    end(socket)


def fragments(url):
    socket = opened(url + "/fragments")
    socket.send_frame(ABNF.create_frame("one, ", ABNF.OPCODE_TEXT, 0))
    socket.send_frame(ABNF.create_frame("two, ", ABNF.OPCODE_CONT, 0))
    socket.send_frame(ABNF.create_frame("three", ABNF.OPCODE_CONT, 1))
    print(socket.recv())
    end(socket)


def subprotocol(url):
    socket = opened(url + "/echo", subprotocols=["chat.v1", "chat.v2"])
    print("subprotocol", socket.getsubprotocol())
    exchange(socket, "hello")
    end(socket)


def ping(url):
    socket = opened(url + "/ping")
    socket.ping("from the client")
    print(*received(socket))
    socket.send("go")
    print(*received(socket))
    end(socket)


def client_close(url):
    socket = opened(url + "/echo")
    exchange(socket, "hello")
    end(socket, 3001, "bye from the client")


def ends(path):
    def function(url):
        socket = opened(url + path)
        socket.send("end")
        print(*received(socket))
        socket.close()

    return function


def client_lost(url):
    socket = opened(url + "/echo")
    exchange(socket, "hello")
    print(end="", flush=True)
    os._exit(0)


def refused(url):
    try:
        opened(url + "/refuse")
        print("opened")
    except websocket.WebSocketBadStatusException as error:
        print(error.status_code, error.resp_headers.get("www-authenticate"), error.resp_body)


shared.run(
    {
        "websocket": {
            "echo": echo,
            "fragments": fragments,
            "subprotocol": subprotocol,
            "ping": ping,
            "client_close": client_close,
            "server_close": ends("/close"),
            "lost_fin": ends("/fin"),
            "lost_reset": ends("/reset"),
            "client_lost": client_lost,
            "refused": refused,
        }
    }
)
