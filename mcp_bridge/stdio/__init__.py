"""MCP servers over stdio: child processes that a supervisor of their own keeps, for every process of one hub."""
