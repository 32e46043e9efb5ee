"""Streams, signals and terminals: real processes in the surroundings that users start them in."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import chdir, suppress
from pathlib import Path

import numpy as np
import pytest
from cli_tools import GINF, environment, ginf, leftovers, preloaded, save_blobs, train

from influence_cli.artifacts import atomic
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


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


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


def test_completion_for_the_shell_that_asks(folder):
    code, out, err = shell("$started --show-completion; exit $?", folder)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "complete -o default -F _ginf_completion ginf"


def test_completion_offers_commands_and_options(folder):
    for words, number, offered in (("ginf tr", "1", "train"), ("ginf influence --meth", "2", "--method")):
        done = ginf(cwd=folder, _GINF_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=number)
        assert done.stdout.split() == [offered]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ginf train --estimator ri", ["ridge-classifier"]),
        ("ginf groundtruth --retrain ", ["warm", "cold", "proximal"]),
        ("ginf influence --method first,se", ["first,second", "first,second-full"]),
        ("ginf select --candidates by", ["by:"]),
        ("ginf select --figure s", ["sizes"]),
        ("ginf compare --figure s", ["scatter"]),
    ],
)
def test_completion_offers_the_words_of_an_option(folder, words, offered):
    count = len(words.split(" ")) - 1
    done = ginf(cwd=folder, _GINF_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(count))
    assert done.stdout.split() == offered


def test_the_words_for_completion_are_those_that_are_accepted():
    """They are written out once more, so that the shell need not wait for what checks them."""
    from influence_cli.analysis import compare, flips, influence, searches
    from influence_cli.commands.options import GROUPS, WORDS
    from influence_cli.core import credit, estimators, quantities, removal, retraining
    from influence_cli.core.objectives.networks import activations
    from influence_cli.core.selection import evaluate, pgd, problem
    from influence_cli.core.solvers import choice
    from influence_cli.data import dates, options
    from influence_cli.models import preprocessing, sample_weights, settings
    from influence_cli.present import changes, records
    from influence_cli.specs import plan, tests

    accepted = {
        "--test": tests._WORDS,
        "--method": influence.METHODS,
        "--evaluate": estimators.EVALUATIONS,
        "--preprocessing": preprocessing.PREPROCESSINGS,
        "--solver": choice.SOLVERS,
        "--retrain": retraining.STRATEGIES,
        "--credit": credit.CREDITS,
        "--strategy": {*searches.STRATEGIES, "all"},
        "--direction": problem.DIRECTIONS,
        "--merit": evaluate.MERITS,
        "--constraint": pgd.CONSTRAINTS,
        "--flip-of": flips.FLIPS,
        "--resample": compare.RESAMPLED,
        "--format": records.FORMATS,
        "--sort": changes.SORTS,
        "--estimator": settings.ESTIMATORS,
        "--class-weight": sample_weights.CLASS_WEIGHTS,
        "--penalty-scaling": removal.PENALTY_SCALINGS,
        "--activation": activations.ACTIVATIONS,
        "--coding": options.CODINGS,
        "--impute": options.IMPUTE,
        "--date": {options.ORDINAL},
        "--date-order": dates.ORDERS,
        "--decimal": {name for name in options.DECIMALS if name.isalpha()},
        "--quantity": {one.rstrip(".").partition(":")[0] + ":" * (":" in one) for one in quantities.QUANTITIES},
    }
    assert {option: set(WORDS[option]) for option in accepted} == {key: set(words) for key, words in accepted.items()}
    assert set(GROUPS) == {f"{kind}:" for kind in plan.PLANNERS}
    checked = {"--curvature", "--separator", "--against", "--within", "--candidates", "--group"}
    assert WORDS.keys() - accepted.keys() - checked == {"compare --figure", "select --figure"}


def test_completion_is_installed_at_home(folder, tmp_path):
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(GINF)} --install-completion; echo $?"],
        cwd=folder, env=environment(HOME=str(tmp_path)), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0"
    assert (tmp_path / ".bash_completions" / "ginf.sh").read_text().rstrip().endswith("_ginf_completion ginf")


def test_as_a_module(folder):
    done = ginf("--version", cwd=folder)
    assert done.returncode == 0
    assert re.fullmatch(r"ginf \d+\.\d+\.\d+\n", done.stdout)


def loaded_after(folder, *arguments):
    script = (
        "import sys; from influence_cli.cli import run; code = run(sys.argv[1:]);"
        " print('\\nLOADED', code, *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=folder, env=environment(), capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    code, *names = done.stdout.rpartition("LOADED ")[2].split()
    assert code == "0", done.stderr
    return set(names)


def test_help_and_version_load_nothing_heavy(folder):
    for arguments in (["--help"], ["--version"], ["influence", "--help"], ["train", "--help"]):
        assert not loaded_after(folder, *arguments) & {"numpy", "scipy", "sklearn", "h5py", "matplotlib", "pandas"}


def test_influence_on_a_cached_model_does_without_scikit_learn(folder):
    names = loaded_after(folder, "influence", *FEW)
    assert {"numpy", "h5py"} <= names
    assert not names & {"sklearn", "matplotlib", "pandas"}


def test_training_on_digits_does_without_scikit_learn(tmp_path):
    assert not loaded_after(tmp_path, "train", "--data", "digits") & {"sklearn", "matplotlib", "pandas"}
