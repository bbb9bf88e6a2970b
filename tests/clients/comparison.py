"""Runs the program of a client straight at a server and through the gateway, and compares what it prints."""

import dataclasses
import queue
import re
import subprocess
import threading
import time
import uuid

from differences import known
from endpoints import Relay
from libraries import CASES, KINDS, MAIN, PROBES, Library
from toolchains import WORK, Missing

# Seconds for a case.
LIMIT = 25
# Times that a case is repeated whose results differ, to tell chance from the gateway.
REPEATS = 3
# Cases whose connections are counted.
COUNTED = ("keep_alive",)
# Cases in which gateway and server respond with different bodies: only the status is compared.
STATUS_ONLY = ("limited_small", "limited_large")
# Kinds whose servers report what they saw.
REPORTING = ("websocket", "websocket_h2")


@dataclasses.dataclass(frozen=True)
class Pair:
    """A client at a server, over one transport."""

    client: Library
    server: Library
    kind: str
    transport: str

    def __str__(self):
        return (
            f"{self.client.language} {self.client.name} at {self.server.language} {self.server.name}: "
            f"{self.kind} over {self.transport}"
        )


@dataclasses.dataclass
class Result:
    """What a case printed: straight, and through the gateway with a protocol to the server. Several texts if they vary."""

    pair: Pair
    case: str
    protocol: str
    straight: list
    through: list
    # The number of the known difference, 0 if it is not listed, None if there is none.
    difference: int = None

    @property
    def equal(self):
        return set(self.through) <= set(self.straight)


def plan(clients, servers):
    """Every pair with its cases. Whether a client has a case is known to its program alone."""
    for kind, (_, transports) in KINDS.items():
        for server in servers:
            is_main = f"{server.language} {server.name}" == MAIN[kind]
            for client in clients:
                if kind in server.kinds and kind in client.kinds and (is_main or client.name in PROBES.get(kind, ())):
                    for transport in transports:
                        cases = [case for case in CASES[kind] if case not in server.lacks]
                        yield Pair(client, server, kind, transport), cases


def normalize(text, token, *ports):
    """Removes what differs from run to run: ports, addresses of memory, tokens."""
    text = text.replace(token, "TOKEN")
    text = re.sub(r"\b(127\.0\.0\.1|localhost|\[::1\]):\d+", "HOST:PORT", text)
    for port in ports:
        text = re.sub(rf"\b{port}\b", "PORT", text)
    text = re.sub(r"\b(localhost\.?|127\.0\.0\.1)(?![\w:])", "HOST", text)
    text = re.sub(r"HOST/HOST", "HOST", text)
    text = re.sub(r"0x[0-9a-f]{6,}|@[0-9a-f]{6,8}\b", "ADDRESS", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


class Program:
    """A running program of a client, and its lines."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=WORK
        )
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        with self.process.stdout as output:
            for line in output:
                self.lines.put(line.decode(errors="replace").rstrip("\n"))
        self.lines.put(None)

    def results(self):
        """Gives (case, lines, end) for each case: the end is empty, or says how the process ended."""
        case, lines, until = None, [], time.monotonic() + LIMIT
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                self.process.kill()
                self.process.wait()
                yield case, lines, f"no end within {LIMIT} s"
                return
            if line is not None and not line.startswith("== "):
                lines.append(line)
                continue
            status = self.process.wait() if line is None else 0
            if case is not None or status:
                yield case, lines, f"exit status {status}" if status else ""
            if line is None:
                return
            case, lines, until = line.removeprefix("== "), [], time.monotonic() + LIMIT


class Runner:
    def __init__(self, servers, gateway, commands, record=False):
        self.servers = {server.library: server for server in servers}
        self.gateway = gateway
        self.commands = commands
        self.record = record

    def run(self, pair, cases, port):
        """What the client prints at a port, for each case that its library supports."""
        apart = [[case] for case in cases if self.record or case in COUNTED]
        together = [case for case in cases if [case] not in apart]
        results = {}
        for group in [*apart, together]:
            relay = Relay(port) if group in apart else None
            left = list(group)
            while left:
                before = len(left)
                for case, text in self.run_once(pair, left, port, relay):
                    if case in left:
                        left.remove(case)
                    results[case] = text
                if len(left) == before:
                    results.update(dict.fromkeys(left, "no result"))
                    break
            if relay:
                relay.close()
        return {case: results[case] for case in cases if results[case] is not None}

    def run_once(self, pair, cases, port, relay):
        """Runs the program until it ends; cases may be left. Gives the results, None for unsupported ones."""
        token = f"t{uuid.uuid4().hex[:12]}"
        target = relay.port if relay else port
        host = "localhost" if pair.transport == "tls" else "127.0.0.1"
        reports = pair.kind in REPORTING
        scheme = ("ws" if reports else "http") + ("s" if pair.transport == "tls" else "")
        url = f"{scheme}://{host}:{target}" + (f"/{token}-{{}}" if reports else "")
        program = Program([*self.commands[pair.client], pair.kind, url, *cases])
        for case, lines, end in program.results():
            if case is None:
                raise Missing(f"its program fails: {end}")
            if lines == ["unsupported"]:
                yield case, None
                continue
            if case in STATUS_ONLY:
                lines = [re.sub(r"\b413\b.*", "413", line) for line in lines if not re.match(r"[\w-]+: |body ", line)]
            if end:
                lines.append(end)
            if reports:
                lines += [f"server: {seen}" for seen in self.servers[pair.server].ends(f"{token}-{case}")]
            if relay and case in COUNTED:
                lines.append(f"connections: {len(relay.connections)}")
            if relay and self.record:
                self.keep(pair, case, relay, port)
            yield case, normalize("\n".join(lines), f"{token}-{case}", port, target)

    def keep(self, pair, case, relay, port):
        """Writes the bytes on the wire."""
        folder = WORK / "wire"
        folder.mkdir(exist_ok=True)
        name = re.sub(r"[^\w.-]+", "-", f"{pair} {case} {port}")
        (folder / f"{name}.txt").write_text(relay.transcript())

    def compare(self, pair, cases):
        """The results of each case, for each protocol between gateway and server."""
        server = self.servers[pair.server]
        straight_port = server.port(pair.transport, "h2" if pair.kind in ("h2c", "grpc") else "http1")
        straight = {case: [text] for case, text in self.run(pair, cases, straight_port).items()}
        results = []
        for protocol in KINDS[pair.kind][1][pair.transport]:
            port = self.gateway.port(server, pair.transport, protocol)
            through = self.run(pair, list(straight), port)
            results += [Result(pair, case, protocol, straight[case], [through[case]]) for case in straight]
            for _ in range(REPEATS):
                differing = {
                    result.case: result
                    for result in results
                    if result.protocol == protocol and not result.equal and not known(result)
                }
                for case, text in self.run(pair, list(differing), straight_port).items():
                    straight[case].append(text)
                for case, text in self.run(pair, list(differing), port).items():
                    differing[case].through.append(text)
        for result in results:
            result.difference = None if result.equal else known(result)
        return results
