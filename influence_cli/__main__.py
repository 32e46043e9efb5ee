"""``ginf`` and ``python -m influence_cli``: nothing is imported before an interrupt is answered as anywhere else."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point."""
    try:
        from influence_cli.cli import main as run
    except KeyboardInterrupt:
        print("ginf: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
