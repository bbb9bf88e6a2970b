"""http.client of Python's standard library."""

import contextlib
import http.client
from urllib.parse import urlsplit

import shared


@contextlib.contextmanager
def client(url):
    parts = urlsplit(url)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.netloc, context=shared.tls(), timeout=10)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)

    def call(method, path, body=None, chunked=False, fields=None):
        data = shared.pieces(body) if chunked else body
        connection.request(method, path, data, fields or {}, encode_chunked=chunked)
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()

    with contextlib.closing(connection):
        yield call


shared.run({"http1": shared.http_cases(client)})
