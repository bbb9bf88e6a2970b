"""urllib3."""

import contextlib

import shared
import urllib3


@contextlib.contextmanager
def client(url):
    def call(method, path, body=None, chunked=False, fields=None):
        data = shared.pieces(body) if chunked else body
        response = pool.request(method, url + path, body=data, headers=fields, timeout=10, retries=False)
        return response.status, response.headers.items(), response.data

    with urllib3.PoolManager(ssl_context=shared.tls()) as pool:
        yield call


shared.run({"http1": shared.http_cases(client)})
