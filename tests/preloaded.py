"""``ginf`` as a process of its own in a hundredth of the time: forked from one that has imported the package.

``python preloaded.py SOCKET`` waits for ``preloaded_client.py`` at a socket, until its own standard input ends.  What a
client is given is what its run gets: arguments, folder, environment and the descriptors 0, 1 and 2, of which some may
be closed; the client ends with the run's exit code.  What happens while the interpreter starts and imports, what it is
told by the environment (such as the encoding of streams), limits that the parent has set and signals need
``cli_tools.GINF``, which is a real start.
"""

from __future__ import annotations

import array
import io
import json
import os
import select
import socket
import sys
from contextlib import redirect_stderr, suppress
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages


def serve(place: str) -> None:
    """Run what clients ask for, each in a fork, as long as whoever started this lives."""
    _load()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if os.fork() == 0:
                listener.close()
                _supervise(connection)
            connection.close()
    Path(place).unlink()
    Path(place).parent.rmdir()


def _load() -> None:
    """All of the package, and what Typer loads at its first command line; nothing that starts threads is used."""
    import influence_cli
    from influence_cli.cli import run

    for module in walk_packages(influence_cli.__path__, "influence_cli."):
        if ".engines" not in module.name and not module.name.endswith("__main__"):
            import_module(module.name)
    with redirect_stderr(io.StringIO()):
        run(["show", "nothing.h5"])


def _supervise(connection: socket.socket) -> None:
    """Let a fork run, and tell the client how it ended."""
    content, descriptors = _received(connection)
    child = os.fork()
    if child == 0:
        connection.close()
        _run(json.loads(content), descriptors)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(b"%d" % code)
    os._exit(0)


def _received(connection: socket.socket) -> tuple[bytes, list[int]]:
    """The request, which ends with the client's half of the connection, and the descriptors that came with it."""
    found = array.array("i")
    content, extra, _, _ = connection.recvmsg(65536, socket.CMSG_LEN(3 * found.itemsize))
    for _, _, data in extra:
        found.frombytes(data)
    while piece := connection.recv(65536):
        content += piece
    return content, list(found)


def _run(asked: dict, descriptors: list[int]) -> None:
    """In the fork, as the interpreter would start it: never returns."""
    given = dict(zip(asked["open"], (os.dup2(one, 10 + at) for at, one in enumerate(descriptors)), strict=True))
    for number in range(3):
        if number in given:
            os.dup2(given[number], number)
        else:
            os.close(number)
    os.closerange(3, 64)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = open(number, "w" if number else "r", closefd=False) if number in given else None  # noqa: SIM115
        setattr(sys, name, stream)
    sys.argv = ["ginf", *asked["arguments"]]
    from influence_cli.__main__ import main

    try:
        main()
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(1)  # main ends the process itself


if __name__ == "__main__":
    serve(sys.argv[1])
