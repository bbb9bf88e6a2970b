"""niquests with urllib3.future: HTTP/1.1, HTTP/2, and WebSockets over both (RFC 8441 with a key)."""

import contextlib
import functools
import os

import niquests
import shared


@contextlib.contextmanager
def client(url, version):
    def call(method, path, body=None, chunked=False, fields=None):
        data = shared.pieces(body) if chunked else body
        response = session.request(method, url + path, data=data, headers=fields, timeout=10)
        trailers = list(response.trailers.items()) if response.trailers else []
        return f"{response.http_version} {response.status_code}", response.headers.items(), response.content, trailers

    with niquests.Session(
        disable_http1=version == 2, disable_http2=version == 1, disable_http3=True
    ) as session:
        session.verify = os.environ["CA"]
        session.trust_env = False
        yield call


@contextlib.contextmanager
def websocket(url):
    """A WebSocket over HTTP/2. Its CONNECT has a Sec-WebSocket-Key, as over HTTP/1.1."""
    with niquests.Session(disable_http1=True, disable_http3=True) as session:
        session.verify = os.environ["CA"]
        session.trust_env = False
        response = session.get(url.replace("wss://", "wss+rfc8441://"), timeout=10)
        accepted = "sec-websocket-accept" in response.headers
        print(response.http_version, response.status_code, "accept" if accepted else "no accept")
        if response.extension is None:
            print(response.headers.get("www-authenticate"), response.content)
        yield response.extension


def echo(url):
    with websocket(url + "/echo") as opened:
        for data in ("", "héllo wörld ☃", bytes(range(256)), shared.TEXT, shared.pattern(shared.MIB)):
            opened.send_payload(data)
            print(type(data).__name__, len(data), "same" if opened.next_payload() == data else "different")
        opened.close()


def client_close(url):
    with websocket(url + "/echo") as opened:
        opened.send_payload("hello")
        print(opened.next_payload())
        opened.close()


def server_close(url):
    with websocket(url + "/close") as opened:
        opened.send_payload("end")
        print(opened.next_payload())


def refused(url):
    with websocket(url + "/refuse"):
        pass


cases = {
    version: shared.http_cases(functools.partial(client, version=version), trailers=version == 2) for version in (1, 2)
}
websockets = {"echo": echo, "client_close": client_close, "server_close": server_close, "refused": refused}
shared.run({"http1": cases[1], "http2": cases[2], "websocket_h2": websockets})
