"""`python -m tests.bench`: what a request costs the hub, in multiples of what it costs nginx. See README.md."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.bench.run import Void, measure
from tests.bench.tables import markdown


def main() -> int:
    """Measure, print, write; exit 1 when the run is void."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each measurement loads")
    parser.add_argument(
        "--only", default="", help="a word of the names of cases, or gate; the report is of these alone"
    )
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hubbub-bench-") as directory:
        try:
            report = measure(Path(directory), rounds=options.rounds, seconds=options.seconds, only=options.only)
        except Void as reason:
            print(f"void: {reason}", file=sys.stderr)
            return 1
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(report))
    print(f"written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
