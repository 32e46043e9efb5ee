"""A file is there whole or not at all: refusals, races, full disks and interruptions."""

import errno
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import pytest
from artifact_examples import example_model, numbers

from influence_cli.artifacts import atomic
from influence_cli.artifacts.atomic import check_target, replacing
from influence_cli.artifacts.model import add_factor, load_model, save_model
from influence_cli.core.solvers.cholesky import CholeskyFactor
from influence_cli.errors import FileError, UsageError

OLD, NEW = example_model(), example_model(theta=numbers(6))


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


# --- where a file may go ---


def test_an_existing_file_needs_force(tmp_path):
    path = tmp_path / "a.h5"
    save_model(path, OLD)
    for attempt in (lambda: check_target(path, False), lambda: save_model(path, NEW)):
        with pytest.raises(UsageError, match=r"a\.h5 exists already") as caught:
            attempt()
        assert "--force" in caught.value.hint
    assert load_model(path).digest == OLD.digest
    check_target(path, True)
    save_model(path, NEW, force=True)
    assert load_model(path).digest == NEW.digest
    assert names(tmp_path) == ["a.h5"]


def test_folders(tmp_path):
    with pytest.raises(FileError, match="it is a folder"):
        check_target(tmp_path, True)
    with pytest.raises(FileError, match=r"there is no folder .*missing") as caught:
        save_model(tmp_path / "missing" / "a.h5", OLD)
    assert caught.value.hint == f"mkdir -p {tmp_path / 'missing'}"
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"there is no folder .*file"):
        check_target(tmp_path / "file" / "a.h5", False)


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(FileError, match=r"cannot write .*file name too long"):
        check_target(tmp_path / ("a" * 300), False)
    save_model(tmp_path / ("a" * 255), OLD)  # the temporary name must not be longer than the target's may be


def test_devices_are_left_alone():
    with pytest.raises(FileError, match="not a regular file"):
        save_model(os.devnull, OLD, force=True)


def test_permission_denied(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(FileError, match="permission denied"):
        check_target(tmp_path / "a.h5", False)
    monkeypatch.undo()

    def refuse(*_args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(FileError, match=r"cannot write .*a\.h5: permission denied") as caught:
        save_model(tmp_path / "a.h5", OLD)
    assert "may write" in caught.value.hint


def test_permissions_are_those_of_any_new_file(tmp_path):
    previous = os.umask(0o027)
    try:
        save_model(tmp_path / "a.h5", OLD)
    finally:
        os.umask(previous)
    assert (tmp_path / "a.h5").stat().st_mode & 0o777 == 0o640


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link.h5").symlink_to(tmp_path / "far" / "a.h5")
    save_model(tmp_path / "link.h5", OLD)
    save_model(tmp_path / "link.h5", NEW, force=True)
    assert (tmp_path / "link.h5").is_symlink()
    assert names(tmp_path / "far") == ["a.h5"]
    assert load_model(tmp_path / "link.h5").digest == NEW.digest


# --- races ---


def _save_together(path, seed, barrier, queue):
    model = example_model(theta=numbers(6) + seed)
    barrier.wait()
    try:
        save_model(path, model)
        queue.put(("saved", model.digest))
    except UsageError as error:
        queue.put(("refused", error.message))


def test_of_processes_that_race_one_wins(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["influence_cli.artifacts.model"])
    for attempt in range(2):
        path, barrier, queue = tmp_path / f"{attempt}.h5", context.Barrier(3), context.Queue()
        arguments = [(str(path), seed, barrier, queue) for seed in range(3)]
        processes = [context.Process(target=_save_together, args=each) for each in arguments]
        for process in processes:
            process.start()
        outcomes = dict(queue.get(timeout=60) for _ in processes)
        for process in processes:
            process.join()
        assert sorted(outcomes) == ["refused", "saved"]
        assert load_model(path).digest == outcomes["saved"]
        assert names(tmp_path) == [f"{number}.h5" for number in range(attempt + 1)]


@pytest.mark.parametrize("links", [True, False])
def test_who_comes_second_is_refused_although_the_early_check_passed(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    path, barrier, outcomes = tmp_path / "a.h5", threading.Barrier(4), []

    def run(number):
        try:
            with replacing(path, force=False) as sink:
                sink.write(b"%d" % number)
                barrier.wait()  # all have passed check_target
            outcomes.append(number)
        except UsageError as error:
            outcomes.append(error.message)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert len(winners) == 1 and len(outcomes) == 4
    assert path.read_bytes() == b"%d" % winners[0]
    assert names(tmp_path) == ["a.h5"]


def _no_links(*_args, **_options):
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


def test_file_systems_without_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", _no_links)
    save_model(tmp_path / "a.h5", OLD)
    assert load_model(tmp_path / "a.h5").digest == OLD.digest
    monkeypatch.setattr(Path, "replace", _no_links)
    with pytest.raises(FileError, match="operation not supported"):
        save_model(tmp_path / "b.h5", OLD)
    assert names(tmp_path) == ["a.h5"]


def test_a_factor_does_not_undo_a_training_that_ended_meanwhile(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    save_model(path, example_model(factor=False))
    sync = atomic.Sink.sync

    def train_meanwhile(sink):
        sync(sink)
        monkeypatch.undo()
        save_model(path, NEW, force=True)

    monkeypatch.setattr(atomic.Sink, "sync", train_meanwhile)
    with pytest.raises(FileError, match="was changed by another process meanwhile"):
        add_factor(path, CholeskyFactor(numbers(6, 6), 0.0))
    assert load_model(path).digest == NEW.digest
    assert names(tmp_path) == ["a.h5"]


# --- failures while writing ---


class Failing:
    """Stands for the operating system's file and fails from a given byte on."""

    def __init__(self, raw, limit, error):
        self._raw, self._limit, self._error = raw, limit, error

    def __getattr__(self, name):
        return getattr(self._raw, name)

    def write(self, buffer):
        if self._raw.tell() + len(buffer) > self._limit:
            raise self._error
        return self._raw.write(buffer[:1000])  # and takes only a part


def fail_from(monkeypatch, limit, error):
    original = atomic.Sink.__init__

    def start(sink, path):
        original(sink, path)
        sink._raw = Failing(sink._raw, limit, error)

    monkeypatch.setattr(atomic.Sink, "__init__", start)


@pytest.mark.parametrize("limit", [0, 1, 100, 1000, 2000, 4000, 6000])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failed_write_leaves_everything_as_it_was(tmp_path, monkeypatch, limit, code):
    path = tmp_path / "a.h5"
    save_model(path, OLD)
    before = path.read_bytes()
    fail_from(monkeypatch, limit, OSError(code, os.strerror(code)))
    factor = CholeskyFactor(numbers(6, 6), 0.0)
    for attempt in (lambda: save_model(path, NEW, force=True), lambda: add_factor(path, factor)):
        with pytest.raises(FileError, match=rf"cannot write .*a\.h5: {os.strerror(code).lower()}") as caught:
            attempt()
        assert code == errno.EIO or "free some space" in caught.value.hint
    assert path.read_bytes() == before
    assert names(tmp_path) == ["a.h5"]


def test_ctrl_c_while_hdf5_writes(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    fail_from(monkeypatch, 1000, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        save_model(path, OLD)
    assert names(tmp_path) == []


def test_ctrl_c_between_writes(tmp_path):
    path = tmp_path / "a.h5"
    with pytest.raises(KeyboardInterrupt), replacing(path, force=False) as sink, h5py.File(sink, "w") as file:
        file["x"] = numbers(10)
        raise KeyboardInterrupt
    assert names(tmp_path) == []


FULL_DISK = """
import resource, sys
from artifact_examples import example_model
from influence_cli.artifacts.model import load_model, save_model
from influence_cli.errors import FileError
path = sys.argv[1]
save_model(path, example_model())
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    save_model(path, example_model(settings={}), force=True)
except FileError as error:
    print(error.message)
print(load_model(path).digest == example_model().digest)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_limit_of_the_system_ends_the_write_and_the_process_ends_quietly(tmp_path):
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.h5")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout == f"cannot write {tmp_path / 'a.h5'}: file too large\nTrue\n"
    assert names(tmp_path) == ["a.h5"]
