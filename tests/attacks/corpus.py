"""The corpus of attacks: which are known, what OWASP calls them, and which tests show that they fail.

Rows 2.1/n are kinds of attack, rows 2.2/n published faults of other hubs, gateways and SDKs. A test says which rows it covers by
`@pytest.mark.attack("2.1/3", "2.2/29")`; docs/security.md is written from that by `make tables`. `defence="module:name"` says without which
defence it must fail.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1]
GROUPS = {
    "MCP01": "Token mismanagement and secret exposure",
    "MCP02": "Privilege escalation via scope creep",
    "MCP03": "Tool poisoning",
    "MCP04": "Software supply chain attacks and dependency tampering",
    "MCP05": "Command injection and execution",
    "MCP06": "Intent flow subversion",
    "MCP07": "Insufficient authentication and authorization",
    "MCP08": "Lack of audit and telemetry",
    "MCP09": "Shadow MCP servers",
    "MCP10": "Context injection and over-sharing",
    "other": "Not in OWASP's list: requests that lead elsewhere, and exhaustion",
}
"""The OWASP MCP Top 10 (2025), and what it has no name for."""

KINDS: list[tuple[str, str]] = [
    ("SSRF through a registered URL", "other"),
    ("SSRF by redirect", "other"),
    ("SSRF by DNS rebinding between check and connect", "other"),
    ("SSRF by other spellings of an address", "other"),
    ("DNS rebinding against the hub: foreign Host or Origin", "MCP07"),
    ("Host and path confusion", "MCP07"),
    ("tool poisoning: hidden instructions in descriptions and schemas", "MCP03"),
    ("hidden Unicode, ANSI, zero-width, bidirectional and tag characters", "MCP03"),
    ("rug pull: a tool or agent that changes after its approval", "MCP03"),
    ("tool shadowing, colliding names", "MCP09"),
    ("prompt injection in results of tools and agents", "MCP06"),
    ("exfiltration of secrets in arguments and results", "MCP01"),
    ("access to servers and tools of another tenant", "MCP10"),
    ("access to A2A tasks of another tenant", "MCP10"),
    ("session of another principal or path", "MCP07"),
    ("listed is not what is callable", "MCP02"),
    ("confused deputy in OAuth", "MCP07"),
    ("token passthrough, audience confusion", "MCP01"),
    ("SSRF and false origin by OAuth metadata, jku, jwks_uri", "other"),
    ("secrets at rest", "MCP01"),
    ("secrets in logs, traces, URLs, error texts", "MCP01"),
    ("header injection, request smuggling", "MCP05"),
    ("Mcp-* header that contradicts its body", "MCP07"),
    ("requests without bound", "other"),
    ("policy that sees a truncated body", "MCP02"),
    ("decompression bomb", "other"),
    ("JSON bomb: depth, width, numbers, duplicate members", "other"),
    ("schema bomb", "other"),
    ("ReDoS", "other"),
    ("endless, slow or huge answers of an upstream", "other"),
    ("stdio command injection", "MCP05"),
    ("child process that escapes or is left behind", "MCP05"),
    ("egress of servers", "other"),
    ("SQL, template and expression injection", "MCP05"),
    ("XSS by texts of an upstream", "MCP05"),
    ("CSRF and cross-origin requests to the admin API", "MCP07"),
    ("failing open when keys or policy cannot be read", "MCP07"),
    ("colliding request ids: an answer for somebody else", "MCP10"),
    ("abuse of push notifications", "other"),
    ("forged or unsigned agent card, jku as root of trust", "MCP04"),
    ("loops and runaway cost", "other"),
    ("poisoned dependency or release", "MCP04"),
]
FAULTS: list[tuple[str, str]] = [
    ("CVE-2026-42271: a test of a connection starts a caller's command", "MCP05"),
    ("CVE-2026-30623: a server made over the API starts a command", "MCP05"),
    ("CVE-2026-42208: SQL injection in the check of a key", "MCP05"),
    ("CVE-2026-49468, CVE-2026-48710: authentication bypassed by Host", "MCP07"),
    ("CVE-2026-42203: template injection", "MCP05"),
    ("CVE-2026-35030: cache key of a token is its beginning", "MCP07"),
    ("CVE-2026-35029: privilege escalation through configuration routes", "MCP02"),
    ("CVE-2026-40217, CVE-2026-47101, CVE-2026-47102: code of users, mass assignment", "MCP02"),
    ("CVE-2026-12798: SSRF in a loader of OpenAPI documents", "other"),
    ("CVE-2026-12773: failed authentication goes on as somebody", "MCP07"),
    ("CVE-2026-12772, CVE-2026-12795, CVE-2026-12796: routes without authentication", "MCP07"),
    ("CVE-2024-6825 and a release with a .pth file", "MCP04"),
    ("CVE-2025-53365, CVE-2025-53366: a client that leaves or babbles ends the server", "other"),
    ("CVE-2025-66416, CVE-2026-34742, CVE-2025-64443: DNS rebinding", "MCP07"),
    ("CVE-2026-52870: tasks of other clients, callback that gives a token away", "MCP10"),
    ("SSRF by resource_metadata in WWW-Authenticate", "other"),
    ("CVE-2026-0621: ReDoS in URI templates", "other"),
    ("CVE-2026-25536: answers mixed up by id", "MCP10"),
    ("GHSA-qvqr-5cv7-wh35: a stolen session id, a default session", "MCP07"),
    ("CVE-2025-6514: an authorization endpoint becomes a command", "MCP05"),
    ("CVE-2025-49596, CVE-2025-58444: unauthenticated inspector, XSS by a server", "MCP05"),
    ("CVE-2026-32871, CVE-2026-29791: arguments change the address of a request", "MCP05"),
    ("CVE-2026-27124, CVE-2025-69196, CVE-2025-62800, CVE-2025-62801: OAuth proxy as confused deputy", "MCP07"),
    ("GHSA-mvgg-jvj2-4frq: a session on another route", "MCP02"),
    ("rules that see a truncated body", "MCP02"),
    ("GHSA-g53w-w6mj-hrpp: internal headers of clients believed", "MCP07"),
    ("objects of others by their id", "MCP10"),
    ("unknown scope is everything, credentials of another user", "MCP02"),
    ("CVE-2026-44284: an address checked when shown, not when used", "other"),
    ("CVE-2026-26118: credentials sent to another origin", "MCP01"),
    ("path traversal, a server that changes", "MCP03"),
    ("a2a-python 786, 895: SSRF by webhook and card, injected contextId", "MCP10"),
    ("a2a-go 351: get, cancel, send and push across tenants", "MCP10"),
    ("A2A 2096: jku chosen by the signer", "MCP04"),
    ("ggcode 715: push configuration without a task, redirects followed", "MCP10"),
    ("no owner of a task is checked", "MCP10"),
]
LACKING = {
    "2.1/11": "instructions are not recognised; guards find the patterns that they are given, and what a result leads to needs its grant",
    "2.1/12": "only where a guard of secrets is configured",
    "2.1/33": "the hub's own ways out are guarded; the processes of stdio servers are not kept from the network",
    "2.1/35": "no browser pages yet but those of /connect, /ui and /docs",
    "2.2/21": "no playground and no browser pages yet but those of /connect, /ui and /docs",
}
"""What is not shown of a row, with its reason. A row without a test has to stand here."""


@dataclass(frozen=True)
class Row:
    """A known attack; `group` is a key of GROUPS."""

    id: str
    name: str
    group: str


ROWS = {
    row.id: row
    for section, rows in (("2.1", KINDS), ("2.2", FAULTS))
    for row in (Row(f"{section}/{number}", *named) for number, named in enumerate(rows, 1))
}


class Proof(NamedTuple):
    """That a test can fail: without one defence it must."""

    test: str
    row: str
    defence: str


def covering() -> dict[str, list[str]]:
    """Node ids of tests below tests/, by the row that they cover, as their marks say."""
    found: dict[str, list[str]] = defaultdict(list)
    for test, mark in _marked():
        for row in _rows(mark):
            found[row] += [test] if test not in found[row] else []
    return dict(found)


def proofs() -> list[Proof]:
    """Which test must fail without which defence, and of which rows that tells, as their marks say."""
    return [
        Proof(test, row, ast.literal_eval(keyword.value))
        for test, mark in _marked()
        for keyword in mark.keywords
        for row in _rows(mark)
    ]


def _rows(mark: ast.Call) -> list[str]:
    return [ast.literal_eval(row) for row in mark.args]


def _marked() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if "pytest.mark.attack" not in text:
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.attack":
                        yield f"{path.relative_to(TESTS)}::{node.name}", mark
