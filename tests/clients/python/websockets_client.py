"""websockets, its asyncio client. (The synchronous one reads and writes in two threads, which the TLS of Python 3.11 does
not bear: now and then the first request is not sent.)"""

import asyncio
import os

import shared
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def opened(url, **options):
    context = shared.tls() if url.startswith("wss") else None
    return connect(url, ssl=context, max_size=None, proxy=None, **options)


async def exchange(socket, data):
    await socket.send(data)
    answer = await socket.recv()
    print(type(data).__name__, len(data), "same" if answer == data else "different")


async def end(socket, code=1000, reason=""):
    await socket.close(code, reason)
    print("closed", socket.close_code, socket.close_reason)


async def echo(url):
    async with opened(url + "/echo") as socket:
        for data in ("", "héllo wörld ☃", bytes(range(256)), shared.TEXT, shared.pattern(shared.MIB)):
            await exchange(socket, data)
        await end(socket)


async def fragments(url):
    async with opened(url + "/fragments") as socket:
        await socket.send(["one, ", "two, ", "three"])
        print([part async for part in socket.recv_streaming()])
        await end(socket)


async def subprotocol(url):
    async with opened(url + "/echo", subprotocols=["chat.v1", "chat.v2"]) as socket:
        print("subprotocol", socket.subprotocol, "extensions", [item.name for item in socket.protocol.extensions])
        await exchange(socket, "hello")
        await end(socket)


async def ping(url):
    async with opened(url + "/ping") as socket:
        await (await socket.ping("from the client"))
        print("pong")
        await socket.send("go")
        print(await socket.recv())
        await end(socket)


async def client_close(url):
    async with opened(url + "/echo") as socket:
        await exchange(socket, "hello")
        await end(socket, 3001, "bye from the client")


async def ends(url, path):
    async with opened(url + path) as socket:
        await socket.send("end")
        try:
            print(await socket.recv())
        except ConnectionClosed as error:
            print(type(error).__name__, error)
        print("closed", socket.close_code, socket.close_reason)


async def client_lost(url):
    async with opened(url + "/echo") as socket:
        await exchange(socket, "hello")
        print(end="", flush=True)
        os._exit(0)


async def refused(url):
    try:
        async with opened(url + "/refuse"):
            print("opened")
    except InvalidStatus as error:
        response = error.response
        print(response.status_code, response.reason_phrase, response.headers["WWW-Authenticate"], response.body)


def running(function, *arguments):
    return lambda url: asyncio.run(function(url, *arguments))


shared.run(
    {
        "websocket": {
            "echo": running(echo),
            "fragments": running(fragments),
            "subprotocol": running(subprotocol),
            "ping": running(ping),
            "client_close": running(client_close),
            "server_close": running(ends, "/close"),
            "lost_fin": running(ends, "/fin"),
            "lost_reset": running(ends, "/reset"),
            "client_lost": running(client_lost),
            "refused": running(refused),
        }
    }
)
