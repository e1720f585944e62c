"""OpenAPI documents as MCP servers: each operation of a document is a tool."""
