"""FastMCP's own proxy in front of an MCP server, as its documentation makes one. Runs in an environment with FastMCP: URL PORT."""

from __future__ import annotations

import sys

from fastmcp.server import create_proxy

if __name__ == "__main__":
    proxy = create_proxy(sys.argv[1], name="bench")
    options = {"access_log": False}
    proxy.run("http", host="127.0.0.1", port=int(sys.argv[2]), uvicorn_config=options, show_banner=False)
