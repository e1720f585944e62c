"""What explain knows of a name: what it leads to in each spelling that a door takes, and why to nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from hub.cli import main
from hub.cli.common import on_database
from hub.settings import load
from hub.standing import meant, standing
from mcp_bridge.naming import exposed_name
from mcp_bridge.views import build
from registry.access import EVERYTHING, Grants
from registry.assembly import Stored, assemble
from registry.callers.keys import Keys
from registry.catalog import Catalog
from registry.declared.config import read
from registry.entries import Server
from registry.identity import Principal
from registry.rules.explaining import Explanation, explain
from registry.rules.policy import Policy, Rule, under
from registry.store.db import Database
from registry.trust.listings import Listed

LONG = "a_tool_whose_name_is_longer_than_clients_can_take"
SHORT = exposed_name("s", LONG)
YAML = """
agents: {a: {url: "http://x.example"}, off: {url: "http://x.example"}}
models: {m: {provider: offline}, "open/*": {provider: offline, model: "*"}}
mcpServers:
  s: {url: "http://x.example", denied_tools: [drop]}
  wary: {url: "http://x.example", quarantine_drift: true}
  new: {url: "http://x.example"}
  mine: {url: "http://x.example", auth: {type: user_oauth}}
toolsets: {t: {tools: [{tool: s__echo, as: say}]}}
"""


def tool(server: str, name: str, quarantined: str | None = None) -> Listed:
    return Listed(name, exposed_name(server, name), b'{"inputSchema": {}}', quarantined)


def said(server: str) -> Listed:
    return Listed(server, server, b'{"capabilities": ["tools", "prompts"]}', kind="server")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    memo = Listed("memo://1", "s+memo://1", b'{"uri": "memo://1"}', kind="resource")
    listed = {
        "s": [said("s"), tool("s", "echo"), tool("s", LONG), tool("s", "evil", "it orders"), memo],
        "wary": [said("wary")],
        "shut": [tool("shut", "echo")],
    }
    declared = read(YAML, file="hub.yaml", environ={}, read_file=str)
    shut = Server(name="shut", url="http://x.example", owner="api", unavailable="it is disabled")
    off = frozenset({("agent", "off")})
    return assemble(1, declared, Stored({("server", "shut"): shut}, switched_off=off, listed=listed))


def explained(
    catalog: Catalog, kind: str, name: str, *allow: str, is_operator: bool = True, rules: tuple[Rule, ...] = ()
) -> tuple[str, Explanation]:
    """What is said of one who has `allow`, to an operator or to them, and about which entry."""
    principal = under(Policy(rules), Principal(id="k", name="k", grants=Grants.parse(allow)))
    kind, name = meant(catalog, kind, name, EVERYTHING if is_operator else principal.grants)
    known = standing(catalog, kind, name, lambda path: build(catalog, principal.grants, path))
    found = explain(principal, kind, name, None, None).standing(known, is_operator=is_operator)
    return f"{kind}:{name}", found


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        ("agent", "nobody", "there is no agent nobody"),
        ("agent", "off", "the agent off is switched off"),
        ("model", "agent/nobody", "there is no agent nobody"),
        ("tool", "agent__nobody", "there is no agent nobody"),
        ("model", "nope", "there is no model nope"),
        ("model", "open", "there is no model open"),
        ("model", "open/*", "open/* stands for models and is none: ask about one of them"),
        ("server", "nope", "there is no server nope"),
        ("server", "shut", "the server shut cannot be called: it is disabled"),
        ("tool", "nope__echo", "there is no server nope"),
        ("tool", "echo", "names of tools begin with their server's, as in SERVER__echo"),
        ("tool", "s__evil", "evil of the server s is quarantined: it orders"),
        ("tool", "s__drop", "allowed_tools or denied_tools of the server s leave out drop"),
        ("tool", "s__nope", "the server s lists no such tool"),
        ("tool", "new__nope", "the server new lists no such tool: it was never reached"),
        ("tool", "shut__echo", "the server shut cannot be called: it is disabled"),
        ("prompt", "s__nope", "the server s lists no such prompt"),
        ("resource", "s+memo://2", "the server s lists no such resource"),  # it says that it has none
    ],
)
def test_an_operator_reads_why_nobody_can_call_what_is_granted(
    catalog: Catalog, kind: str, name: str, why: str
) -> None:
    allow = [f"{one}:*" for one in ("agent", "model", "tool", "prompt", "resource")]
    _, found = explained(catalog, kind, name, *allow, *(["server:*"] if kind == "server" else []))
    assert (found.answer, found.reason) == ("denied", why)


@pytest.mark.parametrize(
    ("kind", "name", "entry"),
    [
        ("agent", "a", "agent:a"),
        ("model", "agent/a", "agent:a"),
        ("tool", "agent__a", "agent:a"),
        ("model", "m", "model:m"),
        ("model", "open/any", "model:open/any"),
        ("server", "s", "server:s"),
        ("tool", "s__echo", "tool:s__echo"),
        ("tool", "say", "tool:s__echo"),
        ("tool", SHORT, f"tool:s__{LONG}"),
        ("resource", "s__memo://1", "resource:s__memo://1"),
        ("resource", "s+memo://1", "resource:s__memo://1"),
    ],
)
@pytest.mark.parametrize("is_operator", [True, False])
def test_what_is_there_is_found_in_each_spelling_that_a_door_takes(
    catalog: Catalog, kind: str, name: str, entry: str, is_operator: bool
) -> None:
    about, found = explained(catalog, kind, name, entry, is_operator=is_operator)
    assert (about, found.answer, found.is_listed) == (entry, "allowed", True)


@pytest.mark.parametrize("is_operator", [True, False])
def test_what_is_not_listed_but_asked_of_a_server_that_is_granted_whole_is_allowed(
    catalog: Catalog, is_operator: bool
) -> None:
    _, found = explained(catalog, "tool", "s__nope", "server:s", is_operator=is_operator)
    assert (found.answer, found.is_listed) == ("allowed", False)
    assert found.reason.endswith("; the server s lists no such tool, and is asked for it all the same at /mcp/s")
    assert explained(catalog, "tool", "wary__nope", "server:wary", is_operator=is_operator)[1].answer == "denied"
    text = "the server mine lists to each account by itself, and none such is known of this one"
    assert explained(catalog, "prompt", "mine__any", "server:mine", is_operator=is_operator)[1].reason.endswith(text)


@pytest.mark.parametrize(
    ("there", "absent"),
    [
        (("tool", "s__evil"), ("tool", "s__nope")),
        (("tool", "s__drop"), ("tool", "s__nope")),
        (("tool", "s__nope"), ("tool", "nope__nope")),
        (("agent", "off"), ("agent", "nobody")),
    ],
)
def test_callers_learn_of_what_doors_hide_no_more_than_that_nothing_is_there(
    catalog: Catalog, there: tuple[str, str], absent: tuple[str, str]
) -> None:
    one, other = (explained(catalog, *entry, "tool:*", "agent:*", is_operator=False)[1] for entry in (there, absent))
    assert one == other
    assert (one.answer, one.reason) == ("denied", "nothing of that name is there")


def test_a_short_name_leads_only_those_to_a_tool_who_may_call_it(catalog: Catalog) -> None:
    assert explained(catalog, "tool", SHORT, "tool:other", is_operator=False)[0] == f"tool:{SHORT}"
    assert explained(catalog, "tool", "say", "tool:other", is_operator=False)[0] == "tool:say"


def test_what_a_rule_hides_is_no_other_to_callers_if_it_is_not_there(catalog: Catalog) -> None:
    rule = Rule("no", "deny")
    for name in ("s__echo", "s__nope"):
        found = explained(catalog, "tool", name, "tool:*", is_operator=False, rules=(rule,))[1]
        assert (found.answer, found.rule, found.is_listed) == ("denied", "no", False)
    assert explained(catalog, "tool", "s__nope", "tool:*", rules=(rule,))[1].reason == "the server s lists no such tool"


FILE = """
agents: {a: {url: "http://x.example"}}
models: {"open/*": {provider: offline, model: m}}
keys: [{name: dev, key: sk-written-in-the-file-0001, allow: ["agent:*", "model:*", "tool:*"]}]
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What `hubbub explain dev` says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hub.yaml").write_text(FILE)
    return lambda *about: CliRunner().invoke(main, ("explain", "dev", *about)).output


def test_the_command_says_that_nothing_of_a_name_is_there(told: Callable[..., str]) -> None:
    for kind, name, said in (
        ("model", "nope", "denied: there is no model nope.\nIt is not listed.\n"),
        ("tool", "nope__echo", "denied: there is no server nope.\nIt is not listed.\n"),
        ("model", "open/any", "allowed: granted by model:*, and no rule is against it.\nIt is listed.\n"),
        ("model", "agent/a", "allowed: granted by agent:*, and no rule is against it.\nIt is listed.\n"),
    ):
        assert told(kind, name) == said


def test_the_command_knows_a_key_of_the_file_by_its_id(tmp_path: Path, told: Callable[..., str]) -> None:
    async def key_id(database: Database) -> str:
        await Keys(database).follow_file(list(load(Path("hub.yaml")).keys))
        return (await Keys(database).page())[0].key.id

    when = f"principal.id != '{on_database(None, key_id)}'"
    rule = {"name": "no", "effect": "deny", "entries": ["agent:*"], "when": when}
    (tmp_path / "hub.yaml").write_text(f"{FILE}policy: {json.dumps([rule])}\n")
    assert told("agent", "a").startswith("allowed: ")
