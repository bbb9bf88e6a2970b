"""httpx, over HTTP/1.1 and over HTTP/2 (h2)."""

import contextlib
import functools

import httpx
import shared


@contextlib.contextmanager
def client(url, version):
    def call(method, path, body=None, chunked=False, fields=None):
        data = shared.pieces(body) if chunked else body
        response = session.request(method, url + path, content=data, headers=fields)
        names = [(name.decode(), value.decode()) for name, value in response.headers.raw]
        return f"{response.http_version} {response.status_code}", names, response.content

    with httpx.Client(
        verify=shared.tls(), http1=version == 1, http2=version == 2, timeout=10, trust_env=False
    ) as session:
        yield call


http2 = shared.http_cases(functools.partial(client, version=2))
shared.run({"http1": shared.http_cases(functools.partial(client, version=1)), "http2": http2, "h2c": http2})
