"""Models: providers, the tool loop and the one call of a model. Knows no MCP and no web framework."""
