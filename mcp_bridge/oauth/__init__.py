"""The hub as an OAuth 2.1 client of MCP servers."""
