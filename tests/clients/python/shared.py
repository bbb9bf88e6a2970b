"""What the programs of Python's libraries share: test data, TLS, the cases of HTTP, and the form of results."""

import os
import ssl
import sys
import zlib

MIB = 1 << 20
TEXT = "0123456789abcdef" * (MIB // 16)


def pattern(size):
    """Bytes whose order is not that of a counter; they repeat every 64 KiB."""
    block = bytes((i * 31 + (i >> 8)) & 255 for i in range(min(size, 65536)))
    return (block * (size // 65536 + 1))[:size]


def tls(*protocols):
    context = ssl.create_default_context(cafile=os.environ["CA"])
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def server_tls(*protocols):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["CERT"], os.environ["KEY"])
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def digest(data):
    return f"{len(data)} bytes {zlib.crc32(data):08x}"


def content(body):
    """A short body as text, a long one as a digest."""
    return body.decode().rstrip() if len(body) < 100 else digest(body)


def describe(error):
    return f"{type(error).__name__}: {error}"


def run(kinds):
    """Runs `PROGRAM KIND URL CASE...`. Each result follows a line with the case; `{}` in the URL becomes the case."""
    kind, url, *cases = sys.argv[1:]
    for case in cases:
        print("==", case, flush=True)
        function = kinds[kind].get(case)
        if function is None:
            print("unsupported", flush=True)
            continue
        try:
            function(url.replace("{}", case))
        except Exception as error:  # The error is the result.
            print("error", describe(error))
        sys.stdout.flush()


def show(response):
    """Prints (status, fields, body, trailers)."""
    status, fields, body, *trailers = response
    print(status)
    for name, value in sorted(fields, key=lambda field: (field[0].lower(), field[1])):
        if name.lower() not in ("date", "connection", "keep-alive"):
            print(f"{name}: {value}")
    print("body", content(body))
    for name, value in sorted(trailers[0] if trailers else []):
        print(f"trailer {name}: {value}")


def http_cases(open_client, trailers=False, expect=True):
    """The cases over `open_client(url)`, a context manager that gives `call(method, path, body, chunked, fields)`."""

    def case(*calls):
        def function(url):
            with open_client(url) as call:
                for method, path, *rest in calls:
                    show(call(method, path, *([rest[0]()] if rest else []), *rest[1:]))

        return function

    def small():
        return b"a small body"

    def middle():
        return pattern(65536)

    def large():
        return pattern(MIB)

    def huge():
        return pattern(8 * MIB)

    cases = {
        "get": case(("GET", "/get")),
        "head": case(("HEAD", "/get")),
        "post_length": case(("POST", "/echo", small)),
        "post_chunked": case(("POST", "/echo", small, True)),
        "keep_alive": case(("GET", "/get"), ("POST", "/echo", small), ("HEAD", "/get"), ("GET", "/chunked")),
        "expect": case(("POST", "/echo", middle, False, {"Expect": "100-continue"})),
        "upload": case(("POST", "/echo", large)),
        "upload_chunked": case(("POST", "/echo", large, True)),
        "download": case(("GET", "/big"), ("GET", "/chunked")),
        "early_small": case(("POST", "/early", middle)),
        "early_large": case(("POST", "/early", huge)),
        "limited_small": case(("POST", "/limited", middle)),
        "limited_large": case(("POST", "/limited", huge)),
    }
    if trailers:
        cases["trailers"] = case(("GET", "/trailers"))
    if not expect:
        del cases["expect"]
    return cases


def pieces(body):
    """A body without a length: an iterator of pieces."""
    return iter([body[start : start + 16384] for start in range(0, len(body), 16384)])
