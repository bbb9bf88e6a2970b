"""websockets, its asyncio server."""

import asyncio
import http
import socket
import struct

import shared
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


def refuse(connection, request):
    if request.path.endswith("/refuse"):
        response = connection.respond(http.HTTPStatus.UNAUTHORIZED, "sign in first\n")
        response.headers["WWW-Authenticate"] = 'Basic realm="test"'
        return response
    return None


async def converse(connection, action):
    async for message in connection:
        match action:
            case "close":
                await connection.close(4001, "closed by the server")
            case "fin" | "reset":
                if action == "reset":
                    linger = struct.pack("ii", 1, 0)
                    connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.transport.abort()
            case "fragments":
                await connection.send([message[:5], message[5:]])
            case "ping":
                await (await connection.ping("from the server"))
                await connection.send("pong received")
            case _:
                await connection.send(message)


async def handle(connection):
    _, token, action = connection.request.path.split("/")
    print(token, "open", flush=True)
    try:
        await converse(connection, action)
    except ConnectionClosed:
        pass
    await connection.wait_closed()
    print(token, "end", connection.close_code, connection.close_reason, flush=True)


def select_subprotocol(_, offered):
    return "chat.v2" if "chat.v2" in offered else None


async def main():
    options = {"process_request": refuse, "select_subprotocol": select_subprotocol, "max_size": None, "ping_interval": None}
    async with (
        serve(handle, "127.0.0.1", 0, **options) as plain,
        serve(handle, "127.0.0.1", 0, ssl=shared.server_tls(), **options) as secure,
    ):
        ports = [server.sockets[0].getsockname()[1] for server in (plain, secure)]
        print(f"listening plain={ports[0]} tls={ports[1]}", flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
