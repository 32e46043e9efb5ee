"""``--method rif`` as the user meets it."""

import numpy as np
import pytest
from cli_tools import save_blobs, train, values_of

from influence_cli.cli import run

ASK = ("influence", "--group", "random:10", "--group", "rows:3", "--test", "all", "--method", "newton,rif")


NETWORK = ("--estimator", "mlp", "--hidden", "2", "--damping", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rif")
    return train(save_blobs(folder / "b.npz"), folder / "m.h5", "--penalty-scaling", "per-sum")


def test_one_row_is_its_newton_step_and_ten_are_not(model, capsys):
    assert run([*ASK, "--model", model]) == 0
    text = capsys.readouterr().out
    newton, rif = (values_of(text, name).reshape(2, -1) for name in ("newton", "rif"))
    np.testing.assert_allclose(rif[1], newton[1], rtol=1e-7)
    assert (np.abs(rif[0] - newton[0]) > 1e-4 * np.abs(newton[0])).all()


def test_without_a_factor_it_is_refused(model, capsys):
    assert run([*ASK, "--model", model, "--solver", "cg"]) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "rif needs the leverage of every row in a group" in seen.err
    assert "hint: use --solver cholesky" in seen.err


def test_a_network_is_refused(tmp_path, capsys):
    path = train(save_blobs(tmp_path / "b.npz"), tmp_path / "n.h5", *NETWORK)
    assert run([*ASK, "--model", path]) == 2
    seen = capsys.readouterr().err
    assert "rif is for models whose outputs are linear in the parameters" in seen
    assert "solver" not in seen, "nothing was computed before"
