"""aiohttp's server: HTTP/1.1 and WebSockets."""

import asyncio
import socket
import struct
import zlib

import shared
from aiohttp import WSMsgType, web


async def get(request):
    return web.Response(text="hello\n", headers={"ETag": '"abc"', "X-Case-Of-Names": "kept"})


async def echo(request):
    body = await request.read()
    framing = request.headers.get("Transfer-Encoding") or request.headers.get("Content-Length")
    return web.Response(text=f"{request.method} {len(body)} {zlib.crc32(body):08x} {framing}\n")


async def big(request):
    return web.Response(body=shared.pattern(shared.MIB), content_type="application/octet-stream")


async def chunked(request):
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for piece in shared.pieces(shared.pattern(200_000)):
        await response.write(piece)
    return response


async def early(request):
    return web.Response(status=413, text="too large\n")


async def refuse(request):
    return web.Response(status=401, text="sign in first\n", headers={"WWW-Authenticate": 'Basic realm="test"'})


async def websocket(request):
    token, action = request.match_info["token"], request.match_info["action"]
    opened = web.WebSocketResponse(protocols=["chat.v2"], max_msg_size=0, autoping=False)
    await opened.prepare(request)
    print(token, "open", flush=True)
    ended = await converse(request, opened, action)
    print(token, "end", opened.close_code, *ended, flush=True)
    return opened


async def converse(request, opened, action):
    while True:
        message = await opened.receive()
        match message.type:
            case WSMsgType.TEXT | WSMsgType.BINARY:
                await react(request, opened, action, message.data)
            case WSMsgType.PING:
                await opened.pong(message.data)
            case WSMsgType.PONG:
                await opened.send_str("pong received")
            case WSMsgType.CLOSE:
                return message.type.name, message.extra
            case _:
                return message.type.name, opened.exception()


async def react(request, opened, action, data):
    match action:
        case "close":
            await opened.close(code=4001, message=b"closed by the server")
        case "fin" | "reset":
            if action == "reset":
                linger = struct.pack("ii", 1, 0)
                request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            request.transport.abort()
        case "ping":
            await opened.ping(b"from the server")
        case _:
            await (opened.send_str(data) if isinstance(data, str) else opened.send_bytes(data))


async def main():
    application = web.Application(client_max_size=0)
    application.router.add_get("/get", get)
    application.router.add_post("/echo", echo)
    application.router.add_get("/big", big)
    application.router.add_get("/chunked", chunked)
    application.router.add_post("/early", early)
    application.router.add_post("/limited", early)
    application.router.add_get("/{token}/refuse", refuse)
    application.router.add_get("/{token}/{action}", websocket)
    runner = web.AppRunner(application)
    await runner.setup()
    for context in (None, shared.server_tls()):
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    plain, secure = (port for _, port in runner.addresses)
    print(f"listening plain={plain} tls={secure}", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
