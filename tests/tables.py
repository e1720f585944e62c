"""`make tables`: writes the tables of the docs from what was measured. A test fails when one is stale."""

from __future__ import annotations

import json
from pathlib import Path

from agents.speech import SPEECHES, Operation
from llm.providers.row import EVERY, Row
from llm.providers.rows import clouds, gateways, hosts, makers, own, sdks
from llm.providers.rows.sdks import Sdk
from mcp_bridge.search import Search, cost_of
from registry.entries import Tool
from tests.attacks.corpus import GROUPS, LACKING, ROWS, covering, proofs
from tests.bench.tables import markdown
from tests.bridges import kinds
from tests.bridges.kinds import PROPERTIES
from tests.doors.test_a2a_matrix import CLAIMS
from tests.foreign.conformance import EXCUSED, REVISIONS, SETUPS, kept
from tests.peers.mcp_everything import Era

DOCS = Path(__file__).parents[1] / "docs"


def benchmarks() -> str:
    """docs/benchmarks.md, from docs/benchmarks.json, which is a copy of what `make bench` wrote."""
    report = json.loads((DOCS / "benchmarks.json").read_text())
    return f"""# What a request costs

CPU time of the hub process for one request, and the same as a multiple of what an nginx proxy needs for the same bytes on the same core
in the same run. Key check, grant check, limit and usage record are on. How it is measured: [tests/bench](../tests/bench/README.md).

{markdown(report)}
"""


def providers() -> str:
    """docs/providers.md, from the table of providers."""
    before, _, rest = (DOCS / "providers.md").read_text().partition(PROVIDERS)
    parts = [
        f"## {title}\n\n| provider | address | key | speaks | lacks | tested against | documentation, as of |\n|---|---|---|---|---|---|---|\n"
        + "".join(_provider(name, row) for name, row in rows.items())
        for title, rows in KINDS.items()
    ]
    parts.append(
        "## By any-llm-sdk\n\n| provider | `base_url` | key | its part of any-llm-sdk | tested against | documentation, as of |\n|---|---|---|---|---|---|\n"
        + "".join(_by_sdk(name, row) for name, row in sdks.ROWS.items())
    )
    return before + PROVIDERS + "\n".join(parts) + END_OF_PROVIDERS + rest.partition(END_OF_PROVIDERS)[2]


def _by_sdk(name: str, row: Sdk) -> str:
    key = ", ".join(filter(None, [row.key_variable and f"`{row.key_variable}`", row.note]))
    address = {"never": "none", "may": "may be set", "must": "yours"}[row.base_url]
    tested = "fake" if name in FAKED_SDKS else "documentation only"
    return f"| `{name}` | {address} | {key} | `any-llm-sdk[{row.name}]` | {tested} | [{row.seen}]({row.page}) |\n"


def _provider(name: str, row: Row) -> str:
    key = f"`{row.key_variable}`" if row.key_variable else "none"
    key += "" if row.key_header == "authorization" else f" as `{row.key_header}`"
    address = row.base_url or f"yours: {row.note or '`base_url`'}"
    speaks = ", ".join([*row.formats, *(f"`{endpoint}`" for endpoint in row.endpoints)])
    speaks = f"{', '.join(row.formats)}, everything else" if row.endpoints == EVERY else speaks
    lacks = ", ".join(f"`{member}`" for member in row.lacks)
    tested = "a small real model" if name in REAL else "fake" if row.formats else "documentation only"
    return f"| `{name}` | {address} | {key} | {speaks} | {lacks} | {tested} | [{row.seen}]({row.page}) |\n"


PROVIDERS, END_OF_PROVIDERS = "<!-- providers: written by make tables -->\n", "<!-- end of providers -->\n"
KINDS = {
    "Makers of models": makers.ROWS,
    "Clouds": clouds.ROWS,
    "Hosts of others' models": hosts.ROWS,
    "Gateways": gateways.ROWS,
    "Run by their users": own.ROWS,
}
REAL = {"llama_cpp_python"}
"""Servers that `make test-model` runs."""

FAKED_SDKS = {"google"}
"""Services that tests/foreign/test_any_llm.py fakes."""


COLUMNS: dict[Operation, str] = {
    "SendMessage": "send",
    "SendStreamingMessage": "stream",
    "GetTask": "get",
    "ListTasks": "list",
    "CancelTask": "cancel",
    "SubscribeToTask": "subscribe",
    "CreateTaskPushNotificationConfig": "push: create",
    "GetTaskPushNotificationConfig": "get",
    "ListTaskPushNotificationConfigs": "list",
    "DeleteTaskPushNotificationConfig": "delete",
    "GetExtendedAgentCard": "extended card",
}
BEGIN, END = "<!-- matrix: written by make tables -->\n", "<!-- end of matrix -->\n"


def a2a() -> str:
    """docs/a2a.md, whose matrix is what the matrix test claims."""
    before, _, rest = (DOCS / "a2a.md").read_text().partition(BEGIN)
    rows = [f"| client | agent | {' | '.join(COLUMNS.values())} |", f"|---|---|{':-:|' * len(COLUMNS)}"]
    for client in SPEECHES:
        for agent in SPEECHES:
            done = " | ".join("✓" if operation in CLAIMS[client, agent] else "-" for operation in COLUMNS)
            rows.append(f"| {' '.join(client)} | {' '.join(agent)} | {done} |")
    return before + BEGIN + "\n".join(rows) + "\n" + END + rest.partition(END)[2]


CONFORMANCE, END_OF_CONFORMANCE = "<!-- conformance: written by make tables -->\n", "<!-- end of conformance -->\n"


def mcp() -> str:
    """docs/mcp.md, whose counts are those of tests/foreign/conformance.json."""
    before, _, rest = (DOCS / "mcp.md").read_text().partition(CONFORMANCE)
    counts = kept()["counts"]
    rows = ["| revision of the suite | reached | passed | failed |", "|---|---|--:|--:|"]
    for revision in REVISIONS:
        for title, where in [
            ("the server itself", "direct"),
            *((BEHIND[only], f"to {only or 'dual-era'}") for only in BEHIND),
        ]:
            found = counts[f"{revision} {where}"]
            rows.append(f"| {revision} | {title} | {found['passed']} | {found['failed']} |")
    rows += ["", "| revision of the suite | the server speaks | scenario | why it fails |", "|---|---|---|---|"]
    for setup in SETUPS:
        why = {scenario: excuse.reason for scenario, excuse in EXCUSED.get(setup, {}).items()}
        why |= dict.fromkeys(kept()["awaited"][str(setup)], "the hub cannot do it yet")
        speaks = {None: "both", "legacy": "2025-11-25", "modern": "2026-07-28"}[setup.only]
        rows += [
            f"| {setup.revision} | {speaks} | `{scenario}` | {reason} |" for scenario, reason in sorted(why.items())
        ]
    after = rest.partition(END_OF_CONFORMANCE)[2]
    before_tokens, _, rest = after.partition(TOKENS)
    after = before_tokens + TOKENS + tokens() + END_OF_TOKENS + rest.partition(END_OF_TOKENS)[2]
    return before + CONFORMANCE + "\n".join(rows) + "\n" + END_OF_CONFORMANCE + after


TOKENS, END_OF_TOKENS = "<!-- tokens: written by make tables -->\n", "<!-- end of tokens -->\n"


def tokens() -> str:
    """What lists of real tools cost, from their sizes in docs/mcp_tools.json, and what search mode costs instead."""
    servers = json.loads((DOCS / "mcp_tools.json").read_text())["servers"]
    sizes = [(server["name"], size) for server in servers for size in server["tool_bytes"]]
    rows = ["| tools | servers | whole list | search mode |", "|--:|--:|--:|--:|"]
    for count in (50, 200, 1000):
        chosen = sizes[:count]
        tools = {
            str(at): Tool(server=name, name="", exposed="", grant_name="", description=b"")
            for at, (name, _) in enumerate(chosen)
        }
        searching = cost_of([], Search(tools, {}, lambda _kind, _name, _tool: {})).search_tokens
        whole = sum(size for _, size in chosen) // 4
        rows.append(f"| {count:,} | {len({name for name, _ in chosen})} | {whole:,} | {searching:,} |")
    return "\n".join(rows) + "\n"


CORPUS, END_OF_CORPUS = "<!-- attacks: written by make tables -->\n", "<!-- end of attacks -->\n"


def security() -> str:
    """docs/security.md, whose table is what the marks of the tests say."""
    before, _, rest = (DOCS / "security.md").read_text().partition(CORPUS)
    tests, proven = covering(), {(one.row, one.test): one.defence for one in proofs()}
    count = len({test for named in tests.values() for test in named})
    parts = [
        f"{len(ROWS)} attacks, {len(tests)} of them covered, by {count} tests. {len({row for row, _ in proven})} attacks are tried without "
        f"a defence too, {len(set(proven.values()))} defences in all, and then succeed: the tests marked with one fail without it.\n"
    ]
    for group, name in GROUPS.items():
        rows = [row for row in ROWS.values() if row.group == group]
        title = name if group == "other" else f"{group}: {name}"
        parts.append(f"\n### {title}\n\n")
        if rows:
            parts.append("| | attack | tests that show it refused | what they do not show |\n|---|---|---|---|\n")
        for row in rows:
            covered = "<br>".join(
                f"`{test}`" + (f" (without `{proven[row.id, test]}`)" if (row.id, test) in proven else "")
                for test in tests.get(row.id, ["none"])
            )
            parts.append(f"| {row.id} | {row.name} | {covered} | {LACKING.get(row.id, '')} |\n")
    return before + CORPUS + "".join(parts) + END_OF_CORPUS + rest.partition(END_OF_CORPUS)[2]


BRIDGES, END_OF_BRIDGES = "<!-- bridges: written by make tables -->\n", "<!-- end of bridges -->\n"


def bridges() -> str:
    """docs/bridges.md, whose table is what the suite of all bridges runs."""
    before, _, rest = (DOCS / "bridges.md").read_text().partition(BRIDGES)
    rows = [f"| bridge | proved against | {' | '.join(PROPERTIES)} |", f"|---|---|{':-:|' * len(PROPERTIES)}"]
    notes: dict[str, int] = {}
    for kind in kinds.KINDS:
        cells = []
        for name in PROPERTIES:
            note = kind.lacks.get(name)
            cells.append("✓" if note is None else f"[{notes.setdefault(note, len(notes) + 1)}]")
        rows.append(f"| `{kind.name}` | {kind.proof} | {' | '.join(cells)} |")
    meanings = [f"* **{name}**: {meaning}" for name, meaning in PROPERTIES.items()]
    lacking = [f"* [{number}] {note}" for note, number in notes.items()]
    orders: dict[str, list[str]] = {}
    for kind in kinds.KINDS:
        orders.setdefault(kind.odd.allows, []).append(f"`{kind.name}`")
    allowed = [f"* {', '.join(names)}: {order}" for order, names in orders.items()]
    return (
        before
        + BRIDGES
        + "\n".join(
            [
                *rows,
                "",
                *meanings,
                "",
                *lacking,
                "",
                "What comes in which order, as their references have it:",
                "",
                *allowed,
            ]
        )
        + "\n"
        + END_OF_BRIDGES
        + rest.partition(END_OF_BRIDGES)[2]
    )


BEHIND: dict[Era | None, str] = {
    None: "a hub before it",
    "legacy": "a hub before it, and it speaks 2025-11-25 only",
    "modern": "a hub before it, and it speaks 2026-07-28 only",
}
PAGES = {
    "benchmarks.md": benchmarks,
    "providers.md": providers,
    "a2a.md": a2a,
    "mcp.md": mcp,
    "security.md": security,
    "bridges.md": bridges,
}


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())


if __name__ == "__main__":
    main()
