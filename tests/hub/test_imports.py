"""What other programs' files become in hub.yaml: each form as its program documents it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from hub.cli import main
from hub.settings import load

Import = Callable[[Any], Result]


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Import:
    """Import a file into an empty hub.yaml."""
    monkeypatch.chdir(tmp_path)

    def run(content: Any) -> Result:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "mcp.json").write_text(text)
        return CliRunner().invoke(main, ["import", "mcp.json", "--write"])

    return run


def servers(done: Result) -> dict[str, Any]:
    """The servers that were written."""
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = yaml.safe_load(Path("hub.yaml").read_text())["mcpServers"]
    return found


def server_json(**members: Any) -> dict[str, Any]:
    return {
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": "io.github.example/weather",
        "description": "Weather",
        "version": "1.0.2",
        **members,
    }


def package(kind: str, identifier: str, **members: Any) -> dict[str, Any]:
    return {
        "registryType": kind,
        "identifier": identifier,
        "version": "1.0.2",
        "transport": {"type": "stdio"},
    } | members


def test_cursors_variables_and_oauth_client_become_the_hubs(imported: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    done = imported(
        {
            "mcpServers": {
                "local": {
                    "type": "stdio",
                    "command": "${userHome}/bin/server",
                    "args": ["--root", "${workspaceFolder}${/}src", "${env:REGION}"],
                    "envFile": "${workspaceFolder}/.env",
                },
                "remote": {
                    "url": "https://x.example/mcp",
                    "auth": {"CLIENT_ID": "c", "CLIENT_SECRET": "${env:OAUTH_SECRET}", "scopes": ["read", "write"]},
                },
                "open": {"url": "https://y.example/mcp"},
            }
        }
    )
    found = servers(done)
    assert found["local"] == {
        "type": "stdio",
        "command": "${HOME}/bin/server",
        "args": ["--root", "${WORKSPACE_FOLDER}/src", "${env:REGION}"],
        "envFile": "${WORKSPACE_FOLDER}/.env",
    }
    assert found["remote"]["auth"] == {
        "type": "user_oauth",
        "client_id": "c",
        "client_secret": "${env:OAUTH_SECRET}",
        "scopes": ["read", "write"],
    }
    assert "open is given no credentials" in done.stderr
    assert "before the hub starts: HOME, WORKSPACE_FOLDER, REGION, OAUTH_SECRET\n" in done.stderr
    (Path.cwd() / ".env").write_text("A=b")
    for name in ("HOME", "WORKSPACE_FOLDER"):
        monkeypatch.setenv(name, str(Path.cwd()))
    monkeypatch.setenv("REGION", "eu")
    monkeypatch.setenv("OAUTH_SECRET", "s")
    declared = load(Path("hub.yaml"))
    assert declared.servers["local"].env == (("A", "b"),)
    assert declared.servers["remote"].auth is not None


def test_claude_desktops_file_comes_in_without_what_is_not_about_servers(imported: Import) -> None:
    done = imported(
        {
            "globalShortcut": "Ctrl+Space",
            "mcpServers": {
                "filesystem": {
                    "command": "npx",
                    "args": ["-y", "@modelcontextprotocol/server-filesystem", "/srv"],
                    "env": {"LEVEL": "info"},
                }
            },
        }
    )
    assert servers(done) == {
        "filesystem": {
            "command": "npx",
            "args": ["-y", "@modelcontextprotocol/server-filesystem", "/srv"],
            "env": {"LEVEL": "info"},
        }
    }
    assert set(load(Path("hub.yaml")).servers) == {"filesystem"}


def test_claude_codes_file_keeps_its_defaults_and_says_what_is_left_out(imported: Import) -> None:
    done = imported(
        {
            "mcpServers": {
                "api": {
                    "type": "http",
                    "url": "${API_BASE_URL:-https://api.example}/mcp",
                    "headers": {"Authorization": "Bearer ${API_KEY}"},
                    "headersHelper": "/opt/headers.sh",
                },
                "signed": {"type": "http", "url": "https://s.example/mcp", "oauth": {"clientId": "c", "scopes": "a b"}},
                "old": {"type": "sse", "url": "https://o.example/sse"},
                "socket": {"type": "ws", "url": "wss://w.example"},
            }
        }
    )
    found = servers(done)
    assert found["api"] == {
        "type": "http",
        "url": "${API_BASE_URL:-https://api.example}/mcp",
        "headers": {"Authorization": "Bearer ${API_KEY}"},
    }
    assert found["signed"]["auth"] == {"type": "user_oauth", "client_id": "c", "scopes": ["a", "b"]}
    assert found["old"]["type"] == "sse"
    assert "socket" not in found
    assert "api.headersHelper has no counterpart" in done.stderr
    assert "socket is of type ws" in done.stderr
    assert "before the hub starts: API_KEY\n" in done.stderr


def test_a_plugins_servers_need_no_member_around_them(imported: Import) -> None:
    done = imported({"db": {"command": "${CLAUDE_PLUGIN_ROOT}/server", "args": []}})
    assert servers(done)["db"]["command"] == "${CLAUDE_PLUGIN_ROOT}/server"


@pytest.mark.parametrize("wrap", [lambda servers: servers, lambda servers: {"mcp": servers, "editor.tabSize": 4}])
def test_vs_codes_servers_and_inputs_come_in_from_mcp_json_and_settings_json(
    imported: Import, wrap: Callable[[Any], Any]
) -> None:
    done = imported(
        wrap(
            {
                "inputs": [
                    {"type": "promptString", "id": "api-key", "description": "API key", "password": True},
                    {"type": "pickString", "id": "zone", "options": ["eu", "us"], "default": "eu"},
                    {"type": "command", "id": "made", "command": "extension.make"},
                ],
                "servers": {
                    "search": {
                        "type": "stdio",
                        "command": "npx",
                        "args": ["-y", "server", "--zone=${input:zone}", "${input:made}"],
                        "env": {"API_KEY": "${input:api-key}"},
                        "envFile": "${workspaceFolder}/.env",
                        "sandboxEnabled": True,
                        "dev": {"watch": "src/**"},
                    }
                },
            }
        )
    )
    assert servers(done)["search"] == {
        "type": "stdio",
        "command": "npx",
        "args": ["-y", "server", "--zone=${ZONE:-eu}", "${MADE}"],
        "env": {"API_KEY": "${API_KEY}"},
        "envFile": "${WORKSPACE_FOLDER}/.env",
    }
    assert "the input api-key (API key) is the environment variable API_KEY: set it" in done.stderr
    assert "search.sandboxEnabled has no counterpart" in done.stderr


def test_npm_packages_of_the_registry_run_by_npx(imported: Import) -> None:
    variables = [
        {"name": "API_KEY", "description": "The key", "isRequired": True, "isSecret": True},
        {"name": "UNITS", "default": "celsius", "choices": ["celsius", "kelvin"]},
        {"name": "PROXY", "description": "A proxy"},
        {"name": "MODE", "value": "hub"},
    ]
    arguments = [
        {"type": "positional", "value": "start"},
        {"type": "positional", "valueHint": "data_dir", "isRequired": True, "format": "filepath"},
        {"type": "named", "name": "--port", "format": "number"},
        {"type": "named", "name": "--quiet"},
        {"type": "named", "name": "--place", "value": "{city}, ${HOME}", "variables": {"city": {"default": "Ulm"}}},
    ]
    of = package("npm", "@example/weather", environmentVariables=variables, packageArguments=arguments)
    done = imported(server_json(packages=[of], _meta={}))
    assert servers(done) == {
        "weather": {
            "command": "npx",
            "args": [
                *("-y", "@example/weather@1.0.2", "start", "${WEATHER_DATA_DIR}", "--quiet"),
                *("--place", "${WEATHER_CITY:-Ulm}, $${HOME}"),
            ],
            "env": {"API_KEY": "${API_KEY}", "UNITS": "${UNITS:-celsius}", "MODE": "hub"},
        }
    }
    assert "weather: API_KEY (The key) is the environment variable API_KEY: set it" in done.stderr
    assert "weather: UNITS (one of celsius, kelvin) is the environment variable UNITS, default celsius" in done.stderr
    assert "weather: PROXY (A proxy) is optional and left out" in done.stderr
    assert "weather: --port is optional and left out" in done.stderr
    assert "before the hub starts: WEATHER_DATA_DIR, API_KEY\n" in done.stderr
    assert "weather runs `npx -y @example/weather@1.0.2 start" in done.stderr


def test_pypi_packages_of_the_registry_run_by_uvx(imported: Import) -> None:
    done = imported(server_json(packages=[package("pypi", "weather-mcp-server", runtimeHint="uvx")]))
    assert servers(done) == {"weather": {"command": "uvx", "args": ["weather-mcp-server@1.0.2"]}}
    assert load(Path("hub.yaml")).servers["weather"].command == "uvx"


@pytest.mark.parametrize(
    ("members", "image"),
    [
        ({"identifier": "ghcr.io/example/weather:2.0", "version": None}, "ghcr.io/example/weather:2.0"),
        ({"identifier": "example/weather", "registryBaseUrl": "https://docker.io"}, "example/weather:1.0.2"),
        ({"identifier": "example/weather", "registryBaseUrl": "https://ghcr.io"}, "ghcr.io/example/weather:1.0.2"),
        ({"identifier": "host:5000/weather"}, "host:5000/weather:1.0.2"),
    ],
)
def test_images_of_the_registry_run_by_docker(imported: Import, members: dict[str, Any], image: str) -> None:
    mount = {
        "type": "named",
        "name": "--mount",
        "value": "type=bind,src={source},dst=/data",
        "variables": {"source": {"isRequired": True, "format": "filepath"}},
    }
    of = package("oci", "", runtimeHint="docker", runtimeArguments=[mount, {"type": "named", "name": "--rm"}]) | members
    of["environmentVariables"] = [{"name": "TOKEN", "isRequired": True, "isSecret": True}]
    found = servers(imported(server_json(packages=[of])))["weather"]
    assert found["command"] == "docker"
    assert found["args"] == [
        *("run", "-i", "--mount", "type=bind,src=${WEATHER_SOURCE},dst=/data", "--rm"),
        *("-e", "TOKEN", image),
    ]
    assert found["env"] == {"TOKEN": "${TOKEN}"}


def test_nuget_packages_of_the_registry_run_by_dnx(imported: Import) -> None:
    of = package("nuget", "Example.Weather", packageArguments=[{"type": "positional", "value": "mcp"}])
    assert servers(imported(server_json(packages=[of])))["weather"] == {
        "command": "dnx",
        "args": ["Example.Weather@1.0.2", "--yes", "--", "mcp"],
    }


def test_remotes_of_the_registry_come_first_with_headers_and_variables(imported: Import) -> None:
    headers = [
        {"name": "Authorization", "value": "Bearer {token}", "variables": {"token": {"isSecret": True}}},
        {"name": "X-Region", "default": "eu", "choices": ["eu", "us"]},
    ]
    done = imported(
        server_json(
            remotes=[
                {"type": "sse", "url": "https://w.example/sse"},
                {
                    "type": "streamable-http",
                    "url": "https://{tenant}.example/mcp/{other}",
                    "variables": {"tenant": {"description": "Your tenant", "isRequired": True}},
                    "headers": headers,
                },
            ],
            packages=[package("npm", "@example/weather")],
        )
    )
    assert servers(done) == {
        "weather": {
            "url": "https://${WEATHER_TENANT}.example/mcp/{other}",
            "headers": {"Authorization": "Bearer ${WEATHER_TOKEN}", "X-Region": "${WEATHER_X_REGION:-eu}"},
        }
    }
    assert "weather is also offered as https://w.example/sse" in done.stderr
    assert "weather is also offered as npm package @example/weather" in done.stderr
    assert "before the hub starts: WEATHER_TENANT, WEATHER_TOKEN\n" in done.stderr


def test_answers_of_the_registry_come_in_with_all_their_servers(imported: Import) -> None:
    old = {
        "name": "io.github.example/weather",
        "status": "deprecated",
        "description": "use another",
        "remotes": [{"transport_type": "sse", "url": "https://old.example/sse"}],
    }
    older = {
        "name": "org.example/files",
        "packages": [
            {
                "registry_type": "npm",
                "identifier": "@example/files",
                "version": "1.0.2",
                "package_arguments": [{"type": "positional", "value_hint": "dir", "is_required": True}],
            }
        ],
    }
    done = imported({"servers": [{"server": old, "_meta": {}}, {"server": older}], "metadata": {"count": 2}})
    assert servers(done) == {
        "weather": {"type": "sse", "url": "https://old.example/sse"},
        "files": {"command": "npx", "args": ["-y", "@example/files@1.0.2", "${FILES_DIR}"]},
    }
    assert "weather is deprecated: use another" in done.stderr
    assert "weather is given no credentials" in done.stderr


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        (package("mcpb", "https://x.example/a.mcpb"), "the hub knows npm, pypi, oci and nuget packages"),
        (package("npm", "a", transport={"type": "streamable-http", "url": "http://127.0.0.1/{port}"}), "start it"),
        ({"type": "carrier-pigeon", "url": "https://x.example"}, "its transport is carrier-pigeon"),
    ],
)
def test_a_server_that_the_hub_cannot_run_is_refused_with_the_reason(
    imported: Import, way: dict[str, Any], reason: str
) -> None:
    done = imported(server_json(remotes=[way]) if "url" in way else server_json(packages=[way]))
    assert done.exit_code == 1
    assert reason in done.output
    assert not Path("hub.yaml").exists()
