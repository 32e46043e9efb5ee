"""Whole processes: ginf --help and ginf influence on the cached digits model, beside importing NumPy and SciPy alone.

python benchmarks/startup.py
"""

import subprocess
import sys
import tempfile

from harness import Report, in_turn, options

if __name__ == "__main__":
    chosen = options(__doc__).parse_args()
    report = Report("Start-up, whole processes", chosen)
    with tempfile.TemporaryDirectory() as folder:

        def python(*arguments: str):
            return lambda: subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)

        ginf = ("-m", "influence_cli")
        question = (*ginf, "influence", "--group", "coherent:3", "--test", "17")
        python(*question)()
        times = in_turn(
            chosen.repeats,
            help=python(*ginf, "--help"),
            influence=python(*question),
            imports=python("-c", "import numpy, scipy.linalg"),
        )
    report.add("ginf --help", times["help"], times["imports"], "import numpy, scipy.linalg", "under 0.35 s")
    target = ">= 0.4, under 1.5 s"
    report.add("ginf influence", times["influence"], times["imports"], "import numpy, scipy.linalg", target)
    report.finish()
