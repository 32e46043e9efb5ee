"""What HDF5's own checksums do not see: zeroed chunks, edited values, links out of the file, sizes that are claimed."""

import hashlib
import json
import os

import h5py
import numpy as np
import pytest
from artifact_examples import (
    assert_same,
    example_influence,
    example_linked_model,
    example_model,
    example_selection,
    example_sparse_model,
    example_truth,
    load_linked_model,
    numbers,
    sign_again,
)
from cli_tools import save_blobs, train

from influence_cli.artifacts import digests, json_keys, storage
from influence_cli.artifacts.model import add_factor, load_model, save_model
from influence_cli.artifacts.results import load_influence, load_truth, save_influence, save_truth
from influence_cli.artifacts.selection import load_selection, save_selection
from influence_cli.cli import run
from influence_cli.core.solvers.cholesky import CholeskyFactor
from influence_cli.errors import FileError

EVERY_KIND = [
    pytest.param(example_model, save_model, load_model, id="model"),
    pytest.param(example_sparse_model, save_model, load_model, id="sparse model"),
    pytest.param(example_linked_model, save_model, load_linked_model, id="linked model"),
    pytest.param(example_influence, save_influence, load_influence, id="influence"),
    pytest.param(example_truth, save_truth, load_truth, id="truth"),
    pytest.param(example_selection, save_selection, load_selection, id="selection"),
]


def datasets(path):
    found = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def places(path, name):
    """Offset and length of a dataset's pieces in the file; none where it lies in a header."""
    with h5py.File(path) as file:
        low = file[name].id
        if file[name].chunks is not None:
            return [(info.byte_offset, info.size) for info in map(low.get_chunk_info, range(low.get_num_chunks()))]
        return [] if low.get_offset() is None else [(low.get_offset(), low.get_storage_size())]


@pytest.mark.parametrize(("example", "save", "load"), EVERY_KIND)
def test_a_block_of_zeros_is_noticed(tmp_path, example, save, load):
    path = tmp_path / "a.h5"
    save(path, example())
    right = path.read_bytes()
    for name in datasets(path):
        for offset, length in places(path, name):
            path.write_bytes(right[:offset] + bytes(length) + right[offset + length :])
            if path.read_bytes() == right:
                continue  # it held zeros
            with pytest.raises(FileError):
                load(path)
        path.write_bytes(right)


@pytest.mark.parametrize(("example", "save", "load"), EVERY_KIND)
def test_every_dataset_is_covered(tmp_path, example, save, load):
    path = tmp_path / "a.h5"
    save(path, example())
    right = path.read_bytes()
    for name in datasets(path):
        with h5py.File(path, "r+") as file:
            attributes = dict(file[name].attrs)
            value = file[name][()]
            turned = value[::-1].copy()
            value = turned if turned.tobytes() != value.tobytes() else np.ones_like(value)
            del file[name]
            file.create_dataset(name, data=value)
            file[name].attrs.update(attributes)
        with pytest.raises(FileError, match="damaged"):
            load(path)
        path.write_bytes(right)
        with h5py.File(path, "r+") as file:
            del file[name]
        with pytest.raises(FileError, match=rf"/{name}: missing"):
            load(path)
        path.write_bytes(right)


@pytest.mark.parametrize(("example", "save", "load"), EVERY_KIND)
def test_every_attribute_is_covered(tmp_path, example, save, load):
    path = tmp_path / "a.h5"
    save(path, example())
    right = path.read_bytes()
    with h5py.File(path) as file:
        names = list(file.attrs)
    for name in names:
        for value in ("{}", "[]", '{"a": NaN}', "null", "prob", 7, 2.5, np.arange(3)):
            with h5py.File(path, "r+") as file:
                file.attrs[name] = value
            with pytest.raises(FileError):
                load(path)
            path.write_bytes(right)
        with h5py.File(path, "r+") as file:
            del file.attrs[name]
        with pytest.raises(FileError):
            load(path)
        path.write_bytes(right)


def test_an_optional_dataset_that_was_not_written_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    save_model(path, example_model())
    with h5py.File(path, "r+") as file:
        file["data/weights"] = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    with pytest.raises(FileError, match=r"/data/weights: damaged: expected an entry in @digests, found none"):
        load_model(path)


def test_the_damping_of_a_factor_is_covered(tmp_path):
    path = tmp_path / "a.h5"
    save_model(path, example_model())
    with h5py.File(path, "r+") as file:
        file["hessian/cholesky"].attrs["damping"] = 7.0
    with pytest.raises(FileError, match=r"/hessian/cholesky: damaged"):
        load_model(path)


def test_digests_are_by_spans_of_rows(monkeypatch):
    monkeypatch.setattr(digests, "SPAN_BYTES", 64)
    array = numbers(5, 4)
    record = digests.record(array, {})
    assert record["rows"] == 2
    parts = (slice(2), slice(2, 4), slice(4, 5))
    assert record["sha256"] == [hashlib.sha256(array[part].tobytes()).hexdigest() for part in parts]
    assert digests.problem(record, array, {}) is None
    array[4, 3] += 1e-16
    assert "damaged" in digests.problem(record, array, {})
    assert "damaged" in digests.problem({**record, "rows": "two"}, array, {})


def test_a_factor_is_added_to_a_file_whose_content_stays_covered(tmp_path):
    path = tmp_path / "a.h5"
    save_model(path, example_model(factor=False))
    add_factor(path, CholeskyFactor(numbers(6, 6), 0.5))
    assert_same(load_model(path).factor.lower, np.asfortranarray(numbers(6, 6)))
    with h5py.File(path, "r+") as file:
        file["data/X_train"][0, 0] += 1
    with pytest.raises(FileError, match=r"/data/X_train: damaged"):
        load_model(path)
    add_factor(path, CholeskyFactor(numbers(6, 6), 0.5))
    with pytest.raises(FileError, match=r"/data/X_train: damaged"):
        load_model(path)
    with h5py.File(path, "r+") as file:
        file.attrs["data_name"] = "another"
    with pytest.raises(FileError, match="@content_digest: expected the SHA-256"):
        add_factor(path, CholeskyFactor(numbers(6, 6), 0.5))


# --- JSON ---


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("training", {}, "@training: expected the key grad_norm, a finite number, found none"),
        ("training", {"grad_norm": "small", "iterations": 7, "seconds": 1}, "a finite number for grad_norm, found 'sm"),
        ("training", [], r"@training: expected an object, found \[\]"),
        ("config", {"l2": True}, "@config: expected a finite number for l2, found True"),
        ("config", {"hidden": [3, 2.5]}, "a list of whole numbers for hidden"),
        ("config", {"seed": 2**70}, "a whole number for seed, found 1180591620717411303424"),
        ("config", "{", "@config: expected JSON, found '{'"),
        ("config", '{"l2": NaN}', "NaN is no JSON number"),
        ("config", '{"l2": 1e999}', "a finite number for l2, found inf"),
        ("config", "[" * 100_000, "nested too deeply"),
        ("preparation", {"features": "x"}, "a list of objects for features, found 'x'"),
    ],
)
def test_json_is_read_key_by_key(tmp_path, name, value, message):
    path = tmp_path / "a.h5"
    save_model(path, example_model())
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value if isinstance(value, str) else json.dumps(value)
    sign_again(path)
    with pytest.raises(FileError, match=message):
        load_model(path)


@pytest.mark.parametrize("link", ["null", "[]", "{}", '{"data": 3}', '{"data": "x", "test_data": []}'])
def test_a_link_that_is_none(tmp_path, link):
    path = tmp_path / "a.h5"
    save_model(path, example_linked_model())
    with h5py.File(path, "r+") as file:
        file.attrs["data_link"] = link
    sign_again(path)
    with pytest.raises(FileError, match="@data_link: expected"):
        load_linked_model(path)


def test_a_key_of_a_later_version_is_left_alone():
    assert not list(json_keys.problems("truth", "@config", {"tol": 1e-8, "new": [object]}))
    assert json_keys.unlisted("truth", "@config", {"tol": 1, "new": 1}) == ["new"]


def test_every_key_that_a_command_writes_is_in_its_table(tmp_path):
    data = save_blobs(tmp_path / "b.npz")
    files = [
        train(data, tmp_path / "m.h5"),
        train(data, tmp_path / "n.h5", "--estimator", "mlp", "--hidden", "3", "--class-weight", "balanced"),
        train(data, tmp_path / "l.h5", "--link-data", "--standardize"),
    ]
    for command, *options in (
        ("influence", "--group", "random:5", "--verify", "--errors", "--certify", "10%"),
        ("groundtruth", "--group", "random:5", "--preprocessing", "frozen"),
        ("select", "--size", "2", "--at-most"),
        ("select", "--sizes", "2,4"),
    ):
        for model in files[:2]:
            path = str(tmp_path / f"{command}-{len(files)}.h5")
            wanted = [option for option in options if "n.h5" not in model or option not in ("--certify", "10%")]
            assert run([command, "--model", model, "--test", "0", *wanted, "-o", path, "--quiet"]) in (0, 4)
            files.append(path)
    for path in files:
        with h5py.File(path) as file:
            kind = file.attrs["kind"]
        kind = kind.decode() if isinstance(kind, bytes) else kind
        opened = storage.read(path, kind)
        for name in json_keys.KEYS[kind]:
            value = opened.config if name == "@config" else opened.arrays.get(name, {})
            assert not json_keys.unlisted(kind, name, value), (
                f"{name} of {kind}: artifacts/json_keys.py must have these"
            )


# --- elsewhere ---


def test_links_are_not_followed(tmp_path):
    path, other = tmp_path / "a.h5", tmp_path / "b.h5"
    save_model(path, example_model())
    save_model(other, example_model())
    os.mkfifo(tmp_path / "pipe")
    right = path.read_bytes()
    for link in (
        h5py.ExternalLink("b.h5", "/params/theta"),
        h5py.ExternalLink("pipe", "/params/theta"),
        h5py.SoftLink("/params/other"),
    ):
        for name in ("params/theta", "params"):
            with h5py.File(path, "r+") as file:
                del file[name]
                file[name] = link
            with pytest.raises(FileError, match="found a link to elsewhere"):
                load_model(path)
            path.write_bytes(right)


def test_numbers_of_other_files_are_not_read(tmp_path):
    path = tmp_path / "a.h5"
    save_model(path, example_model())
    right = path.read_bytes()
    (tmp_path / "raw").write_bytes(bytes(48))

    def external(file):
        file.create_dataset("params/theta", (6,), "f8", external=[(str(tmp_path / "raw"), 0, 48)])

    def virtual(file):
        layout = h5py.VirtualLayout((6,), "f8")
        layout[:] = h5py.VirtualSource("missing.h5", "theta", (6,))
        file.create_virtual_dataset("params/theta", layout)

    for change in (external, virtual):
        with h5py.File(path, "r+") as file:
            del file["params/theta"]
            change(file)
        for version in (3, 2):
            with h5py.File(path, "r+") as file:
                file.attrs["format_version"] = version
            with pytest.raises(FileError, match="numbers lie in other files"):
                load_model(path)
        path.write_bytes(right)


@pytest.mark.parametrize("version", [2, 3])
def test_sizes_are_claims_until_the_file_holds_them(tmp_path, version):
    path = tmp_path / "a.h5"
    save_model(path, example_model())
    right = path.read_bytes()
    for options, message in (
        ({}, "cut short: it claims 8,000,000,000 bytes, and the file holds 0"),
        ({"chunks": (1000,)}, "cut short: it claims 8,000,000,000 bytes, and the file holds 0"),
        ({"chunks": (1_000_000,), "compression": "gzip"}, "cut short: it claims"),
    ):
        with h5py.File(path, "r+") as file:
            del file["params/theta"]
            file.create_dataset("params/theta", (1_000_000_000,), "f8", **options)
            file.attrs["format_version"] = version
        with pytest.raises(FileError, match=message):
            load_model(path)
        path.write_bytes(right)
    with h5py.File(path, "r+") as file:
        del file["params/theta"]
        made = file.create_dataset("params/theta", (100_000_000,), "f8", chunks=(1_000_000,), compression="gzip")
        made[:1_000_000] = 0
    with pytest.raises(FileError, match="it claims 800,000,000 bytes of memory, and at most 268,435,456 are expected"):
        load_model(path)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(FileError, match=r"pipe\.h5 is a named pipe, expected a model file"):
        load_model(tmp_path / "pipe.h5")
    with pytest.raises(FileError, match="is a device, expected a truth file"):
        load_truth("/dev/zero")
    with pytest.raises(FileError, match="is a folder, expected a model file"):
        load_model(tmp_path)
