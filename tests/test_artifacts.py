"""Artifacts come back as they were, and the schema rules writer, reader and documentation alike."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from artifact_examples import (
    assert_same,
    example_dataset,
    example_groups,
    example_influence,
    example_linked_model,
    example_model,
    example_selection,
    example_sparse_model,
    example_truth,
    example_wide_model,
    load_linked_model,
    numbers,
    same_bits,
)

from influence_cli.artifacts import storage
from influence_cli.artifacts.dataset import column_entries
from influence_cli.artifacts.model import add_factor, load_model, save_model
from influence_cli.artifacts.results import load_influence, load_truth, same_origin, save_influence, save_truth
from influence_cli.artifacts.schema import KINDS, documentation
from influence_cli.artifacts.selection import load_selection, save_selection
from influence_cli.core.solvers.cholesky import CholeskyFactor
from influence_cli.errors import FileError
from influence_cli.results import GroupTable, Provenance

ARCHIVE = Path(__file__).parent / "archive"
DOCUMENT = Path(__file__).parent.parent / "docs" / "format.md"

EVERY_KIND = [
    pytest.param(example_model, save_model, load_model, id="model"),
    pytest.param(example_sparse_model, save_model, load_model, id="sparse model"),
    pytest.param(example_linked_model, save_model, load_linked_model, id="linked model"),
    pytest.param(example_wide_model, save_model, load_model, id="wide model"),
    pytest.param(example_influence, save_influence, load_influence, id="influence"),
    pytest.param(example_truth, save_truth, load_truth, id="truth"),
    pytest.param(example_selection, save_selection, load_selection, id="selection"),
]


@pytest.mark.parametrize(("example", "save", "load"), EVERY_KIND)
def test_round_trip_is_exact_to_the_bit(tmp_path, example, save, load):
    save(tmp_path / "a.h5", example())
    assert_same(load(tmp_path / "a.h5"), example())


@pytest.mark.parametrize(("example", "save", "load"), EVERY_KIND)
def test_the_same_contents_give_the_same_bytes(tmp_path, example, save, load):
    save(tmp_path / "a.h5", example())
    save(tmp_path / "b.h5", load(tmp_path / "a.h5"))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize(
    ("name", "example", "load"),
    [
        ("model-v1", example_model, load_model),
        ("influence-v1", example_influence, load_influence),
        ("truth-v1", example_truth, load_truth),
        ("sparse-model-v2", example_sparse_model, load_model),
        ("linked-model-v2", example_linked_model, load_linked_model),
        ("model-v3", example_model, load_model),
        ("sparse-model-v3", example_sparse_model, load_model),
        ("linked-model-v3", example_linked_model, load_linked_model),
        ("influence-v3", example_influence, load_influence),
        ("truth-v3", example_truth, load_truth),
        ("selection-v3", example_selection, load_selection),
        ("wide-model-v4", example_wide_model, load_model),
    ],
)
def test_files_of_every_version_are_still_read(name, example, load):
    # archived once and never written again: a change of layout must go on reading them
    assert_same(load(ARCHIVE / f"{name}.h5"), example())


def test_many_short_columns_lie_in_one_array_and_long_ones_by_themselves(tmp_path):
    save_model(tmp_path / "a.h5", example_wide_model())
    save_model(tmp_path / "b.h5", example_model())
    with h5py.File(tmp_path / "a.h5") as file, h5py.File(tmp_path / "b.h5") as other:
        assert file["columns/many/float64_train"].shape == (63, 5) and file["columns/many/int64_test"].shape == (63, 3)
        assert sorted(file["columns/train"], key=int) == ["5", "65", "128"]
        assert (file.attrs["format_version"], other.attrs["format_version"]) == (4, 3)
    long = {f"c{i}": np.arange(40_000) for i in range(64)}
    data = replace(example_dataset(), columns_train=long, columns_test=long)
    assert not any("many" in path for path in column_entries(data))


def test_regression_without_test_rows_image_or_factor(tmp_path):
    data = replace(
        example_dataset(),
        y_train=numbers(5),
        X_test=np.empty((0, 4)),
        y_test=np.empty(0),
        classes=(),
        image_shape=None,
    )
    saved = example_model(factor=False, dataset=data, residuals=numbers(5, 1))
    save_model(tmp_path / "a.h5", saved)
    assert_same(load_model(tmp_path / "a.h5"), saved)


def test_no_groups_no_tests(tmp_path):
    groups = GroupTable((), (), np.empty(0, np.int64), np.empty(0), ())
    none = np.empty((0, 0))
    saved = example_influence(
        groups=groups, tests=np.empty(0, np.int64), base=np.empty(0), values={"first": none}, status=()
    )
    save_influence(tmp_path / "a.h5", saved)
    assert_same(load_influence(tmp_path / "a.h5"), saved)


def test_many_groups_tests_and_a_config_beyond_the_limit_of_an_attribute(tmp_path):
    count = 2000
    groups = GroupTable(
        label=tuple(f"random:36%#{number}" for number in range(count)),
        kind=("random",) * count,
        size=np.arange(count),
        fraction=np.arange(count) / count,
        digest=tuple(f"{number:064x}" for number in range(count)),
    )
    saved = example_influence(
        provenance=Provenance("d", "e", {"groups": [label * 10 for label in groups.label]}),
        groups=groups,
        tests=np.arange(100),
        base=numbers(100),
        values={method: numbers(count, 100) for method in ("second", "newton")},
        status=tuple(f"stalled at {number}" for number in range(count)),
    )
    save_influence(tmp_path / "a.h5", saved)
    assert_same(load_influence(tmp_path / "a.h5"), saved)
    with h5py.File(tmp_path / "a.h5") as file:
        assert len(file.attrs["config"]) > 64 * 1024
        chunks = file["values/second"].chunks
        assert chunks[1] == 100 and 10 * 1024 <= np.prod(chunks) * 8 <= 1024 * 1024


def test_rows_longer_than_a_chunk_are_split():
    assert storage._chunks(np.empty((3, 1_000_000))) == (1, 32768)


def test_integers_of_other_width_are_widened(tmp_path):
    save_truth(tmp_path / "a.h5", example_truth(iterations=np.array([4, 100, 0, 9], np.int32)))
    assert load_truth(tmp_path / "a.h5").iterations.dtype == np.int64


# --- the model's digest and factor ---


def test_digest_covers_theta_data_and_settings_but_not_factor_or_timings():
    model = example_model()
    digest = model.digest
    assert replace(model, factor=None, training={}).digest == digest
    assert replace(model, settings=dict(reversed(model.settings.items()))).digest == digest
    assert replace(model, theta=np.nextafter(model.theta, 1)).digest != digest
    assert replace(model, settings={**model.settings, "l2": 0.3}).digest != digest
    shifted = replace(model.dataset, y_train=np.roll(model.dataset.y_train, 1))
    assert replace(model, dataset=shifted).digest != digest


def test_large_arrays_lie_in_one_piece_and_load_ready_to_use(tmp_path):
    save_model(tmp_path / "a.h5", example_model())
    with h5py.File(tmp_path / "a.h5") as file:
        for name in ("data/X_train", "data/X_test", "hessian/cholesky"):
            assert file[name].chunks is None and file[name].compression is None
            assert file[name].id.get_offset() is not None
    loaded = load_model(tmp_path / "a.h5")
    assert loaded.dataset.X_train.flags.c_contiguous
    assert loaded.factor.lower.flags.f_contiguous
    assert load_model(tmp_path / "a.h5", with_factor=False).factor is None


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_factor_is_added_and_replaced(tmp_path, order, dtype):
    path, model = tmp_path / "a.h5", example_model(factor=False)
    save_model(path, model)
    path.chmod(0o640)
    add_factor(path, CholeskyFactor(numbers(6, 6), 1.0))
    factor = CholeskyFactor(np.asarray(numbers(6, 6) * 2, dtype=dtype, order=order), 0.5)
    add_factor(path, factor, model_digest=model.digest)
    loaded = load_model(path)
    assert same_bits(loaded.factor.lower, factor.lower) and loaded.factor.damping == 0.5
    assert_same(replace(loaded, factor=None), model)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5"]


def test_a_linked_model_has_the_digest_of_the_whole_one_and_is_not_read_without_its_data(tmp_path):
    assert example_linked_model().digest == example_model().digest
    save_model(tmp_path / "a.h5", example_linked_model())
    with pytest.raises(ValueError, match=r"a\.h5 is linked to its data"):
        load_model(tmp_path / "a.h5")


def test_a_factor_is_refused_by_another_model_in_its_place(tmp_path):
    path = tmp_path / "a.h5"
    save_model(path, example_model(factor=False, theta=numbers(6)))
    with pytest.raises(FileError, match=r"a\.h5 was replaced meanwhile: its model_digest is another"):
        add_factor(path, CholeskyFactor(numbers(6, 6), 0.0), model_digest=example_model().digest)
    assert load_model(path).factor is None


def test_a_factor_of_another_size_is_a_defect(tmp_path):
    save_model(tmp_path / "a.h5", example_model(factor=False))
    with pytest.raises(ValueError, match=r"/hessian/cholesky.*found float64 \(7, 7\), but P is 6"):
        add_factor(tmp_path / "a.h5", CholeskyFactor(numbers(7, 7), 0.0))
    with pytest.raises(FileError, match=r"there is no file .*none\.h5"):
        add_factor(tmp_path / "none.h5", CholeskyFactor(numbers(6, 6), 0.0))


# --- the schema ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"theta": np.array([1.0, np.nan])}, r"/params/theta: expected finite numbers, found 1 NaN or infinite of 2"),
        ({"theta": numbers(6).astype(np.float32)}, r"/params/theta: expected float64 \(P,\), found float32 \(6,\)"),
        ({"residuals": numbers(4, 3)}, r"/gradients/residuals: .* found float64 \(4, 3\), but m is 5 \(from /data/X_t"),
        ({"residuals": numbers(5)}, r"/gradients/residuals: expected float64 \(m, K\), found float64 \(5,\)"),
    ],
)
def test_wrong_arrays_are_a_defect_found_at_writing(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        save_model(tmp_path / "a.h5", example_model(factor=False, **changes))
    assert not list(tmp_path.iterdir())


def test_missing_and_unknown_entries_are_a_defect_found_at_writing(tmp_path):
    with pytest.raises(ValueError, match=r"/nowhere: not in the schema; .*/params/theta: missing"):
        storage.write(tmp_path / "a.h5", "model", {"/nowhere": numbers(2)}, {}, force=False)
    with pytest.raises(ValueError, match=r"/values/a/b: not in the schema"):
        save_influence(tmp_path / "a.h5", example_influence(values={"a/b": numbers(4, 3)}))


def test_names_that_hdf5_cannot_hold_are_refused(tmp_path):
    for label, message in (("a\0b", "zero byte"), ("a\ud800b", r"half a character.*'a\\ud800b'")):
        groups = replace(example_groups(), label=(label, "", "", ""))
        with pytest.raises(FileError, match=message):
            save_influence(tmp_path / "a.h5", example_influence(groups=groups))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["header", *KINDS])
def test_the_documentation_is_the_schema(kind):
    text = DOCUMENT.read_text(encoding="utf-8")
    assert documentation(kind) in text, f"docs/format.md lacks entries of {kind}: python tests/write_format.py"


# --- what belongs together ---


def test_results_of_different_origin_are_not_compared():
    one = Provenance("a" * 64, "b" * 64, {})
    same_origin(one, replace(one, config={"seed": 1}), "x.h5", "y.h5")
    with pytest.raises(
        FileError, match=r"x\.h5 and y\.h5 do not belong together: .*different data \(digests a{12} and"
    ):
        same_origin(one, replace(one, data_digest="c" * 64), "x.h5", "y.h5")
    with pytest.raises(FileError, match=r"x\.h5 and y\.h5 .*different models") as caught:
        same_origin(one, replace(one, model_digest="c" * 64), "x.h5", "y.h5")
    assert "--model" in caught.value.hint
