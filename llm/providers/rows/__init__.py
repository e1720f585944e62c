"""The table of providers, by what kind of service they are."""
