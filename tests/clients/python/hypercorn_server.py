"""hypercorn with an ASGI application: HTTP/1.1, HTTP/2 with and without TLS, and WebSockets over both (RFC 8441)."""

import asyncio
import os
import socket
import zlib

import shared
from hypercorn.asyncio import serve
from hypercorn.config import Config

REFUSAL = (401, b"sign in first\n", [(b"www-authenticate", b'Basic realm="test"')])


async def respond(send, status, body, fields=()):
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain"), length, *fields]})
    await send({"type": "http.response.body", "body": body})


async def read(receive):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def http(scope, receive, send):
    match scope["path"]:
        case "/get":
            await respond(send, 200, b"hello\n", [(b"etag", b'"abc"'), (b"x-case-of-names", b"kept")])
        case "/echo":
            body = await read(receive)
            text = f"{scope['method']} {len(body)} {zlib.crc32(body):08x}\n"
            await respond(send, 200, text.encode())
        case "/big":
            await respond(send, 200, shared.pattern(shared.MIB))
        case "/chunked":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            for piece in shared.pieces(shared.pattern(200_000)):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        case "/early" | "/limited":
            await respond(send, 413, b"too large\n")
        case _:
            await respond(send, 404, b"no such path\n")


async def websocket(scope, receive, send):
    _, token, action = scope["path"].split("/")
    await receive()
    if action == "refuse":
        status, body, fields = REFUSAL
        await send({"type": "websocket.http.response.start", "status": status, "headers": fields})
        await send({"type": "websocket.http.response.body", "body": body})
        return
    chosen = "chat.v2" if "chat.v2" in scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": chosen})
    print(token, "open", flush=True)
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print(token, "end", message.get("code"), message.get("reason"), flush=True)
            return
        if action == "close":
            await send({"type": "websocket.close", "code": 4001, "reason": "closed by the server"})
        else:
            data = {name: message[name] for name in ("text", "bytes") if message.get(name) is not None}
            await send({"type": "websocket.send", **data})


async def application(scope, receive, send):
    match scope["type"]:
        case "http":
            await http(scope, receive, send)
        case "websocket":
            await websocket(scope, receive, send)


def listen():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.set_inheritable(True)
    return listener


async def main():
    plain, secure = listen(), listen()
    config = Config()
    config.insecure_bind = [f"fd://{plain.fileno()}"]
    config.bind = [f"fd://{secure.fileno()}"]
    config.certfile, config.keyfile = os.environ["CERT"], os.environ["KEY"]
    config.alpn_protocols = ["h2", "http/1.1"]
    config.errorlog = None
    config.include_server_header = False
    # The same port answers HTTP/1.1 and HTTP/2 by prior knowledge.
    ports = plain.getsockname()[1], secure.getsockname()[1]
    print(f"listening plain={ports[0]} tls={ports[1]} h2c={ports[0]}", flush=True)
    await serve(application, config, shutdown_trigger=asyncio.Event().wait)


asyncio.run(main())
