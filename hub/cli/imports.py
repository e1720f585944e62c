"""`hubbub import`: other programs' configuration as hub.yaml sections, printed or written into the file."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path

import click
import yaml

from hub.cli import litellm_yaml as litellm
from hub.cli import mcp_json, server_json
from hub.cli.common import told
from hub.settings import DEFAULT_FILE
from registry.declared.config import ConfigInvalid, Fault
from registry.declared.source import parse

_NEEDED = re.compile(r"(?<!\$)\$\{(?:env:)?([A-Za-z_]\w*)\}", re.ASCII)


@click.command("import")
@click.argument("source", nargs=-1, required=True, metavar="mcp.json | server.json | litellm config.yaml")
@click.option("--write", is_flag=True, help="Write the sections into hub.yaml instead of printing them.")
@click.option("--config", type=click.Path(path_type=Path), default=DEFAULT_FILE, help="The file that --write extends.")
def import_command(source: tuple[str, ...], write: bool, config: Path) -> None:
    """Turn mcp.json (Cursor, Claude, VS Code), the MCP registry's server.json, or LiteLLM's config.yaml, into hub.yaml sections.

    What has no counterpart is named on stderr and left out.
    """
    is_litellm = len(source) > 1 and source[0] == "litellm"
    if len(source) != 1 + is_litellm:
        raise click.UsageError("Write `hubbub import mcp.json` or `hubbub import litellm config.yaml`.")
    path = Path(source[-1])
    with told():
        text = _text(path)
        sections, notes = (litellm.sections if is_litellm else _of_mcp)(text, str(path))
        for note in notes:
            click.echo(f"note: {note}", err=True)
        if not sections:
            raise click.ClickException(f"{path} holds nothing that hub.yaml has a place for.")
        needed = dict.fromkeys(_NEEDED.findall(dump(sections)))
        if needed:
            click.echo(f"Set these environment variables before the hub starts: {', '.join(needed)}", err=True)
        if write:
            _write(config, sections)
            click.echo(f"{config} is extended; `hubbub check` says whether it is complete.", err=True)
        else:
            click.echo(dump(sections), nl=False)


def _of_mcp(text: str, file: str) -> tuple[dict[str, object], list[str]]:
    top = mcp_json.read_json(text, file)
    return server_json.sections(top, file) if server_json.is_one(top) else mcp_json.sections(top, file)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigInvalid((Fault(str(path), 1, f"cannot be read: {error.strerror}"),)) from None
    except UnicodeDecodeError:
        raise ConfigInvalid((Fault(str(path), 1, "is not UTF-8 text"),)) from None


def dump(sections: dict[str, object]) -> str:
    """Write sections as YAML, in their order."""
    return yaml.safe_dump(sections, sort_keys=False, allow_unicode=True, width=1000)


def _write(path: Path, sections: dict[str, object]) -> None:
    target = path.resolve()
    old = _text(target) if target.exists() else ""
    new = extend(old, sections, str(path))
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600  # it may hold credentials
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(new)
    Path(temporary).chmod(mode)
    Path(temporary).replace(target)  # at once: a running hub never reads half a file


def extend(text: str, sections: dict[str, object], file: str) -> str:
    """Add `sections` to hub.yaml's text, leaving every line that is there as it is.

    Raises:
        ConfigInvalid: the text is not YAML, has one of the names already, or is not written one member a line.
    """
    source = parse(text, file)
    if source.faults:
        raise ConfigInvalid(tuple(source.faults))
    present = source.value if isinstance(source.value, dict) else {}
    faults = [
        Fault(file, source.line((section, name)), f"{section}.{name} is there already")
        for section, members in sections.items()
        for name in _members(members).keys() & _members(present.get(section)).keys()
    ]
    if faults:
        raise ConfigInvalid(tuple(faults))
    for section, members in sections.items():
        text = _extended(text, section, members, file)
    return text


def _members(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _extended(text: str, section: str, members: object, file: str) -> str:
    if text and not text.endswith("\n"):
        text += "\n"
    top = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = {key.value: (key, value) for key, value in top.value} if isinstance(top, yaml.MappingNode) else {}
    if top is not None and (not isinstance(top, yaml.MappingNode) or top.flow_style):
        raise ConfigInvalid((Fault(file, 1, "is not written one member a line; add the printed sections by hand"),))
    if section not in pairs:
        return f"{text}\n{dump({section: members})}" if text else dump({section: members})
    key, value = pairs[section]
    if not isinstance(value, yaml.MappingNode) or value.flow_style or not value.value:
        line = key.start_mark.line + 1
        raise ConfigInvalid((Fault(file, line, f"{section} is not written one member a line; add by hand"),))
    lines = text.splitlines(keepends=True)
    indent = " " * value.value[0][0].start_mark.column
    at = value.end_mark.line
    while at > 0 and (not lines[at - 1].strip() or lines[at - 1].lstrip().startswith("#")):
        at -= 1  # comments and blank lines before the next section belong to it
    added = [
        f"{indent}{line}"
        for line in yaml.safe_dump(members, sort_keys=False, allow_unicode=True, width=1000).splitlines(keepends=True)
    ]
    return "".join((*lines[:at], *added, *lines[at:]))
