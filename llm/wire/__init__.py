"""Wire formats of the LLM doors, as pure functions."""
