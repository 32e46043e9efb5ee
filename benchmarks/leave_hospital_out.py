"""Leave-hospital-out risk of 20 hospitals: estimated from one factor, beside a refit without each hospital.

python benchmarks/leave_hospital_out.py > benchmarks/results/leave-hospital-out.md

Ends with 1 where an estimate's changes correlate with the refits' by less than .99.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

HOSPITALS, PATIENTS = 20, 2000
METHODS = ("first", "second", "newton", "refined")


def save(path: Path) -> None:
    """Patients whose risk depends on age, dose, severity and the hospital: so much less is known of a new one."""
    rng = np.random.default_rng(0)
    own, slope = rng.normal(scale=0.8, size=HOSPITALS), rng.normal(scale=0.5, size=HOSPITALS)
    at = rng.choice(HOSPITALS, PATIENTS, p=rng.dirichlet(np.full(HOSPITALS, 3.0)))
    age, dose, severity = rng.normal(60, 12, PATIENTS), rng.gamma(2.0, 1.0, PATIENTS), rng.normal(size=PATIENTS)
    eta = 0.04 * (age - 60) - 0.4 * (dose - 2) + (0.8 + slope[at]) * severity + own[at]
    ill = eta + rng.logistic(size=PATIENTS) > 0
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("hospital", "age", "dose", "severity", "ill"))
        for row in zip(at, age.round(1), dose.round(3), severity.round(3), ill.astype(int), strict=True):
            writer.writerow((f"H{row[0]:02d}", *row[1:]))


def records(folder: Path) -> list[dict]:
    """One a hospital: the loss of its own patients, and its change where it is left out."""

    def ginf(*arguments: str) -> str:
        command = [sys.executable, "-m", "influence_cli", *arguments, "--quiet"]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout

    save(folder / "patients.csv")
    ginf(
        "train", "--data", "patients.csv", "--label", "ill", "--drop", "hospital", "--test-fraction", "0", "-o", "m.h5"
    )
    asked = ("--group", "by:hospital", "--test", "removed", "--method", ",".join(METHODS), "--verify")
    return json.loads(ginf("influence", "--model", "m.h5", *asked, "--format", "json"))


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        found = records(Path(folder))
    size, base, actual = (np.array([one[key] for one in found]) for key in ("size", "base", "actual"))
    print(f"# Leave-hospital-out risk of {HOSPITALS} hospitals, {PATIENTS:,} patients\n")
    print("`python benchmarks/leave_hospital_out.py`: mean loss of a hospital's own patients, by the model of all")
    print("hospitals, and by one that has never seen it: estimated, and refitted.\n")
    print(
        f"In-sample {size @ base / size.sum():.4f}; never seen, refitted {size @ (base + actual) / size.sum():.4f}.\n"
    )
    print("| estimate | risk over all patients | largest error of a hospital | correlation with the refits' changes |")
    print("|---|---|---|---|")
    worst = 1.0
    for method in METHODS:
        change = np.array([one[method] for one in found])
        error, alike = np.abs(change - actual).max(), np.corrcoef(change, actual)[0, 1]
        worst = min(worst, alike)
        print(f"| {method} | {size @ (base + change) / size.sum():.4f} | {error:.1e} | {alike:.6f} |")
    sys.exit(int(worst < 0.99))
