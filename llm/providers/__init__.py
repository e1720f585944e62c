"""Where models run: a table of OpenAI-compatible services and the offline model."""
