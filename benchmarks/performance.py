"""Every figure about speed and memory on one machine: all scripts one after the other, and their tables as one page.

    python benchmarks/performance.py --data PATH_TO_MNIST --results FOLDER

FOLDER/performance.json keeps what the scripts found, an object a line, and FOLDER/performance.md the table.  Started
again it goes on with the scripts that are missing.  Nothing else should run on the machine.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

SCRIPTS = (
    ("products.py", "--repeats", "7"),
    ("startup.py", "--repeats", "7"),
    ("factor.py", "--repeats", "1"),
    ("training.py", "--repeats", "1"),
    ("groups.py", "--methods", "first,second", "--repeats", "1", "--sample", "4"),
    ("retraining.py", "--groups", "52", "--peers", "1"),
    ("growth.py",),
    ("groups.py", "--methods", "newton", "--repeats", "1", "--sample", "4", "--groups", "250"),
    ("sparse.py", "--repeats", "3"),
    ("sparse.py", "--large"),
)
WITHOUT_DATA = ("sparse.py --large", "growth.py", "startup.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="MNIST as a folder of its IDX files, or any other data")
    parser.add_argument("--results", type=Path, required=True)
    chosen = parser.parse_args()
    chosen.results.mkdir(parents=True, exist_ok=True)
    kept = chosen.results / "performance.json"
    for script, *options in SCRIPTS:
        command = " ".join([script, *options])
        if command in (record["command"] for record in read(kept)):
            continue
        print(f"{command} ...", file=sys.stderr, flush=True)
        found = chosen.results / "found.json"
        found.unlink(missing_ok=True)
        data = () if command in WITHOUT_DATA else ("--data", chosen.data)
        path = Path(__file__).with_name(script)
        subprocess.run([sys.executable, path, *data, *options, "--json", found], check=True, stdout=sys.stderr)
        with kept.open("a", encoding="utf-8") as file:
            for line in read(found):
                file.write(json.dumps({"command": command} | line) + "\n")
        found.unlink(missing_ok=True)
    text = page(read(kept))
    (chosen.results / "performance.md").write_text(text, encoding="utf-8")
    print(text)


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def page(records: list[dict]) -> str:
    """The records as Markdown.  ``times`` is how many times less ours takes; of memory, how many times X it is."""
    lines = ["| script | what | ours | beside what | theirs | times | target |", "|---|---|---|---|---|---|---|"]
    for record in records:
        for row in record["rows"]:
            ours, theirs = (f"{number(row[key])} {row['unit']}".strip() for key in ("ours", "peer"))
            cells = (f"`{record['command']}`", row["what"], ours, row["beside"], theirs, f"{row['ratio']:.3g}")
            lines.append("| " + " | ".join((*cells, row["target"])) + " |")
    machines = dict.fromkeys(record["environment"] for record in records)
    return "\n".join([*lines, "", *machines]) + "\n"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    main()
