"""`make tables`: writes the tables of the docs from what was measured. A test fails when one is stale."""

from __future__ import annotations

import json
from pathlib import Path

from llm.providers.table import TABLE
from tests.bench.tables import markdown

DOCS = Path(__file__).parents[1] / "docs"


def benchmarks() -> str:
    """docs/benchmarks.md, from docs/benchmarks.json, which is a copy of what `make bench` wrote."""
    report = json.loads((DOCS / "benchmarks.json").read_text())
    return f"""# What a request costs

CPU time of the hub process for one request, and the same as a multiple of what an nginx proxy needs for the same bytes on the same core
in the same run. Key check, grant check, limit and usage record are on. How it is measured: [tests/bench](../tests/bench/README.md).

{markdown(report)}
"""


def providers() -> str:
    """docs/providers.md, from the table of providers."""
    rows = [
        f"| `{name}` | {row.base_url or 'yours: `base_url`'} | {f'`{row.key_variable}`' if row.key_variable else 'none'} |"
        for name, row in TABLE.items()
    ]
    return "\n".join(
        [
            "# Providers",
            "",
            "What `provider:` of a model may say. Each speaks OpenAI's chat completions; `base_url` and `api_key` of an entry win over",
            "the address and the variable here. Addresses are those of the providers' documentation and were not called from the tests.",
            "",
            "| provider | address | key |",
            "|---|---|---|",
            *rows,
            "| `offline` | in the hub | none |",
            "",
            "`offline` is no real model: it picks tools by matching words, fills simple arguments from the text and says the results in a",
            "sentence. It needs no network, labels its answers `[offline model]`, and is there for demos and tests.",
            "",
        ]
    )


PAGES = {"benchmarks.md": benchmarks, "providers.md": providers}


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())


if __name__ == "__main__":
    main()
