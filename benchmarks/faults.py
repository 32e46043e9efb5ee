"""Damage, signals and odd surroundings, counted: what docs/reliability.md shows.

    python benchmarks/faults.py [--seed N] [--scale 1.0] [CAMPAIGN ...]

Every case is a function of the seed and its number; findings are printed with both.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

# In place of this folder, whose sparse.py would be taken for the package of that name.
sys.path[:1] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "tests")]

from fuzz import campaigns, endings  # noqa: E402
from fuzz.harness import Tally  # noqa: E402

COUNTS = {
    "bytes": 14_000,
    "edits": 2_000,
    "signed": 1_000,
    "data": 2_000,
    "command_lines": 1_000,
    "signals": 640,
    "surroundings": 300,
}
"""Cases of each campaign: 20,000 mutated inputs, of them 2,000 edits with right checksums; signals, of which four in
five come before the run is over; surroundings."""
HEADINGS = (
    *("campaign", "cases", "ended with 0", "refused (2 to 5)", "ended by the signal", "not as they should"),
    *("longest", "most memory", "campaign took"),
)


def run(name: str, seed: int, count: int) -> Tally:
    """One campaign in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        if name in ("bytes", "edits", "signed"):
            return campaigns.artifacts(Path(folder), seed, range(count), name)
        campaign = getattr(campaigns, name, None) or getattr(endings, name)
        return campaign(Path(folder), seed, range(count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaigns", nargs="*", default=list(COUNTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the cases to run")
    asked = parser.parse_args()
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    found: list[str] = []
    for name in asked.campaigns:
        started = time.monotonic()
        tally = run(name, asked.seed, max(1, int(COUNTS[name] * asked.scale)))
        ends = tally.ends
        refused = sum(ends[f"exit {code}"] for code in (2, 3, 4, 5))
        by_signal = sum(ends[f"exit {code}"] for code in (129, 130, 143, -9))
        print(
            f"| {tally.name} | {tally.runs:,} | {ends['exit 0']:,} | {refused:,} | {by_signal:,} | {len(tally.found)}"
            f" | {tally.seconds:.1f} s | {tally.memory >> 20} MiB | {time.monotonic() - started:.0f} s |",
            flush=True,
        )
        found += tally.found
    print(f"\nseed {asked.seed}; findings: {len(found)}")
    for one in found:
        print(" ", one)


if __name__ == "__main__":
    main()
