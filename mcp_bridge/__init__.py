"""MCP: names, views, upstream connections and the one call of a tool. Knows no model and no web framework."""
