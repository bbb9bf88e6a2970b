"""aiohttp: HTTP/1.1 and WebSockets."""

import asyncio
import contextlib
import os

import aiohttp
import shared


@contextlib.contextmanager
def client(url):
    loop = asyncio.new_event_loop()

    async def start():
        connector = aiohttp.TCPConnector(ssl=shared.tls() if url.startswith("https") else False)
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(10))

    session = loop.run_until_complete(start())

    async def request(method, path, body, chunked, fields):
        async def generate():
            for piece in shared.pieces(body):
                yield piece

        data = generate() if chunked else body
        expects = bool(fields)
        async with session.request(method, url + path, data=data, expect100=expects) as response:
            names = [(name.decode(), value.decode()) for name, value in response.raw_headers]
            return response.status, names, await response.read()

    def call(method, path, body=None, chunked=False, fields=None):
        return loop.run_until_complete(request(method, path, body, chunked, fields))

    try:
        yield call
    finally:
        loop.run_until_complete(session.close())
        loop.close()


@contextlib.asynccontextmanager
async def websocket(url, **options):
    context = shared.tls() if url.startswith("wss") else False
    async with aiohttp.ClientSession() as session, session.ws_connect(
        url, ssl=context, autoping=False, max_msg_size=0, **options
    ) as opened:
        yield opened


async def receive(opened):
    """The next message; pings are answered, the end is printed."""
    while True:
        message = await opened.receive()
        if message.type == aiohttp.WSMsgType.PING:
            await opened.pong(message.data)
            continue
        return message


async def exchange(opened, data):
    await (opened.send_str(data) if isinstance(data, str) else opened.send_bytes(data))
    message = await receive(opened)
    print(message.type.name, len(data), "same" if message.data == data else "different")


async def end(opened, code=1000, reason=""):
    await opened.close(code=code, message=reason.encode())
    print("closed", opened.close_code)


async def echo(url):
    async with websocket(url + "/echo") as opened:
        for data in ("", "héllo wörld ☃", bytes(range(256)), shared.TEXT, shared.pattern(shared.MIB)):
            await exchange(opened, data)
        await end(opened)


async def fragments(url):
    async with websocket(url + "/fragments") as opened:
        await exchange(opened, "one, two, three")
        await end(opened)


async def subprotocol(url):
    async with websocket(url + "/echo", protocols=("chat.v1", "chat.v2"), compress=15) as opened:
        print("subprotocol", opened.protocol, "compression", opened.compress)
        await exchange(opened, "hello")
        await end(opened)


async def ping(url):
    async with websocket(url + "/ping") as opened:
        await opened.ping(b"from the client")
        await opened.send_str("go")
        for _ in range(2):
            message = await receive(opened)
            print(message.type.name, bytes(message.data) if isinstance(message.data, bytes | bytearray) else message.data)
        await end(opened)


async def client_close(url):
    async with websocket(url + "/echo") as opened:
        await exchange(opened, "hello")
        await end(opened, 3001, "bye from the client")


async def ends(url, path):
    async with websocket(url + path) as opened:
        await opened.send_str("end")
        message = await receive(opened)
        print(message.type.name, message.data, message.extra)
        print("closed", opened.close_code, opened.exception())


async def client_lost(url):
    async with websocket(url + "/echo") as opened:
        await exchange(opened, "hello")
        print(end="", flush=True)
        os._exit(0)


async def refused(url):
    try:
        async with websocket(url + "/refuse"):
            print("opened")
    except aiohttp.WSServerHandshakeError as error:
        print(error.status, error.message, error.headers.get("WWW-Authenticate"))


def running(function, *arguments):
    return lambda url: asyncio.run(function(url, *arguments))


websockets = {
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
shared.run({"http1": shared.http_cases(client), "websocket": websockets})
