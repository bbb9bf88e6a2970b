"""nghttp, the client of nghttp2. Its log is the result."""

import re
import subprocess
import sys
import tempfile
import zlib

REQUESTS = {
    "get": ("/get", None),
    "head": ("/get", None, "--header", ":method: HEAD"),
    "post_length": ("/echo", b"a small body"),
    "post_chunked": ("/echo", b"a small body", "--no-content-length"),
    "expect": ("/echo", 65536, "--expect-continue"),
    "upload": ("/echo", 1 << 20),
    "upload_chunked": ("/echo", 1 << 20, "--no-content-length"),
    "early_small": ("/early", 65536),
    "early_large": ("/early", 8 << 20),
    "limited_small": ("/limited", 65536),
    "limited_large": ("/limited", 8 << 20),
    "trailers": ("/trailers", None),
}


def request(url, path, body, *options):
    with tempfile.NamedTemporaryFile() as file:
        if body is not None:
            block = bytes((i * 31 + (i >> 8)) & 255 for i in range(65536))
            file.write(body if isinstance(body, bytes) else block * (body // 65536))
            file.flush()
            options = (*options, "--data", file.name)
        command = ["nghttp", "--timeout=10", *options]
        body_only = subprocess.run([*command, url + path], capture_output=True, check=False).stdout
        log = subprocess.run(
            [*command, "--verbose", "--null-out", "--no-verify-peer", url + path], capture_output=True, text=True, check=False
        ).stdout
    heads = re.findall(r"recv \(stream_id=\d+(?:, sensitive)?\) ([^\n]*)", re.sub(r"\x1b\[[\d;]*m", "", log))
    statuses = [line for line in heads if line.startswith(":status")]
    fields = [line for line in heads if not line.startswith((":status", "date:"))]
    for line in [*statuses, *sorted(fields)]:
        print(line)
    for reset in re.findall(r"recv RST_STREAM .*\n.*error_code=(\w+)", log):
        # A reset without an error after the response is a way to refuse the rest of a body.
        if reset != "NO_ERROR":
            print("reset", reset)
    short = len(body_only) < 100
    print("body", body_only.decode().rstrip() if short else f"{len(body_only)} bytes {zlib.crc32(body_only):08x}")


def main():
    _, url, *cases = sys.argv[1:]
    for case in cases:
        print("==", case, flush=True)
        if case in REQUESTS:
            request(url, *REQUESTS[case])
        else:
            print("unsupported")
        sys.stdout.flush()


main()
