"""The libraries that are compared, what each of them is, and the cases."""

import dataclasses

# kind: (title, the transports, for each transport the protocols of the gateway to the server)
KINDS = {
    "websocket": ("WebSocket", {"plain": ["http1"], "tls": ["http1"]}),
    "websocket_h2": ("WebSocket over HTTP/2", {"tls": ["http1"]}),
    "socketio": ("Socket.IO", {"plain": ["http1"], "tls": ["http1"]}),
    "http1": ("HTTP/1.1", {"plain": ["http1"], "tls": ["http1"]}),
    "http2": ("HTTP/2", {"tls": ["h2", "http1"]}),
    "h2c": ("HTTP/2 without TLS", {"plain": ["h2", "http1"]}),
    "grpc": ("gRPC", {"plain": ["h2"], "tls": ["h2"]}),
}

HTTP = {
    "get": "GET with fields of every sort",
    "head": "HEAD",
    "post_length": "POST with a length",
    "post_chunked": "POST without a length: chunked over HTTP/1.1",
    "keep_alive": "four requests in a row, and the number of connections that they take",
    "expect": "POST of 64 KiB with `Expect: 100-continue`",
    "upload": "POST of 1 MiB",
    "upload_chunked": "POST of 1 MiB without a length",
    "download": "responses of 1 MiB with a length, and of 200 kB without",
    "early_small": "413 of the server before it reads the 64 KiB of the request",
    "early_large": "the same with 8 MiB",
    "limited_small": "413 that the gateway sends (`body_limit`), compared with that of the server, for 64 KiB",
    "limited_large": "the same with 8 MiB",
    "trailers": "a response with trailers",
}
WEBSOCKET = {
    "echo": "five messages, text and binary, from 0 bytes to 1 MiB, and Close 1000",
    "fragments": "messages in several frames, in both directions where the library can send them",
    "subprotocol": "a choice of subprotocols, and extensions",
    "ping": "pings of the client and of the server",
    "client_close": "Close 3001 with a reason from the client",
    "server_close": "Close 4001 with a reason from the server",
    "lost_fin": "the server ends the connection without Close",
    "lost_reset": "the server resets the connection",
    "client_lost": "the client exits without Close",
    "refused": "a handshake that gets 401, with its body",
}
CASES = {
    "websocket": WEBSOCKET,
    "websocket_h2": {name: WEBSOCKET[name] for name in ("echo", "client_close", "server_close", "refused")},
    "socketio": {
        "websocket": "events and acknowledgements over a WebSocket",
        "polling": "the same over long polling",
        "upgrade": "long polling that becomes a WebSocket",
        "disconnect": "the server disconnects",
    },
    "http1": HTTP,
    "http2": HTTP,
    "h2c": HTTP,
    "grpc": {
        "unary": "one message, with metadata before and after it",
        "metadata": "metadata of the client, text and binary",
        "large": "1 MiB in both directions",
        "server_stream": "five messages from the server",
        "client_stream": "three messages to the server",
        "bidi": "five messages in both directions",
        "error": "NOT_FOUND with details beyond ASCII",
        "unimplemented": "an unknown method",
        "deadline": "a deadline of 300 ms",
    },
}


@dataclasses.dataclass(frozen=True)
class Library:
    """A client or a server library: one program of this folder."""

    name: str
    language: str
    # The name under which the toolchain knows it, for its version.
    package: str
    program: str
    kinds: tuple
    # Debian's packages that its build needs, and options of the compiler.
    debian: tuple = ()
    options: tuple = ()
    # Cases that a server cannot serve.
    lacks: tuple = ()


def libraries(language, *rows):
    return [Library(row[0], language, row[1], row[2], tuple(row[3].split()), *row[4:]) for row in rows]


def server(name, package, program, kinds, lacks=""):
    return name, package, program, kinds, (), (), tuple(lacks.split())


CLIENTS = [
    *libraries(
        "Python",
        ("http.client", "", "stdlib_http", "http1"),
        ("requests", "requests", "requests_client", "http1"),
        ("urllib3", "urllib3", "urllib3_client", "http1"),
        ("httpx", "httpx", "httpx_client", "http1 http2 h2c"),
        ("niquests", "niquests", "niquests_client", "http1 http2 websocket_h2"),
        ("aiohttp", "aiohttp", "aiohttp_client", "http1 websocket"),
        ("websockets", "websockets", "websockets_client", "websocket"),
        ("websocket-client", "websocket-client", "websocket_client_client", "websocket"),
        ("grpcio", "grpcio", "grpcio_client", "grpc"),
    ),
    *libraries(
        "Node",
        ("http", "", "http_client", "http1"),
        ("http2", "", "http2_client", "http2 h2c"),
        ("undici", "undici", "undici_client", "http1 http2 websocket"),
        ("got", "got", "got_client", "http1 http2"),
        ("axios", "axios", "axios_client", "http1"),
        ("ws", "ws", "ws_client", "websocket"),
        ("websocket", "websocket", "websocket_client", "websocket"),
        ("socket.io-client", "socket.io-client", "socketio_client", "socketio"),
        ("grpc-js", "@grpc/grpc-js", "grpc_client", "grpc"),
    ),
    *libraries(
        "Go",
        ("net/http", "", "nethttp_client", "http1 http2 h2c"),
        ("fasthttp", "github.com/valyala/fasthttp", "fasthttp_client", "http1"),
        ("gorilla/websocket", "github.com/gorilla/websocket", "gorilla_client", "websocket"),
        ("coder/websocket", "github.com/coder/websocket", "coder_client", "websocket"),
        ("gobwas/ws", "github.com/gobwas/ws", "gobwas_client", "websocket"),
        ("grpc-go", "google.golang.org/grpc", "grpc_client", "grpc"),
    ),
    *libraries(
        "Java",
        ("java.net.http", "", "JdkClient", "http1 http2 websocket"),
        ("OkHttp", "com.squareup.okhttp3:okhttp", "OkHttp", "http1 http2 h2c websocket"),
        ("Java-WebSocket", "org.java-websocket:Java-WebSocket", "JavaWebSocketClient", "websocket"),
        ("grpc-java", "io.grpc:grpc-netty-shaded", "GrpcClient", "grpc"),
    ),
    *libraries(
        "Rust",
        ("reqwest", "reqwest", "reqwest_client", "http1 http2 h2c"),
        ("ureq", "ureq", "ureq_client", "http1"),
        ("tokio-tungstenite", "tokio-tungstenite", "tungstenite_client", "websocket"),
        ("fastwebsockets", "fastwebsockets", "fastwebsockets_client", "websocket"),
        ("tonic", "tonic", "tonic_client", "grpc"),
    ),
    *libraries(
        "C",
        (
            "libcurl",
            "libcurl4",
            "libcurl_client",
            "http1 http2 h2c",
            ("libcurl4-openssl-dev", "zlib1g-dev"),
            ("-lcurl", "-lz"),
        ),
        (
            "libwebsockets",
            "libwebsockets-dev",
            "libwebsockets_client",
            "websocket",
            ("libwebsockets-dev", "libssl-dev", "zlib1g-dev"),
            ("-lwebsockets", "-lz"),
        ),
        ("nghttp2", "nghttp2-client", "nghttp2_client", "http2 h2c", ("nghttp2-client",)),
    ),
    *libraries(
        "C++",
        (
            "Boost.Beast",
            "libboost-dev",
            "beast_client",
            "http1 websocket",
            ("libboost-dev", "libssl-dev", "zlib1g-dev"),
            ("-lssl", "-lcrypto", "-lz", "-pthread"),
        ),
        (
            "WebSocket++",
            "libwebsocketpp-dev",
            "websocketpp_client",
            "websocket",
            ("libwebsocketpp-dev", "libboost-dev", "libssl-dev", "zlib1g-dev"),
            ("-lssl", "-lcrypto", "-lz", "-pthread"),
        ),
        (
            "gRPC C++",
            "libgrpc++-dev",
            "grpcpp_client",
            "grpc",
            ("libgrpc++-dev", "zlib1g-dev", "pkg-config"),
            ("-Wl,--copy-dt-needed-entries", "-lgrpc++", "-lgrpc", "-lgpr", "-lz", "-pthread"),
        ),
    ),
]

SERVERS = [
    *libraries(
        "Node",
        server("ws", "ws", "ws_server", "websocket"),
        server("http and http2", "", "http_server", "http1 http2 h2c"),
        server("socket.io", "socket.io", "socketio_server", "socketio"),
    ),
    *libraries(
        "Python",
        server("websockets", "websockets", "websockets_server", "websocket"),
        server("aiohttp", "aiohttp", "aiohttp_server", "websocket http1", "fragments trailers"),
        server(
            "hypercorn",
            "hypercorn",
            "hypercorn_server",
            "websocket websocket_h2 http1 http2 h2c",
            "fragments ping lost_fin lost_reset trailers",
        ),
        server("grpcio", "grpcio", "grpcio_server", "grpc"),
    ),
    *libraries(
        "Go",
        server("gorilla/websocket", "github.com/gorilla/websocket", "gorilla_server", "websocket"),
        server("net/http", "", "nethttp_server", "http1 http2 h2c"),
        server("grpc-go", "google.golang.org/grpc", "grpc_server", "grpc"),
    ),
    *libraries(
        "Java",
        server(
            "Java-WebSocket",
            "org.java-websocket:Java-WebSocket",
            "JavaWebSocketServer",
            "websocket",
            "fragments lost_reset",
        ),
    ),
    *libraries(
        "Rust",
        server("tokio-tungstenite", "tokio-tungstenite", "tungstenite_server", "websocket"),
    ),
]
# The server of a kind that serves every client of that kind; each other one serves the clients of PROBES.
MAIN = {
    "websocket": "Node ws",
    "websocket_h2": "Python hypercorn",
    "socketio": "Node socket.io",
    "http1": "Node http and http2",
    "http2": "Go net/http",
    "h2c": "Go net/http",
    "grpc": "Python grpcio",
}
PROBES = {
    "websocket": ("websockets", "gorilla/websocket"),
    "http1": ("http.client", "net/http"),
    "http2": ("net/http", "libcurl"),
    "h2c": ("net/http", "libcurl"),
    "grpc": ("grpcio", "grpc-go"),
}
