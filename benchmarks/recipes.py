"""Write docs/recipes.md, a task for each capability with its output: ``python benchmarks/recipes.py``.

The data are those of screens.py and the small tables of sample_data/classics.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import wrap

from screens import ROOT, screen, write_data

PAGE = ROOT / "docs" / "recipes.md"
PICTURES = ROOT / "docs" / "pictures"
WIDTH = 80


@dataclass(frozen=True)
class Recipe:
    """A task: its title, what is asked and how the answer reads, and the commands: all but the last make the model."""

    title: str
    text: str
    commands: tuple[str, ...]
    picture: str | None = None


LINEAR = "--estimator linear --l2 0 --test-fraction 0"
STARS = f"ginf train --data stars.csv --label log_light --id star {LINEAR} -o stars.h5"
BILLS = f"ginf train --data penguins.csv --label bill_depth_mm --drop species,island {LINEAR} -o bills.h5"
DUNCAN = f"ginf train --data duncan.csv --label prestige --drop type --id occupation {LINEAR} -o duncan.h5"
SPEED = (
    "ginf train --data strikes.csv --label damaged --drop airport,operator,phase,light --id report --l2 0"
    " --no-standardize --test-fraction 0 -o speed.h5"
)
STRIKES = "ginf train --data strikes.csv --label damaged --drop airport,operator --id report -o strikes.h5"
WINE = "ginf train --data mislabelled.csv --label cultivar --drop cellar --id bottle --test-fraction 0 -o wine.h5"
LOANS = "ginf train --data loans.csv --label approved --id loan --drop branch -o loans.h5"
RECIPES = (
    Recipe(
        "Which few rows turn the sign of a coefficient?",
        """`stars.csv` holds 47 stars of a cluster: hotter stars are brighter, and a regression says the opposite.
        `--flip` finds the fewest rows without which the sign is another, and shows by retraining that none of them
        can be spared.""",
        (STARS, "ginf select -m stars.h5 --flip --quantity param:log_temperature"),
    ),
    Recipe(
        "Which group turns it? (Simpson's paradox)",
        """`penguins.csv`: in each species longer bills are deeper, in all together shallower. The estimates say by
        themselves how far they may be off; `--verify` retrains.""",
        (BILLS, "ginf influence -m bills.h5 -g by:species --quantity param:bill_length_mm --verify"),
    ),
    Recipe(
        "On how few rows does the significance of a coefficient hang?",
        """The fewest occupations without which income is no longer significant at 5% for the prestige of the rest, each
        shown by retraining to be needed. The Wald statistic takes the standard error from the rows that are left.""",
        (DUNCAN, "ginf select -m duncan.h5 --flip --flip-of significance --quantity t:income"),
    ),
    Recipe(
        "A standard error where rows come in clusters",
        """Reports of one airport are no independent rows. What the coefficient becomes without each airport gives the
        cluster jackknife (CRV3), and says which airport matters most.""",
        (SPEED, "ginf groundtruth -m speed.h5 -g by:airport --quantity param:speed --top 3"),
    ),
    Recipe(
        "Regression diagnostics of every row",
        """Leverage, Cook's distance, studentised residuals, DFFITS and (in the machine formats) DFBETAS, as statsmodels
        and R define them, and the picture that R's car calls an influence plot.""",
        (DUNCAN, "ginf influence -m duncan.h5 -g rows:each --diagnostics --top 5 --plot duncan.png"),
        "duncan.png",
    ),
    Recipe(
        "Cook's distance of a cluster",
        """Two rows that pull the same way hide one another: each alone has little distance. Any group of rows has a
        distance of its own.""",
        (
            DUNCAN,
            "ginf influence -m duncan.h5 -g ids:minister -g ids:conductor -g ids:minister,conductor"
            " -g column:type=prof --diagnostics",
        ),
    ),
    Recipe(
        "How would the model do on an airport that it has never seen?",
        """Leave-group-out validation of 50 airports from one factor: the loss of each airport's own reports by the
        model that was trained with them, and without. `--quantity score:roc_auc` and any other score are asked in the
        same way; `--verify` retrains.""",
        (STRIKES, "ginf influence -m strikes.h5 -g by:airport -t removed --verify --top 4"),
    ),
    Recipe(
        "Which rows are mislabelled?",
        """Three bottles of `mislabelled.csv` have the label of another cultivar. A row whose label nothing else
        supports is fitted because it is there: its own loss rises most when it goes (self-influence, or the approximate
        leave-one-out loss). All three are among the first four of 178.""",
        (WINE, "ginf influence -m wine.h5 -g rows:each -t removed --method rif --top 6"),
    ),
    Recipe(
        "What is each source of the data worth?",
        """Shapley values divide the loss among the branches that the rows came from: f without a branch minus f with
        it, on average over all orders in which branches join. They add up to the loss of a model that knows nothing
        minus the loss now. `--credit banzhaf` is the mean over all sets of other branches.""",
        (
            LOANS.replace(" -o", " --penalize-intercept -o"),
            "ginf groundtruth -m loans.h5 -g by:branch -t mean --credit shapley",
        ),
    ),
    Recipe(
        "On which group does an unfairness hang?",
        """`gap-tpr:sex:yes` is the share of approved men among those who should be, minus that of women (equal
        opportunity); `gap-fpr`, `gap-loss` and `worst` are asked in the same way, `abs:` before any of them.""",
        (LOANS, "ginf influence -m loans.h5 -g by:branch -t all --quantity gap-tpr:sex:yes --verify"),
    ),
    Recipe(
        "How many rows have to go for the unfairness to go?",
        """A removal curve: at each size the rows that greedy removes, beside random groups of the same size. Here 2% of
        the rows make the size of the gap vanish; with more it comes back with the other sign.""",
        (
            LOANS,
            "ginf select -m loans.h5 -t all --quantity abs:gap:sex:yes --direction decrease --sizes 1%,2%,5%,10%,20%"
            " --plot curve.png",
        ),
        "curve.png",
    ),
    Recipe(
        "What is the most that any two rows can do?",
        """The pair of stars that moves the slope most, and a proof that no other pair moves it further.""",
        (STARS, "ginf select -m stars.h5 --size 2 --quantity param:log_temperature --verify"),
    ),
    Recipe(
        "Which rows, in words, does an unfairness hang on?",
        """Groups that up to two conditions describe, ranked by what their removal takes off the gap for each percent of
        the rows; the first are retrained. The branch that treats men and women differently comes first.""",
        (
            LOANS,
            "ginf select -m loans.h5 -t all --quantity gap:sex:yes --describe 2 --columns branch,age:4,income:4"
            " --direction decrease --top 5 --verify",
        ),
    ),
)
INTRODUCTION = """Tasks, each with its data, the commands that answer it, and what the last one prints on a terminal of
80 columns, as `python benchmarks/recipes.py` has recorded it; a test holds it. The tables lie in
[sample_data/classics](../sample_data/README.md); `loans.csv`, made by `benchmarks/screens.py`, has 600 loans of four
branches, one of which treats men and women differently; it makes `mislabelled.csv` of
scikit-learn's wine. What other tools have is in [compared.md](compared.md)."""


def prose(text: str) -> list[str]:
    """A paragraph as lines of the page."""
    return wrap(" ".join(text.split()), 130)


def page() -> Iterator[str]:
    """The document, line by line."""
    yield from ("# Recipes", "", *prose(INTRODUCTION), "")
    yield from (f"- [{recipe.title}](#{anchor(recipe.title)})" for recipe in RECIPES)
    for recipe in RECIPES:
        yield from ("", f"## {recipe.title}", "", *prose(recipe.text), "", *recorded(recipe))
        if recipe.picture is not None:
            yield from ("", f"![{recipe.title}](pictures/{recipe.picture})")


def anchor(title: str) -> str:
    """The name that GitHub gives a heading."""
    return "".join(char for char in title.lower().replace(" ", "-") if char.isalnum() or char == "-")


def mislabel(source: Path, target: Path) -> None:
    """Three bottles of the wine with the cultivar of others."""
    text = source.read_text(encoding="utf-8")
    for bottle, cultivar in (("B010", "class_1"), ("B090", "class_2"), ("B150", "class_0")):
        text = re.sub(rf"(?m)^({bottle},\w+),\w+", rf"\1,{cultivar}", text)
    target.write_text(text, encoding="utf-8")


def shown(command: str) -> list[str]:
    """What a command prints; it has to succeed."""
    lines = screen(shlex.split(command)[1:], WIDTH)
    if any(line.startswith("ginf: error") for line in lines):
        raise RuntimeError("\n".join([command, *lines]))
    return lines


def recorded(recipe: Recipe) -> Iterator[str]:
    """The commands and what the last one prints, in a folder with the data."""
    yield "```text"
    with TemporaryDirectory() as folder, chdir(folder):
        write_data(Path(folder))
        mislabel(Path("wine.csv"), Path("mislabelled.csv"))
        for table in (ROOT / "sample_data" / "classics").glob("*.csv"):
            Path(table.name).write_bytes(table.read_bytes())
        *first, last = recipe.commands
        for command in first:
            shown(command)
            yield f"$ {command}"
        yield f"$ {last}"
        yield from shown(last)
        if recipe.picture is not None and __name__ == "__main__":
            (PICTURES / recipe.picture).write_bytes(Path(recipe.picture).read_bytes())
    yield "```"


if __name__ == "__main__":
    PAGE.write_text("\n".join(page()) + "\n", encoding="utf-8")
    sys.exit(0)
