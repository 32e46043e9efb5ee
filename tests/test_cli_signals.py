"""Signals that end a run, at any moment: what is said, what is kept, and how soon."""

import signal
import subprocess
import sys
import time

import pytest
from cli_tools import GINF, environment, leftovers, save_blobs, train, wait_for

from influence_cli.artifacts import atomic
from influence_cli.cli import run

FEW = ("--group", "random:5", "--test", "1", "--quiet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    train(save_blobs(folder / "blobs.npz"), folder / "ginf.h5")
    return folder


def start(folder, *arguments, **options):
    return subprocess.Popen(
        [*GINF, *arguments], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **options,
    )  # fmt: skip


ENDLESS = (
    "influence",
    "--group",
    "random:30x60000",
    "--test",
    "all",
    "--method",
    "newton",
    "-o",
    "never.h5",
    "--verbose",
)


NOTHING = "nothing is kept; the same command starts anew\n"


@pytest.mark.parametrize(("sent", "code", "says"), [
    (signal.SIGINT, 130, f"ginf: interrupted: {NOTHING}"),
    (signal.SIGTERM, 143, f"ginf: terminated (SIGTERM): {NOTHING}"),
    (signal.SIGHUP, 129, f"ginf: ended by a hang-up (SIGHUP): {NOTHING}"),
])  # fmt: skip
def test_a_signal_while_computing(folder, sent, code, says):
    process = start(folder, *ENDLESS)
    assert process.stderr.readline().startswith("ginf: solver cholesky")  # the model is open, the work begins
    time.sleep(0.3)
    process.send_signal(sent)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (code, "", says)
    assert not (folder / "never.h5").exists()
    assert not leftovers(folder)


WRITING = """
import os, signal, sys, time
from influence_cli.artifacts import atomic
whole = atomic.Sink._write_all
def slow(self, view):
    whole(self, view)
    if not os.path.exists("seen"):
        open("seen", "w").close()
        time.sleep(60)
atomic.Sink._write_all = slow
from influence_cli.__main__ import main
sys.argv = ["ginf", "influence", "--group", "random:5", "--test", "1", "--quiet", "-o", "result.h5", "--force"]
main()
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_while_writing_keeps_the_old_file(folder, tmp_path, monkeypatch, sent):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ginf.h5").write_bytes((folder / "ginf.h5").read_bytes())
    assert run(["influence", *FEW, "-o", "result.h5"]) == 0
    before = (tmp_path / "result.h5").read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING], cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: (tmp_path / "seen").exists())
    process.send_signal(sent)
    sent_at = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - sent_at < 3, "a write that hangs is not waited for"
    assert process.returncode == (-9 if sent == signal.SIGKILL else 128 + sent)
    assert err.endswith("" if sent == signal.SIGKILL else NOTHING)
    assert (tmp_path / "result.h5").read_bytes() == before
    assert bool(leftovers(tmp_path)) == (sent == signal.SIGKILL)
    atomic._swept.clear()  # the next process would not have looked here yet
    again = run(["influence", *FEW, "-o", "result.h5", "--force"])
    assert again == 0, "what a killed run left behind stands in nobody's way"
    assert not leftovers(tmp_path), "and the next run removes it"


def test_a_second_signal_ends_at_once(folder):
    process = start(folder, *ENDLESS, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert process.stderr.readline().startswith("ginf: solver cholesky")
    process.send_signal(signal.SIGSTOP)  # so that both wait for it
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    sent_at = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - sent_at < 1
    assert process.returncode in (130, 143)
    assert err.count(NOTHING) == 1


def test_a_hang_up_that_is_ignored_ends_nothing(folder):
    process = start(folder, *ENDLESS, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert process.stderr.readline().startswith("ginf: solver cholesky")
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130


STUCK = """
import time
from influence_cli.present import records
records.write_records = lambda *args, **kw: (print("stuck", flush=True), time.sleep(60))  # never looks at a flag
from influence_cli.__main__ import main
import sys
sys.argv = ["ginf", "influence", "--group", "random:5", "--test", "1", "--quiet"]
main()
"""


def test_a_run_that_does_not_look_ends_all_the_same(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK], cwd=folder, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "stuck\n"
    sent_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - sent_at < 2
    assert (process.returncode, err) == (143, f"ginf: terminated (SIGTERM): {NOTHING}")


LATE = """
import os, signal, sys
from influence_cli.__main__ import main
class Late:
    def __del__(self, kill=os.kill, me=os.getpid(), sent=signal.SIGTERM):
        kill(me, sent)  # where Python takes its objects apart, with the handlers of signals gone
late = Late()
sys.argv = ["ginf", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["influence", "--group", "random"], 2)])
def test_a_signal_after_the_end_changes_no_outcome(arguments, code):
    done = subprocess.run(
        [sys.executable, "-c", LATE, *arguments], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == code and len(done.stdout + done.stderr) > 5
