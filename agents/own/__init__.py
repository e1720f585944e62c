"""Agents that are made here: a model, a text and tools, answering A2A in the place of an agent elsewhere."""
