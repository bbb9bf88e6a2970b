"""grpcio's server. Messages are bytes, so that no code is generated."""

import os
from concurrent import futures

import grpc


def echo(request, context):
    context.send_initial_metadata([("x-initial", "first")])
    context.set_trailing_metadata([("x-trailing", "last")])
    return request


def metadata(request, context):
    fields = [(name, value) for name, value in context.invocation_metadata() if name.startswith("x-") and "forward" not in name]
    context.set_trailing_metadata(sorted(fields))
    return b"seen"


def fail(request, context):
    context.set_trailing_metadata([("x-trailing", "last"), ("x-bytes-bin", b"\0\xff")])
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: ☃ 100%")


def wait(request, context):
    finished = futures.Future()
    context.add_callback(lambda: finished.set_result(None))
    finished.result(10)
    return b""


def count(request, context):
    context.set_trailing_metadata([("x-trailing", "last")])
    for i in range(int(request)):
        yield b"%d" % i


def total(requests, context):
    return b"%d" % sum(int(request) for request in requests)


def chat(requests, context):
    for request in requests:
        yield b"re: " + request


handlers = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Metadata": grpc.unary_unary_rpc_method_handler(metadata),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Sum": grpc.stream_unary_rpc_method_handler(total),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
}
server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)])
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Calls", handlers)])
with open(os.environ["CERT"], "rb") as cert, open(os.environ["KEY"], "rb") as key:
    credentials = grpc.ssl_server_credentials([(key.read(), cert.read())])
plain = server.add_insecure_port("127.0.0.1:0")
secure = server.add_secure_port("127.0.0.1:0", credentials)
server.start()
print(f"listening plain={plain} tls={secure} h2c={plain}", flush=True)
server.wait_for_termination()
