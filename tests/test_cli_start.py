"""What the start of a process costs and offers: modules that are loaded, and completion in the shell."""

import re
import subprocess
import sys

import pytest
from cli_tools import GINF, environment, ginf, save_blobs, train

FEW = ("--group", "random:5", "--test", "1", "--quiet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    train(save_blobs(folder / "blobs.npz"), folder / "ginf.h5")
    return folder


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


def shell(command: str, folder, **changes):
    """A shell's command line, in which ``$ginf`` is the program."""
    done = subprocess.run(
        ["bash", "-c", f"ginf='{' '.join(GINF)}'; {command}"],
        cwd=folder, env=environment(**changes), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_completion_for_the_shell_that_asks(folder):
    code, out, err = shell("$ginf --show-completion; exit $?", folder)
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
    _, out, _ = shell("$ginf --install-completion; echo $?", folder, HOME=str(tmp_path))
    assert out.splitlines()[-1] == "0"
    assert (tmp_path / ".bash_completions" / "ginf.sh").read_text().rstrip().endswith("_ginf_completion ginf")
