"""Write ``sample_data/strikes.csv``: reports of animals struck by aircraft, of the years 2000 to 2002.

    curl -LO https://raw.githubusercontent.com/vega/vega-datasets/main/data/birdstrikes.csv
    python sample_data/make_strikes.py birdstrikes.csv [FILE]

The rows are those of the source that report a speed, in its order.
"""

import csv
import sys
from pathlib import Path

FIRST_YEAR = "2000"
COLUMNS = {
    "airport": "Airport Name",
    "operator": "Aircraft Airline Operator",
    "phase": "Phase of flight",
    "size": "Wildlife Size",
    "light": "Time of day",
    "speed": "Speed IAS in knots",
}
DAMAGE = "Effect Amount of damage"


def main(source: Path, target: Path) -> None:
    """The table in ``target``, the same bytes on every run."""
    with (
        source.open(encoding="utf-8", newline="") as file,
        target.open("w", encoding="utf-8", newline="") as made,
    ):
        writer = csv.writer(made, lineterminator="\n")
        writer.writerow(["report", *COLUMNS, "damaged"])
        for number, row in enumerate(csv.DictReader(file), 1):
            if row["Flight Date"] >= FIRST_YEAR and row[COLUMNS["speed"]]:
                values = [row[name] for name in COLUMNS.values()]
                writer.writerow([number, *values, int(row[DAMAGE] != "None")])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent / "strikes.csv")
