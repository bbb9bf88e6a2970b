"""grpcio. Messages are bytes, so that no code is generated."""

import os

import grpc
import shared

PATH = "/test.Calls/"
LARGE = [("grpc.max_receive_message_length", -1)]


def calling(function):
    def case(url):
        scheme, address = url.split("://")
        if scheme == "https":
            with open(os.environ["CA"], "rb") as file:
                credentials = grpc.ssl_channel_credentials(file.read())
            channel = grpc.secure_channel(address, credentials, LARGE)
        else:
            channel = grpc.insecure_channel(address, LARGE)
        with channel:
            try:
                function(channel)
            except grpc.RpcError as error:
                # Which side ends a call after its deadline is chance.
                late = error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
                print(error.code().name, "" if late else error.details())
                if not late:
                    metadata(error)

    return case


def metadata(call):
    for kind, fields in (("initial", call.initial_metadata()), ("trailing", call.trailing_metadata())):
        for name, value in sorted(fields or ()):
            # The gateway adds a missing Date (RFC 9110 §6.6.1).
            if name != "date":
                print(kind, name, value)


def unary(channel, method, data, **options):
    answer, call = channel.unary_unary(PATH + method).with_call(data, **options)
    print(shared.digest(answer), call.code().name)
    metadata(call)


def server_stream(channel):
    call = channel.unary_stream(PATH + "Count")(b"5")
    print([answer.decode() for answer in call], call.code().name)
    metadata(call)


def client_stream(channel):
    answer, call = channel.stream_unary(PATH + "Sum").with_call(iter([b"1", b"22", b"333"]))
    print(answer.decode(), call.code().name)


def bidi(channel):
    answers = iter(call := channel.stream_stream(PATH + "Chat")(b"message %d" % i for i in range(5)))
    print([answer.decode() for answer in answers], call.code().name)


shared.run(
    {
        "grpc": {
            "unary": calling(lambda channel: unary(channel, "Echo", b"hello")),
            "metadata": calling(
                lambda channel: unary(channel, "Metadata", b"", metadata=[("x-text", "value"), ("x-bytes-bin", b"\0\xff")])
            ),
            "large": calling(lambda channel: unary(channel, "Echo", shared.pattern(shared.MIB))),
            "server_stream": calling(server_stream),
            "client_stream": calling(client_stream),
            "bidi": calling(bidi),
            "error": calling(lambda channel: unary(channel, "Fail", b"")),
            "unimplemented": calling(lambda channel: unary(channel, "Missing", b"")),
            "deadline": calling(lambda channel: unary(channel, "Wait", b"", timeout=0.3)),
        }
    }
)
