"""Known differences between a result through the gateway and the straight one, each with its reason."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Difference:
    """Matches results by names, as whole regexes, and by texts: `straight` is found in each text of the server alone,
    `through` in each one of the gateway. With `ignored`, the texts must be equal without what it matches."""

    title: str
    reason: str
    # Intended, a limit, a fault of a library, or an open fault of the gateway.
    sort: str
    # Whether a run may be without it.
    by_chance: bool = False
    kind: str = ".*"
    case: str = ".*"
    client: str = ".*"
    server: str = ".*"
    transport: str = ".*"
    protocol: str = ".*"
    straight: str = ""
    through: str = ""
    ignored: str = ""

    def matches(self, result):
        pair = result.pair
        names = [
            (self.kind, pair.kind),
            (self.case, result.case),
            (self.client, f"{pair.client.language} {pair.client.name}"),
            (self.server, f"{pair.server.language} {pair.server.name}"),
            (self.transport, pair.transport),
            (self.protocol, result.protocol),
        ]
        if not all(re.fullmatch(pattern, name) for pattern, name in names):
            return False
        through = set(result.through) - set(result.straight)
        if not all(re.search(self.through, text) for text in through):
            return False
        if not all(re.search(self.straight, text) for text in result.straight):
            return False
        if not self.ignored:
            return True
        without = [{re.sub(self.ignored, "", text).strip() for text in texts} for texts in (through, result.straight)]
        return without[0] <= without[1]


INTENDED, LIMIT, LIBRARY, FAULT = "intended", "limit", "library", "fault"

DIFFERENCES = [
    Difference(
        title="Close 1001 `backend gone` in place of 1006",
        reason="A client of a lost server gets a Close frame on which it reconnects, however TCP reported the end.",
        sort=INTENDED,
        kind="websocket",
        case="lost_fin|lost_reset",
        through=r"1001|(?i:going ?away)",
    ),
    Difference(
        title="Close 1001 `client gone` at the server in place of 1006",
        reason="A server whose client is lost gets a Close frame, however TCP reported the end.",
        sort=INTENDED,
        kind="websocket.*",
        case="client_lost|subprotocol",
        through=r"1001\b.*client gone",
        ignored=r"server: .*",
    ),
    Difference(
        title="An HTTP/1.1 server sees `Content-Length` or `chunked` for a body without a length",
        reason="HTTP/1.1 needs one of them where HTTP/2 needs neither.",
        sort=INTENDED,
        kind="http2|h2c",
        case="post_chunked|upload_chunked",
        protocol="http1",
        ignored=r"framing \S+|(?i:content-length): \d+",
    ),
    Difference(
        title="An HTTP/2 server sees `Content-Length` for a body without a length, by chance",
        reason="A body that has arrived before the request goes on is forwarded with its length, which some servers need.",
        sort=INTENDED,
        by_chance=True,
        kind="http2|h2c",
        case="post_chunked|upload_chunked",
        protocol="h2",
        ignored=r"framing \S+|(?i:content-length): \d+",
    ),
    Difference(
        title="413 in place of an error, or of no end",
        reason="The server stops reading or resets the stream, and the client loses the response. The gateway reads the rest of "
        "the body, so that the client sees the response.",
        sort=INTENDED,
        kind="http.*|h2c",
        case="early_.*|limited_.*",
        straight=r"error|no end|reset",
        through=r"(?s)\A(?!.*(error|no end)).*\b413\b",
    ),
    Difference(
        title="100 where the server sends none",
        reason="The gateway sends it before it needs the body, as RFC 9110 §10.1.1 demands.",
        sort=INTENDED,
        kind="http2|h2c",
        case="expect",
        through="informational 100|HTTP/2 100",
        ignored=r"(informational 100|HTTP/2 100)\n",
    ),
    Difference(
        title="No `Content-Length` of a response with trailers",
        reason="Over HTTP/1.1 the server sends a body with trailers in chunks, which have no length.",
        sort=INTENDED,
        kind="http2|h2c",
        case="trailers",
        protocol="http1",
        ignored=r"(?im)^content-length: .*\n?",
    ),
    Difference(
        title="libcurl shows the trailers of a response without `Content-Length`",
        reason="With a length it shows none. The server sends a body with trailers in chunks to the gateway.",
        sort=INTENDED,
        kind="http2|h2c",
        case="trailers",
        client="C libcurl",
        protocol="http1",
        through="x-checksum: cafe",
        ignored=r"(?im)^(content-length|x-checksum): .*\n?",
    ),
    Difference(
        title="The server sees the end, by chance",
        by_chance=True,
        reason="Over HTTP/2 hypercorn does not report the end of a WebSocket whose stream ends; over HTTP/1.1 it does.",
        sort=LIBRARY,
        kind="websocket_h2",
        through="server: 1006",
        ignored="server: .*",
    ),
    Difference(
        title="A message that has no effect, by chance",
        by_chance=True,
        reason="The server of Java-WebSocket misses a message now and then soon after its start, also without the gateway.",
        sort=LIBRARY,
        kind="websocket",
        server="Java Java-WebSocket",
        through="no end within",
    ),
]


def known(result):
    """The number of the difference in the table, from 1; 0 if it is not listed."""
    for number, difference in enumerate(DIFFERENCES, 1):
        if difference.matches(result):
            return number
    return 0
