"""An MCP server, by the official SDK, whose tool takes one of few words: a grammar leaves a small model no other."""

from __future__ import annotations

from typing import Literal

from mcp.server.mcpserver import MCPServer

server = MCPServer("painter", log_level="WARNING")


@server.tool()
def paint(colour: Literal["red", "green", "blue"]) -> str:
    """Paint the door."""
    return f"The door is {colour} now."


if __name__ == "__main__":
    server.run()
