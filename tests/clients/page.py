"""The tables of docs/compatibility.md. Each follows its marker; the prose around them is written by hand."""

import collections
import re

from differences import DIFFERENCES
from libraries import CASES, CLIENTS, KINDS, SERVERS
from toolchains import ROOT, version

PAGE = ROOT / "docs/compatibility.md"


def table(head, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def row(library, role, results):
    """A library in one role: version, kinds, results, known differences."""
    used = collections.Counter(result.difference for result in results if result.difference)
    differences = ", ".join(f"{number} ({times})" for number, times in sorted(used.items()))
    kinds = ", ".join(KINDS[kind][0] for kind in KINDS if any(result.pair.kind == kind for result in results))
    equal = sum(result.equal for result in results)
    return [library.language, library.name, version(library), role, kinds, len(results), equal, differences]


def libraries(results, skipped):
    rows = []
    for role, group in (("client", CLIENTS), ("server", SERVERS)):
        for library in group:
            own = [result for result in results if getattr(result.pair, role) == library]
            if own:
                rows.append(row(library, role, own))
            elif library in skipped:
                rows.append([library.language, library.name, "", role, "skipped", "", "", ""])
    return table(["language", "library", "version", "role", "protocols", "results", "equal", "differences"], rows)


def differences(results):
    rows = []
    for number, difference in enumerate(DIFFERENCES, 1):
        found = [result for result in results if result.difference == number]
        cases = ", ".join(f"`{case}`" for case in dict.fromkeys(result.case for result in found))
        rows.append([number, difference.title, cases or "none in this run", len(found), difference.sort, difference.reason])
    return table(["number", "through the gateway", "cases", "results", "sort", "reason"], rows)


def unlisted(results):
    return sum(result.difference == 0 for result in results)


def summary(results, skipped):
    languages = list(dict.fromkeys(library.language for library in CLIENTS))
    rows = []
    for language in languages:
        own = [result for result in results if result.pair.client.language == language]
        names = {
            library.name for result in results for library in (result.pair.client, result.pair.server) if library.language == language
        }
        known = sum(bool(result.difference) for result in own)
        rows.append([language, len(names), len(own), sum(result.equal for result in own), known, unlisted(own)])
    total = [sum(values) for values in list(zip(*rows))[1:]]
    rows.append(["all", *total])
    return table(["language", "libraries", "results", "equal", "known difference", "other difference"], rows)


def cases():
    rows = []
    same = [(kinds, CASES[kinds[0]]) for kinds in (("websocket",), ("socketio",), ("http1", "http2", "h2c"), ("grpc",))]
    for kinds, group in same:
        name = ", ".join(KINDS[kind][0] for kind in kinds)
        rows += [[name, f"`{case}`", text] for case, text in group.items()]
    return table(["protocol", "case", "what happens"], rows)


def write(results, skipped):
    """Replaces the tables of the page."""
    text = PAGE.read_text()
    tables = {
        "summary": summary(results, skipped),
        "libraries": libraries(results, skipped),
        "differences": differences(results),
        "cases": cases(),
    }
    for name, content in tables.items():
        marker = f"<!-- clients: {name} -->"
        pattern = re.escape(marker) + r"\n*(\|[^\n]*\n)*\n*"
        text, found = re.subn(pattern, lambda _: f"{marker}\n\n{content}\n\n", text)
        if found != 1:
            raise ValueError(f"{PAGE} has no {marker}")
    PAGE.write_text(text.rstrip() + "\n")
