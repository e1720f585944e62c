import re
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.bridges.kinds import fault
from registry.declared.config import ConfigInvalid, Declared, HubSettings, read
from registry.declared.stored import stored_entry
from registry.entries import Auth, ModelLimits, Routing
from registry.errors import InvalidRequest
from registry.identity import KeySpec
from registry.limits import UNBOUND
from registry.names import name_fault

ROUTED = """\
models:
  offline: {provider: offline}
  "openai/*": {provider: openai}
  gpt:
    model: gpt-4o-mini
    deployments:
      - {provider: openai, weight: 2, limits: {requests_per_minute: 60, tokens_per_minute: 9000, concurrency: 4}}
      - {provider: azure, model: eu-4o, base_url: "https://eu.example/openai/v1", headers: {x-team: "7"}}
    routing: least_busy
    retries: 1
    deadline_s: 30
    fallbacks: [offline]
    context_fallbacks: [openai/gpt-4.1]
    cache: {ttl_s: 600}
"""

ENVIRON = {
    "HUBBUB_ADMIN_KEY": "a" * 30,
    "HUBBUB_SECRET_KEY": "s" * 32,
    "OPENAI_API_KEY": "sk-openai",
    "GITHUB_TOKEN": "gh",
    "RESEARCH_TOKEN": "r",
    "DEV_KEY": "d" * 20,
    "EMPTY": "",
}
EXAMPLE = (Path(__file__).parent / "everything.yaml").read_text()
"""Every member that hub.yaml has, as the surface promises it."""


def no_file(name: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", name)


def load(
    text: str, *, read_file: Callable[[str], str] = no_file, providers: Collection[str] = (), **environ: str
) -> Declared:
    return read(
        text,
        file="hub.yaml",
        environ={**ENVIRON, **environ},
        read_file=read_file,
        providers=providers,
        bridge_fault=fault,
    )


def faults(text: str, **options: object) -> list[str]:
    with pytest.raises(ConfigInvalid) as found:
        load(text, **options)
    return str(found.value).splitlines()


def test_the_whole_surface_loads() -> None:
    declared = load(EXAMPLE)
    assert declared.hub.public_url == "http://127.0.0.1:4000"
    assert declared.hub.admin_key == "a" * 30
    assert declared.hub.limits.body_bytes == 32 * 1024 * 1024
    assert declared.agents["research"].headers == (("Authorization", "Bearer r"),)
    assert declared.servers["time"].args == ("mcp-server-time",)
    assert declared.servers["github"].allowed_tools == ("list_*", "get_me")
    assert declared.servers["crm"].auth == Auth(type="user_oauth")
    assert declared.toolsets["dev"].tools == ("github__list_*", "time__*")
    assert (declared.models["gpt-4o"].model, declared.models["openai/*"].model) == ("gpt-4o-mini", "*")
    assert declared.models["offline"].model == "offline"


def test_what_this_version_cannot_do_is_told_and_not_ignored() -> None:
    declared = load(EXAMPLE)
    told = " ".join(str(notice) for notice in declared.notices)
    assert "valkey" in told
    assert all(re.match(r"hub\.yaml:\d+: ", str(notice)) for notice in declared.notices)


def test_a_model_runs_at_several_places_with_their_weights_and_limits() -> None:
    model = load(ROUTED).models["gpt"]
    first, second = model.places()
    assert (first.name, first.model, first.weight, first.deployment) == ("gpt", "gpt-4o-mini", 2.0, "gpt 1")
    assert first.pace == ModelLimits(requests_per_minute=60, tokens_per_minute=9000, concurrency=4)
    assert (second.provider, second.model, second.headers) == ("azure", "eu-4o", (("x-team", "7"),))
    assert (model.provider, model.model, model.deployment) == ("openai", "gpt-4o-mini", "")
    assert model.routing == Routing(
        rule="least_busy", retries=1, deadline_s=30, fallbacks=("offline",), context_fallbacks=("openai/gpt-4.1",)
    )
    assert model.cache_s == 600


def test_what_a_provider_lacks_is_left_out_at_all_places_of_a_model_that_says_so() -> None:
    model = load("models: {a: {drop_params: true, deployments: [{provider: groq}, {provider: mistral}]}}").models["a"]
    assert [place.drop_params for place in (model, *model.places())] == [True] * 3
    assert not load("models: {a: {provider: groq}}").models["a"].drop_params


def test_a_model_with_one_place_is_that() -> None:
    model = load("models: {a: {provider: offline}}").models["a"]
    assert model.places() == (model,)
    assert not model.deployments
    assert model.routing.retries == 2


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("{provider: offline, fallbacks: [b, ofline]}", "models.a.fallbacks.1: no model 'ofline' here, did you mean"),
        ("{provider: offline, fallbacks: [b, b/*]}", "models.a.fallbacks.1: no model 'b/*' here"),
        ("{provider: offline, context_fallbacks: [a]}", "models.a.context_fallbacks.0: is this model itself"),
        ("{provider: offline, routing: weighted}", "models.a: has routing, which chooses among deployments"),
        ("{deployments: [{provider: offline}], api_key: x}", "models.a: has deployments and api_key; each"),
        ("{deployments: [{provider: offlin}]}", "models.a.deployments.0.provider: 'offlin' is not a provider"),
        ("{deployments: [{provider: offline, limits: {rpm: 1}}]}", "models.a.deployments.0.limits.rpm: unknown key"),
        ("{deployments: [{provider: offline, model: x*}]}", "models.a: model has a *"),
        ("{provider: offline, retries: -1}", "models.a.retries: must be greater than or equal to 0"),
        ("{provider: offline, retries: true}", "models.a.retries: must be a number"),
        ("{provider: offline, cache: {}}", "models.a.cache: ttl_s is missing"),
        ("{provider: offline, routing: cheapest}", "models.a.routing: must be one of weighted, least_busy"),
    ],
)
def test_what_cannot_be_routed_is_a_fault_with_its_line(written: str, fault: str) -> None:
    text = f"models:\n  b: {{provider: offline}}\n  'b/*': {{provider: offline}}\n  offline: {{provider: offline}}\n  a: {written}\n"
    found = faults(text, providers={"offline"})
    assert len(found) == 1
    assert found[0].startswith(f"hub.yaml:5: {fault}")


def test_a_key_has_the_limits_and_the_budget_that_it_says() -> None:
    dev, plain = load(EXAMPLE).keys
    assert (dev.requests_per_minute, dev.bounds.usd, dev.bounds.per) == (60, 10, "month")
    assert plain.bounds == UNBOUND


@pytest.mark.parametrize(
    "holder",
    [
        "keys: [{name: k, key: sk-00000000000000000000, allow: [], budget: %s}]",
        "agents: {a: {url: 'http://x.example', budget: %s}}",
        "mcpServers: {s: {url: 'http://x.example', budget: %s}}",
        "models: {m: {provider: offline, budget: %s}}",
    ],
)
def test_a_budget_is_one_of_a_minute_a_day_a_week_a_month_or_a_year(holder: str) -> None:
    for span in ("minute", "day", "week", "month", "year"):
        load(holder % f"{{usd: 1, per: {span}}}")
    for none in ("hour", "moment", "task", "session"):
        (fault,) = faults(holder % f"{{usd: 1, per: {none}}}")
        assert "budget.per" in fault


def test_nothing_is_shared_and_no_key_is_in_a_team_but_by_the_files_word() -> None:
    key = "keys: [{name: k, key: sk-of-twenty-characters-or-so, allow: []%s}]\n"
    assert load(key % "").keys[0].team is None
    assert load(key % ", team: red").keys[0].team == "red"
    agent = "agents: {a: {url: 'http://x.example'%s}}"
    assert load(agent % "").agents["a"].shared is False
    assert load(agent % ", share: team").agents["a"].shared is True
    assert faults(agent % ", share: all") == ["hub.yaml:1: agents.a.share: must be one of team"]


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "models:\nagents:\n", "{}"])
def test_an_empty_file_declares_nothing(text: str) -> None:
    assert load(text) == Declared()


def test_all_faults_are_told_at_once_with_their_lines() -> None:
    text = """\
hubb: {}
hub:
  grpc_port: yes please
  admin_key: ${NOT_SET}
models:
  gpt-4o:
    providr: openai
agents:
  Research:
    url: ftp://x
keys:
  - name: dev
    key: short
    allow: ["tols:*"]
"""
    found = faults(text)
    assert found[0] == "hub.yaml:1: hubb: unknown key, did you mean 'hub'"
    assert "hub.yaml:3: hub.grpc_port: must be a whole number" in found
    assert "hub.yaml:4: hub.admin_key: the environment variable NOT_SET is not set" in found
    assert "hub.yaml:7: models.gpt-4o.providr: unknown key, did you mean 'provider'" in found
    assert "hub.yaml:10: agents.Research.url: must be an http:// or https:// address" in found
    assert "hub.yaml:13: keys.0.key: needs at least 20 characters" in found
    assert any(line.startswith("hub.yaml:14: keys.0.allow.0: grant 'tols:*': kind must be one of") for line in found)
    assert any(line.startswith("hub.yaml:9: agents.Research: a name has at most 32") for line in found)


def test_a_member_that_stands_twice_is_told_with_both_lines() -> None:
    found = faults("models:\n  a: {provider: offline}\n  a: {provider: offline}\n")
    assert found == ["hub.yaml:3: models.a stands twice, first in line 2"]


@pytest.mark.parametrize(
    ("written", "unknown", "meant"),
    [
        ("mcpServers: {a: {urll: 'http://x'}}", "urll", "url"),
        ("mcpServers: {a: {allowedTools: [x], url: 'http://x'}}", "allowedTools", "allowed_tools"),
        ("mcp_servers: {}", "mcp_servers", "mcpServers"),
        ("hub: {limits: {body_byte: 1}}", "body_byte", "body_bytes"),
        ("models: {a: {deployments: [{provider: x, weigh_t: 1}]}}", "weigh_t", "weight"),
        ("keys: [{name: a, key: 12345678901234567890x, allows: []}]", "allows", "allow"),
        ("toolsets: {a: {tool: []}}", "tool", "tools"),
        ("toolsets: {a: {tools: [{tol: x__y}]}}", "tol", "tool"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_known_one(written: str, unknown: str, meant: str) -> None:
    assert any(f"{unknown}: unknown key, did you mean {meant!r}" in line for line in faults(written))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: []", "models: must be a map"),
        ("keys: {}", "keys: must be a list"),
        ("models: {a: x}", "models.a: must be a map"),
        ("models: {a: {provider: 1}}", "must be a text: write it in quotes"),
        ("mcpServers: {a: {command: x, env: {PORT: 8080}}}", "env.PORT: must be a text: write it in quotes"),
        ("hub: {grpc_port: true}", "must be a number"),
        ("hub: {grpc_port: 70000}", "less than or equal to 65535"),
        ("hub: {egress_allow: [10.0.0.1/8]}", "must be a network"),
        ("hub: {allowed_origins: ['https://x.example/path']}", "must be an origin"),
        ("hub: {allowed_origins: ['*']}", "must be an http:// or https:// address"),
        ("hub: {database: 'postgresql://h/d'}", "keeps its data in SQLite"),
        ("hub: {database: 'sqlite:///:memory:'}", "must read sqlite:///"),
        ("hub: {secret_keys: [short]}", "needs at least 32"),
        ("hub: {limits: {drain_s: 0}}", "must be greater than 0"),
        ("agents: {a: {url: 'http://x', headers: {'a b': c}}}", "is not a header name"),
        ('agents: {a: {url: "http://x", headers: {a: "b\\nc"}}}', "character that a header cannot hold"),
        ("agents: {a: {}}", "needs url"),
        ("agents: {a: {url: 'http://x', tools: [x]}}", "needs model"),
        ("agents: {a: {url: 'http://x', model: m}}", "has model"),
        ("agents: {a: {url: 'http://x', bridge: langraph}}", "did you mean 'langgraph'"),
        ("agents: {a: }", "must be a map"),
        ("mcpServers: {a: {}}", "needs url"),
        ("mcpServers: {a: {url: 'http://x', command: y}}", "has command"),
        ("mcpServers: {a: {url: 'http://x', args: [y]}}", "belong to a server with command"),
        ("mcpServers: {a: {url: 'http://x', limits: {cpu_s: 5}}}", "belong to a server with command"),
        ("mcpServers: {a: {command: x, limits: {memory_mb: 1}}}", "limits.memory_mb"),
        ("mcpServers: {a: {command: x, limits: {memory: 512}}}", "memory_mb"),
        ("mcpServers: {a: {command: x, headers: {a: b}}}", "belong to a server with url"),
        ("mcpServers: {a: {type: stdio, url: 'http://x'}}", "type stdio needs command"),
        ("mcpServers: {a: {command: x, envFile: .env}}", "envFile: cannot be read: No such file"),
        ("models: {a: {}}", "provider is missing"),
        ("models: {'a*b': {provider: offline}}", "a * at its end only"),
        ("models: {agent/x: {provider: offline}}", "names under agent/"),
        ("models: {a: {provider: offline, model: 'b*'}}", "model has a *"),
        ("toolsets: {a: {tools: []}}\nmcpServers: {a: {command: x}}", "an MCP server has this name too, in line 2"),
        ("toolsets: {a: {tools: [1]}}", "tools.0: must be a map"),
        ("toolsets: {a: {tools: [], mode: seek}}", "must be one of search, full"),
        ("toolsets: {a: {tools: [{tool: 'x__*', as: y}]}}", "tools.0.tool: must be the whole name of one tool"),
        ("toolsets: {a: {tools: [{tool: x__y, as: a__b}]}}", "tools.0.as: a name has at most 47"),
        ("toolsets: {a: {tools: [{tool: x__y, as: call_tool}]}}", "is the name of a tool of search mode"),
        ("mcpServers: {hub: {command: x}}", "reserved"),
        ("agents: {sse: {url: 'http://x'}}", "reserved"),
        ("keys: [{name: 'a b', key: 12345678901234567890x, allow: []}]", "a key's name"),
        ("keys: [{name: a, key: 12345678901234567890x, allow: [], expires_at: 2030-01-01T00:00:00}]", "time zone"),
        ("a: [", "this is not YAML"),
        ("a: !!python/object:os.system x", "tag"),
        ("? [a, b]\n: c", "a name must be a plain text"),
        ("hub: ${NAME", "write ${NAME}"),
        ("- a", "the file: must be a map"),
    ],
)
def test_a_fault_is_told_for_the_person_who_can_mend_it(text: str, said: str) -> None:
    found = faults(text)
    assert any(said in line for line in found), found
    assert all(re.match(r"hub\.yaml:\d+: ", line) for line in found)


def test_two_tools_of_a_toolset_cannot_have_one_name() -> None:
    found = faults(
        "toolsets:\n  a:\n    tools:\n    - x__*\n    - {tool: x__y, as: z}\n    - tool: v__w\n      as: z\n"
        "  b: {tools: [{tool: x__y, as: z}]}"
    )
    assert found == ["hub.yaml:7: toolsets.a.tools.2.as: z is another tool's name here, in line 5"]


def test_names_and_secrets_of_the_files_keys_stand_once() -> None:
    key = "{name: %s, key: %s, allow: []}"
    found = faults(f"hub: {{admin_key: {'x' * 20}}}\nkeys:\n- {key % ('a', 'x' * 20)}\n- {key % ('a', 'y' * 20)}\n")
    assert "hub.yaml:3: keys.0.key: is the same as hub.admin_key" in found
    assert "hub.yaml:4: keys.1.name: a stands twice, first in line 3" in found


@pytest.mark.attack("2.1/21")
def test_no_fault_shows_a_secret() -> None:
    found = faults("hub: {admin_key: '${S}', secret_keys: ['${S}']}\nmodels: {a: {api_key: '${S}'}}", S="topsecret")
    assert "topsecret" not in "".join(found)


def test_settings_do_not_show_secrets() -> None:
    shown = repr(HubSettings(admin_key="topsecret", secret_keys=("topsecret",), valkey="redis://:topsecret@h"))
    assert "topsecret" not in shown


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("${GITHUB_TOKEN}", "gh"),
        ("${env:GITHUB_TOKEN}", "gh"),
        ("Bearer ${GITHUB_TOKEN}!", "Bearer gh!"),
        ("${NOT_SET:-fallback}", "fallback"),
        ("${EMPTY:-fallback}", "fallback"),
        ("${GITHUB_TOKEN:-fallback}", "gh"),
        ("${NOT_SET:-}x", "x"),
        ("$${GITHUB_TOKEN}", "${GITHUB_TOKEN}"),
        ("$GITHUB_TOKEN", "$GITHUB_TOKEN"),
    ],
)
def test_variables_come_from_the_environment(written: str, read_as: str) -> None:
    declared = load(f"agents: {{a: {{url: 'http://x', headers: {{h: '{written}'}}}}}}")
    assert declared.agents["a"].headers == (("h", read_as),)


@pytest.mark.attack("2.2/5")
def test_a_variables_value_is_not_read_for_variables_or_yaml() -> None:
    declared = load("agents: {a: {url: 'http://x', headers: {h: '${V}'}}}", V="${GITHUB_TOKEN}: [x]")
    assert declared.agents["a"].headers == (("h", "${GITHUB_TOKEN}: [x]"),)


def test_a_number_may_come_from_a_variable() -> None:
    assert load("hub: {grpc_port: '${PORT}'}", PORT="4001").hub.grpc_port == 4001


def test_words_that_old_yaml_takes_for_something_else_are_texts() -> None:
    declared = load(
        "models: {on: {provider: offline}, 1: {provider: offline}, 2024-01-01: {provider: offline, model: off}}"
    )
    assert list(declared.models) == ["on", "1", "2024-01-01"]
    assert declared.models["2024-01-01"].model == "off"


@pytest.mark.attack("2.1/28")
def test_aliases_are_read_and_a_bomb_of_them_is_refused() -> None:
    assert load("models: {a: &a {provider: offline}, b: *a}").models["b"].provider == "offline"
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    assert any("aliases unfolded" in line for line in faults(bomb))


def test_a_value_that_holds_itself_is_refused() -> None:
    assert any("nested deeper" in line for line in faults("a: &a [*a]"))


@pytest.mark.parametrize("begin", ["{a: ", "[", "- ", "? "])
def test_a_text_nested_past_all_stacks_is_a_fault_and_not_the_end_of_the_process(begin: str) -> None:
    assert any("nested deeper" in line for line in faults(begin * 20_000))


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_its_lines(text: str) -> None:
    try:
        load(text)
    except ConfigInvalid as error:
        lines = [fault.line for fault in error.faults]
    else:
        lines = [1]
    assert min(lines) >= 1


@pytest.mark.parametrize("kind", ["http", "streamable-http", "streamableHttp", "streamable_http", None])
def test_every_clients_spelling_of_streamable_http_is_understood(kind: str | None) -> None:
    written = f"type: {kind}, " if kind else ""
    assert load(f"mcpServers: {{a: {{{written}url: 'http://x'}}}}").servers["a"].unavailable is None


def test_a_pasted_server_keeps_what_a_server_needs_and_says_what_it_ignores() -> None:
    text = """
mcpServers:
  fs:
    type: stdio
    command: npx
    args: [-y, server-fs, /data]
    env: {A: "${env:GITHUB_TOKEN}", B: own}
    envFile: .env
    cwd: /srv
    autoApprove: [read]
    timeout: 60
  off: {command: x, disabled: true}
  small: {command: x, limits: {memory_mb: 64}}
"""
    declared = load(text, read_file={".env": "# c\nB=file\nC='quoted $HOME'\nD\n"}.__getitem__)
    fs = declared.servers["fs"]
    assert (fs.command, fs.args, fs.cwd) == ("npx", ("-y", "server-fs", "/data"), "/srv")
    assert dict(fs.env) == {"A": "gh", "B": "own", "C": "quoted $HOME"}
    assert list(declared.servers) == ["fs", "small"]
    assert [(server.memory_mb, server.cpu_s) for server in declared.servers.values()] == [(4096, 86400), (64, 86400)]
    told = [str(notice) for notice in declared.notices]
    assert told == [
        "hub.yaml:10: mcpServers.fs.autoApprove: is for clients only and ignored",
        "hub.yaml:11: mcpServers.fs.timeout: is for clients only and ignored",
        "hub.yaml:12: mcpServers.off: is disabled and left out",
    ]


def test_a_member_that_narrows_a_server_is_never_ignored() -> None:
    assert any("disabledTools" in line for line in faults("mcpServers: {a: {command: x, disabledTools: [y]}}"))


def test_keys_carry_their_limits() -> None:
    text = f"""
keys:
  - name: dev
    key: {"k" * 20}
    allow: ["model:*"]
    limits: {{requests_per_minute: 60}}
    expires_at: 2030-01-01T00:00:00Z
"""
    expected = KeySpec(name="dev", allow=("model:*",), requests_per_minute=60, expires_at=1893456000.0, secret="k" * 20)
    assert load(text).keys == (expected,)


def test_an_unknown_provider_is_answered_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigInvalid, match="'opnai' is not a provider, did you mean 'openai'"):
        read("models: {a: {provider: opnai}}", file="f", environ={}, read_file=no_file, providers=["openai", "offline"])


@pytest.mark.parametrize("name", ["a", "a-b_c", "z9", "a" * 32])
def test_good_names(name: str) -> None:
    assert name_fault(name) is None


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "-a", "a__b", "a" * 33, "ä", "a b", "a.b", "agent", "hub", "sse", "a_", "a\n"]
)
def test_bad_names(name: str) -> None:
    assert name_fault(name) is not None


@given(st.text(max_size=40))
def test_a_name_that_is_proposed_is_a_good_one(name: str) -> None:
    text = name_fault(name) or ""
    proposed = re.search(r"did you mean '(.*)'", text)
    assert proposed is None or name_fault(proposed[1]) is None


def test_a_body_of_the_api_becomes_an_entry() -> None:
    agent = stored_entry(
        "agent", "a", {"name": "other", "url": "https://x.example", "headers": {"k": "v"}}, trusted=False
    )
    assert (agent.name, agent.owner, agent.trusted, agent.headers) == ("a", "api", False, (("k", "v"),))
    server = stored_entry("server", "s", {"url": "https://x.example/mcp", "allowed_tools": ["x"]}, trusted=True)
    assert (server.trusted, server.allowed_tools) == (True, ("x",))
    assert stored_entry("model", "openai/*", {"provider": "openai"}, trusted=True).model == "*"


@pytest.mark.parametrize("member", ["command", "args", "env", "envFile", "cwd", "openapi"])
@pytest.mark.attack("2.1/31", "2.2/1", "2.2/2", "2.2/9")
def test_what_starts_processes_or_reads_files_is_refused_by_name(member: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{member} stands in hub.yaml only") as refused:
        stored_entry("server", "s", {"url": "https://x.example", member: "x"}, trusted=True)
    assert refused.value.member == member


@pytest.mark.parametrize("kind", ["agent", "server", "model"])
def test_a_variable_in_a_body_is_refused_however_deep(kind: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^headers: \$\{"):
        stored_entry(kind, "s", {"headers": {"a": ["x", "${HOME}"]}}, trusted=True)


@pytest.mark.parametrize(
    ("kind", "name", "body", "said"),
    [
        ("agent", "a", {"ulr": "http://x"}, "ulr: unknown key, did you mean 'url'"),
        ("agent", "a", {"url": 1}, "url: must be a text"),
        ("agent", "a", {"url": "file:///etc/passwd"}, "url: must be an http"),
        ("agent", "A", {"url": "http://x"}, "name: a name has"),
        ("server", "hub", {"url": "http://x"}, "reserved"),
        ("server", "s", {}, "needs url"),
        ("model", "m", {}, "provider is missing"),
        ("model", "agent/x", {"provider": "openai"}, "names under agent/"),
    ],
)
def test_a_bad_body_is_refused_with_what_is_wrong(kind: str, name: str, body: dict, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        stored_entry(kind, name, body, trusted=True)
    assert said in refused.value.text


def test_where_an_agents_card_and_grpc_are_and_who_signs_it_can_be_said() -> None:
    jwk = "{kty: EC, crv: P-256, x: eA, y: eQ, kid: mine, use: sig}"
    declared = load(
        f"agents:\n  a:\n    url: http://a.example\n    card_url: http://b.example/card\n    grpc_url: a.example:50051\n"
        f"    quarantine_drift: true\n    card_keys: [{jwk}]\n"
    )
    agent = declared.agents["a"]
    assert (agent.card_url, agent.grpc_url, agent.quarantine_drift) == (
        "http://b.example/card",
        "a.example:50051",
        True,
    )
    assert agent.card_keys == ('{"kty":"EC","crv":"P-256","x":"eA","y":"eQ"}',)


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("card_url: b.example/card", "card_url: must be an http:// or https:// address"),
        ("grpc_url: a.example", "grpc_url: must read host:port"),
        ("urls: [http://a.example, http://b.example]", "has url and urls"),
        ("urls: []", "urls: "),
        ("urls: [http://a.example, http://a.example]", "urls: has one twice"),
        ("grpc_url: http://a.example:1/x", "grpc_url: must read host:port"),
        ("grpc_url: a.example:99999", "grpc_url: must be an http"),
        ("card_keys: [{kty: oct, k: c2VjcmV0}]", "card_keys.0.kty: must be one of EC, RSA, OKP"),
        ("card_keys: [{kty: EC, crv: P-256}]", "card_keys.0: a key of kty EC needs x, y"),
    ],
)
def test_a_card_setting_that_cannot_be_used_is_told(member: str, said: str) -> None:
    (fault,) = faults(f"agents:\n  a:\n    url: http://a.example\n    {member}\n")
    assert said in fault


def test_an_agent_may_have_several_urls() -> None:
    agents = load(
        "agents:\n  a: {urls: [http://a.example, http://b.example]}\n  b: {urls: [http://c.example]}\n"
    ).agents
    assert (agents["a"].url, agents["a"].urls) == ("http://a.example", ("http://a.example", "http://b.example"))
    assert (agents["b"].url, agents["b"].urls) == ("http://c.example", ("http://c.example",))
    assert [one.url for one in agents["a"].instances()] == ["http://a.example", "http://b.example"]


@pytest.mark.parametrize(
    ("where", "most"),
    [
        ("keys: [{name: k, key: sk-00000000000000000000, allow: [], limits: {tokens_per_minute: %s}}]", 2**53),
        ("keys: [{name: k, key: sk-00000000000000000000, allow: [], limits: {session: {calls: %s}}}]", 2**53),
        ("keys: [{name: k, key: sk-00000000000000000000, allow: [], limits: {max_calls: %s}}]", 2**53),
        ("keys: [{name: k, key: sk-00000000000000000000, allow: [], limits: {max_total_tokens: %s}}]", 2**53),
        ("keys: [{name: k, key: sk-00000000000000000000, allow: [], limits: {max_seconds: %s}}]", 10**9),
        ("keys: [{name: k, key: sk-00000000000000000000, allow: [], budget: {usd: %s}}]", 10**9),
        ("models: {m: {provider: offline, price: {input: %s}}}", 10**9),
        ("hub: {limits: {body_bytes: %s}}", 2**53),
        ("hub: {limits: {kept_days: %s}}", 36_500),
        ("hub: {limits: {approval_hours: %s}}", 876_000),
    ],
)
def test_a_number_that_the_database_cannot_count_to_is_refused_with_the_most_there_may_be(
    where: str, most: int
) -> None:
    load(where % most)
    for more in (most + 1, 10**17, 10**30, 10**300, "1e30"):
        (fault,) = faults(where % more)
        assert re.search(rf"must be (at most|less than or equal to) {most}$", fault) or "must be a" in fault, fault
