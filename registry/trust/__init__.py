"""What MCP servers list, what of it was approved, what is suspicious in it."""
