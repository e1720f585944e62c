"""Agents: the A2A wire, cards, the task ledger and the one call of an agent. Knows no MCP and no web framework."""
