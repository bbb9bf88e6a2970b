"""The servers, the gateway in front of them, their certificates, and a relay that counts connections."""

import contextlib
import os
import re
import socket
import struct
import subprocess
import threading
import time

from libraries import KINDS
from toolchains import ROOT, WORK

TRANSPORTS = ("plain", "tls")
START = 30


def certificates():
    """A certificate authority, and a certificate for localhost."""
    folder = WORK / "tls"
    folder.mkdir(exist_ok=True)
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    quiet = {"stderr": subprocess.DEVNULL, "cwd": folder, "check": True}
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run([*new, "-x509", "-days", "3", "-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca.pem"], **quiet)
    subprocess.run([*new, "-subj", "/CN=localhost", "-addext", names, "-keyout", "key.pem", "-out", "request.pem"], **quiet)
    sign = ["openssl", "x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
    subprocess.run([*sign, "-copy_extensions", "copy", "-days", "2", "-out", "cert.pem"], **quiet)
    os.environ.update(
        CA=str(folder / "ca.pem"), CERT=str(folder / "cert.pem"), KEY=str(folder / "key.pem"), NO_COLOR="1", NO_PROXY="*"
    )


class Process:
    """A process that runs until the end, and its log."""

    def __init__(self, name, command):
        self.name = name
        self.log = WORK / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )

    def find(self, pattern, limit=START):
        """Waits for a match in the log."""
        until = time.monotonic() + limit
        while time.monotonic() < until:
            if found := re.search(pattern, self.log.read_text(errors="replace")):
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} is not ready, see {self.log.relative_to(ROOT)}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Server(Process):
    """A program of a server library."""

    def __init__(self, library, command):
        self.library = library
        self.id = f"{library.program}"
        super().__init__(self.id, command)
        line = self.find(r"listening (.*)\n")[1]
        self.ports = {name: int(port) for name, port in (part.split("=") for part in line.split())}

    def ends(self, token, limit=5):
        """What the server saw of the WebSockets of a test, after they have ended."""
        until = time.monotonic() + limit
        while True:
            lines = re.findall(rf"^{token} (\w+) ?(.*)$", self.log.read_text(errors="replace"), re.MULTILINE)
            ended = [rest for event, rest in lines if event == "end"]
            if len(ended) >= len(lines) - len(ended) or time.monotonic() > until:
                open_still = len(lines) - 2 * len(ended)
                return [*ended, *["still open"] * open_still]
            time.sleep(0.02)

    def port(self, transport, protocol):
        """The port for a transport; without TLS, HTTP/2 may have one of its own."""
        return self.ports["h2c"] if (transport, protocol) == ("plain", "h2") else self.ports[transport]


def protocols(server, transport):
    """The protocols that the upstreams of a server have."""
    transports = [KINDS[kind][1] for kind in server.library.kinds]
    return sorted({protocol for kind in transports for protocol in kind.get(transport, [])})


def configuration(servers):
    """The gateway's configuration: a listener and an upstream for each server, transport and protocol of the upstream."""
    listeners, upstreams, routes = [], [], []
    identity = f"certificates: [{{ cert: {os.environ['CERT']}, key: {os.environ['KEY']} }}]"
    accepts = {"plain": "protocols: [http1, h2c]", "tls": f"tls: {{ {identity} }}"}
    reached = {"plain": "", "tls": f", tls: {{ ca: {os.environ['CA']}, sni: localhost }}"}
    for server in servers:
        for transport in TRANSPORTS:
            for protocol in protocols(server, transport):
                name = f"{server.id}-{transport}-{protocol}"
                spoken = {"http1": "http1", "h2": "h2" if transport == "tls" else "h2c"}[protocol]
                address = f"127.0.0.1:{server.port(transport, protocol)}"
                listeners.append(f"  - {{ name: {name}, address: 127.0.0.1:0, {accepts[transport]} }}")
                upstreams.append(f"  {name}: {{ endpoints: [{address}], protocol: {spoken}{reached[transport]} }}")
                routes.append(f"  - {{ name: {name}, listeners: [{name}], upstream: {name} }}")
                limit = "plugins: [{ kind: body_limit, max_size: 1KiB }]"
                routes.append(
                    f'  - {{ name: {name}-limited, listeners: [{name}], path: "=/limited", upstream: {name}, {limit} }}'
                )
    log = f"access_log: {{ path: {WORK / 'access.log'} }}"
    return "\n".join(["listeners:", *listeners, "upstreams:", *upstreams, log, "routes:", *routes, ""])


class Gateway(Process):
    def __init__(self, binary, servers):
        path = WORK / "moongate.yaml"
        path.write_text(configuration(servers))
        super().__init__("moongate", [binary, "run", "-c", path])

    def port(self, server, transport, protocol):
        return int(self.find(rf"name={server.id}-{transport}-{protocol} address=127\.0\.0\.1:(\d+)")[1])


class Relay:
    """Forwards connections to a port, counts them, and keeps their bytes. A reset is forwarded as a reset."""

    def __init__(self, port):
        self.target = port
        self.connections = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                record = []
                self.connections.append(record)
                for source, sink, direction in ((client, server, ">"), (server, client, "<")):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self.pump, args=(source, sink, direction, record), daemon=True).start()

    @staticmethod
    def pump(source, sink, direction, record):
        try:
            while data := source.recv(65536):
                record.append((direction, data))
                sink.sendall(data)
            record.append((direction, "FIN"))
            sink.shutdown(socket.SHUT_WR)
        except OSError as error:
            record.append((direction, type(error).__name__))
            for side in (source, sink):
                with contextlib.suppress(OSError):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    side.close()

    def transcript(self):
        """The bytes of every connection, in order, long ones shortened."""
        lines = []
        for number, record in enumerate(self.connections):
            lines.append(f"connection {number}")
            for direction, data in record:
                text = data if isinstance(data, str) else repr(data[:600]) + (f" of {len(data)}" if len(data) > 600 else "")
                lines.append(f"{direction} {text}")
        return "\n".join(lines) + "\n"

    def close(self):
        self.listener.close()
