"""The tables, by room. Children point to parents by value; owners are principal ids, never names."""

from registry.store.tables import (  # noqa: F401  # whoever imports one registers all
    auditing,
    callers,
    declared,
    hub,
    ledger,
    rules,
    sealed,
    spending,
    trust,
)
