"""requests."""

import contextlib
import os

import requests
import shared


@contextlib.contextmanager
def client(url):
    def call(method, path, body=None, chunked=False, fields=None):
        data = shared.pieces(body) if chunked else body
        response = session.request(method, url + path, data=data, headers=fields, timeout=10)
        return response.status_code, response.raw.headers.items(), response.content

    with requests.Session() as session:
        session.verify = os.environ["CA"]
        session.trust_env = False
        yield call


shared.run({"http1": shared.http_cases(client)})
