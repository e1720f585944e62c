"""Ground: vocabulary, entries, catalog, access, gate, store, secrets and the one way out. Knows no protocol and no web framework."""
