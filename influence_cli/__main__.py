"""``ginf`` and ``python -m influence_cli``: signals are handled from the first line on, before slow imports."""

from __future__ import annotations

import sys

from influence_cli import process


def main() -> None:
    """Entry point."""
    process.prepare()
    process.watch_signals(_clean_up)
    from influence_cli.cli import main as run

    try:
        run()
    except SystemExit as end:
        process.leave(end.code)


def _clean_up() -> None:
    """Remove what a run leaves if it ends without unwinding: its temporary files, and a hidden cursor."""
    lock = sys.modules.get("influence_cli.artifacts.lock")
    if lock is not None:
        lock.remove_ours()
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[2K\x1b[?25h")  # the line of a progress bar, and the cursor that it hides
        sys.stderr.flush()


if __name__ == "__main__":
    main()
