"""Streams and terminals: processes in the surroundings that users start them in."""

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import chdir, suppress
from pathlib import Path

import numpy as np
import pytest
from cli_tools import GINF, environment, ginf, preloaded, save_blobs, train, wait_for

from influence_cli.cli import run

MANY = ("--group", "random:5x300", "--test", "all", "--quiet")
FEW = ("--group", "random:5", "--test", "1", "--quiet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    train(save_blobs(folder / "blobs.npz"), folder / "ginf.h5")
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    done = ginf("influence", *FEW, cwd=folder)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    return done.stdout


def shell(command: str, folder):
    """A shell's command line, in which ``$ginf`` is the program, and ``$started`` one that nobody has preloaded."""
    done = subprocess.run(
        ["bash", "-c", f"ginf='{' '.join(preloaded())}'; started='{' '.join(GINF)}'; {command}"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("format", ["csv", "json", "ndjson", "table"])
def test_a_closed_pipe_ends_quietly(folder, format):
    code, out, err = shell(f"set -o pipefail; $ginf influence {' '.join(MANY)} --format {format} | head -n 1", folder)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1


def test_a_closed_pipe_for_help_and_for_notes(folder):
    assert shell("set -o pipefail; $ginf influence --help | true", folder)[::2] == (0, "")
    code, out, err = shell("$ginf influence --group random:5 --test 1 2> >(true)", folder)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 2, "the results do not depend on who reads the notes"


def test_closed_streams(folder, expected):
    asked = f"$ginf influence {' '.join(FEW)}"
    assert shell(f"{asked} <&-", folder) == (0, expected, "")
    assert shell(f"{asked} >&-", folder) == (0, "", "")
    assert shell(f"{asked} 2>&-", folder) == (0, expected, "")
    assert shell(f"{asked} <&- >&- 2>&-", folder) == (0, "", "")
    assert shell(f"$started{asked.removeprefix('$ginf')} <&- >&- 2>&- -o closed.h5", folder) == (0, "", "")
    assert shell("$ginf influence --group rows:@- --test 1 <&-", folder) == (
        2, "", "ginf: error: standard input holds no row numbers: the group is empty\n")  # fmt: skip
    with chdir(folder):
        assert run(["influence", *FEW, "-o", "open.h5"]) == 0
    sizes = {(folder / name).stat().st_size for name in ("closed.h5", "open.h5")}
    assert len(sizes) == 1, "no output went into the file that took a stream's number"


@pytest.fixture(scope="module")
def compared(folder):
    """The folder with estimates and truth to compare."""
    with chdir(folder):
        for command, name in (("influence", "i.h5"), ("groundtruth", "t.h5")):
            assert run([command, "--group", "random:20%x8", "--test", "0:3", "-o", name, "--quiet"]) == 0
    return folder


@pytest.mark.parametrize("format", ["csv", "json", "ndjson", "table"])
def test_a_failed_check_is_one_whether_somebody_reads_or_not(compared, format):
    asked = f"compare i.h5 t.h5 --fail-under first=0.999999 --bootstrap 0 --quiet --format {format}"
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(
        [*preloaded(), *asked.split()], cwd=compared, env=environment(), stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert err.startswith("ginf: error: correlation over all groups (--fail-under): first has ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_every_byte_goes_through_the_stream_that_answers_full_disks(folder):
    for asked in ("--version", "--help", "train --help", "select --test 0 --size 3 --format rows --quiet"):
        code, _, err = shell(f"$ginf {asked} >/dev/full", folder)
        assert code == 3, asked
        assert err == "ginf: error: cannot write the results to standard output: no space left on device\n"


def test_a_pipe_that_does_not_block_gets_everything(folder):
    read, write = os.pipe()
    os.set_blocking(write, False)
    process = subprocess.Popen([*preloaded(), "influence", *MANY], cwd=folder, env=environment(), stdout=write)
    os.close(write)
    wait_for(lambda: waiting_in(read) > 60_000)  # of 65,536: the pipe is full
    time.sleep(0.3)
    with os.fdopen(read) as lines:
        assert len(lines.readlines()) == 1 + 300 * 12
    assert process.wait(timeout=30) == 0


def waiting_in(pipe: int) -> int:
    """Bytes that were written and not read yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_folder_that_has_vanished(folder, tmp_path):
    model = folder / "ginf.h5"
    asked = f"mkdir gone; cd gone; rmdir ../gone; $started influence --model {model} {' '.join(FEW)}"
    code, _, err = shell(f"{asked} -o x.h5", tmp_path)
    assert code == 3
    assert err.startswith("ginf: error: ") and "no such file or directory" in err
    code, _, err = shell(asked, tmp_path)
    assert code in (0, 3) and "Traceback" not in err


def test_control_characters_are_escaped_in_messages(folder):
    done = ginf("influence", "--model", "a\x1b[2J\nb.h5", *FEW, cwd=folder)
    assert done.returncode == 3
    assert done.stderr.startswith("ginf: error: there is no file a\\x1b[2J\\nb.h5\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_the_output(folder):
    code, _, err = shell(f"$ginf influence {' '.join(FEW)} -o kept.h5 >/dev/full", folder)
    assert code == 3
    assert err == "ginf: error: cannot write the results to standard output: no space left on device\n"
    assert (folder / "kept.h5").exists()


@pytest.fixture(scope="module")
def snowy(tmp_path_factory):
    """A folder with a model one of whose classes no ASCII terminal can name."""
    folder = tmp_path_factory.mktemp("snowy")
    X, y = np.random.default_rng(0).normal(size=(40, 2)), np.where(np.arange(40) % 2, "kalt\N{SNOWMAN}", "warm")
    np.savez(folder / "d.npz", X=X, y=y)
    train(str(folder / "d.npz"), folder / "ginf.h5")
    return folder


@pytest.mark.parametrize(
    ("changes", "format"),
    [
        ({"LC_ALL": "C"}, "csv"),
        ({"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, "table"),
        ({"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, "csv"),
        ({"LC_ALL": None, "LANG": "tr_TR.UTF-8"}, "table"),
        ({"LC_ALL": None, "LANG": "de_DE.ISO-8859-1", "PYTHONIOENCODING": "latin-1"}, "table"),
        ({"LC_ALL": None, "LANG": "de_DE.ISO-8859-1", "PYTHONIOENCODING": "latin-1"}, "csv"),
    ],
    ids=str,
)
def test_any_locale_takes_any_text(snowy, changes, format):
    asked = ("influence", "--group", "coherent:*:3", "--test", "1", "--quiet", "--format", format)
    done = ginf(*asked, cwd=snowy, **changes)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search("kalt(\N{SNOWMAN}|\\\\u2603):3", done.stdout)


def test_an_error_in_any_locale(snowy):
    done = ginf("influence", "--group", "coherent:\N{SNOWMAN}", "--test", "1", cwd=snowy, PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.startswith("ginf: error: group 'coherent:\\u2603': expected one of the 2 classes (kalt\\u2603")


def test_a_file_name_that_is_no_text(tmp_path):
    name = b"\xe9\xff.h5"
    data = save_blobs(tmp_path / "b.npz")
    done = subprocess.run(
        [*GINF, "train", "--data", data, "-o", name], cwd=tmp_path, env=environment(), capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / os.fsdecode(name)).exists()


def on_terminal(folder, *arguments, output=True, **changes):
    """Exit code, what a terminal got from stderr (and stdout), and what a file got from stdout."""
    master, slave = pty.openpty()
    shown = b""
    with tempfile.TemporaryFile() as file:
        process = subprocess.Popen(
            [*preloaded(), *arguments], cwd=folder,
            env=environment(**{"TERM": "xterm-256color", "COLUMNS": "100"} | changes),
            stdin=slave, stdout=slave if output else file, stderr=slave,
        )  # fmt: skip
        os.close(slave)
        with suppress(OSError):  # that the last writer has left
            while select.select([master], [], [], 30)[0]:
                shown += os.read(master, 65536)
        os.close(master)
        code = process.wait(timeout=30)
        file.seek(0)
        return code, shown.decode().replace("\r\n", "\n"), file.read().decode()


def test_a_terminal_gets_a_table_and_is_left_as_it_was(folder):
    code, shown, _ = on_terminal(
        folder, "influence", "--group", "random:20x2000", "--test", "all", "--method", "newton"
    )
    assert code == 0
    assert "Change of the loss if the group is removed; positive: the group helped" in shown
    assert "estimating" in shown, "there was a bar"
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") > 0, "the cursor is back"
    assert "estimating" not in shown.rpartition("\x1b[2K")[2], "the bar is gone"
    assert "\x1b[1m" in shown


@pytest.mark.parametrize(
    ("options", "changes"), [(["--no-color"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"})]
)
def test_no_colour_where_none_is_wanted(folder, options, changes):
    code, shown, _ = on_terminal(folder, "influence", *FEW, *options, **changes)
    assert code == 0
    assert shown.startswith("Change of the loss")
    assert "\x1b" not in shown


def test_a_pipe_gets_csv_while_the_terminal_gets_the_notes(folder, expected):
    code, shown, piped = on_terminal(
        folder, "influence", "--group", "random:5", "--test", "1", "--verbose", output=False
    )
    assert (code, piped) == (0, expected)
    assert "reusing the factor cached in ginf.h5" in shown


def test_quiet_shows_no_bar(folder):
    code, shown, piped = on_terminal(folder, "influence", *MANY, output=False)
    assert (code, shown) == (0, "")
    assert len(piped.splitlines()) == 1 + 300 * 12
