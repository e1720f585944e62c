"""The command line. Each command is a module that is imported when it is called: `hubbub --help` stays quick."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "serve": ("hub.cli.serve", "Run the hub."),
    "check": ("hub.cli.check", "Validate hub.yaml and print every fault."),
    "doctor": ("hub.cli.doctor", "Probe the database, agents, MCP servers and models."),
    "keys": ("hub.cli.keys", "Make, list, rotate and revoke API keys."),
    "users": ("hub.cli.users", "Make, list, change and delete users."),
    "teams": ("hub.cli.teams", "Make, list, change and delete teams, and say who is in them."),
    "secrets": ("hub.cli.secrets", "Show under which key stored secrets are sealed, and seal them anew."),
    "audit": ("hub.cli.audit", "Read and check the audit log."),
    "usage": ("hub.cli.usage", "Sum calls, errors, tokens and cost, by any dimension."),
    "explain": ("hub.cli.explain", "Say why a key may call something or not."),
    "agents": ("hub.cli.lists", "List agents."),
    "mcp": ("hub.cli.lists", "List MCP servers."),
    "models": ("hub.cli.lists", "List models."),
    "tools": ("hub.cli.lists", "List tools."),
    "toolsets": ("hub.cli.lists", "List toolsets."),
    "prices": ("hub.cli.prices", "Fetch what models cost now."),
    "import": ("hub.cli.imports", "Turn mcp.json or LiteLLM's config.yaml into hub.yaml."),
    "migrate": ("hub.cli.migrate", "Bring the database's schema to head."),
}
"""Each command's module and what `--help` says of it. The module has it as `{name}_command`."""


class _Commands(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hubbub")
def main() -> None:
    """One hub through which every agent, tool and model is reached."""
