"""An MCP server made with the official SDK, over Streamable HTTP: keeps short notes in memory.

Run it alone with `python -m examples.notes_server --port 10002`; it answers at /mcp.
"""

from __future__ import annotations

import argparse

from mcp.server.mcpserver import MCPServer

server = MCPServer("notes", log_level="WARNING")
_notes: list[str] = []


@server.tool()
def add_note(text: str) -> str:
    """Write down a note."""
    _notes.append(text)
    return f"Note {len(_notes)} written: {text}"


@server.tool()
def list_notes() -> list[str]:
    """List all notes."""
    return list(_notes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=10002)
    server.run(transport="streamable-http", port=parser.parse_args().port)
