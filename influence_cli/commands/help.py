"""The layout of a command's help: ``-h`` shows its common options on one screen, ``--help`` all of them in panels."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

from typer.core import TyperCommand

from influence_cli.commands.options import IF_EXISTS, WORDS
from influence_cli.errors import UsageError

SHORT, LONG = "-h", "--help"
VALUES = {str: "TEXT", int: "N", float: "X", list[str]: "A,B"}
"""The placeholder for the value of an option that has none of its own."""
COMPLETED = {**WORDS, "--if-exists": IF_EXISTS}
NUMBERS = {int: "a whole number", float: "a number"}
PANEL = "rich_help_panel"
"""Typer's name for the heading under which ``--help`` lists an option."""
RANGE = re.compile(r"  \[(\d+<=)?x[<>]=\d+\]$|; (\d+<=)?x[<>]=\d+(?=\]$)")
"""Click's addition to the text of a number: limits that few users reach and that an error states."""
WIDEST_NAME = 26
"""Columns for an option's name and value: a longer one takes its own line and leaves the text its width."""
ALSO_COMMON = {"verify", "output", "top"}
"""Options that ``-h`` shows although they are in a named panel of ``--help``."""


class Command(TyperCommand):
    """A command whose ``-h`` omits the options of every named panel, and all but first sentences."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as usual, and record which help is requested.

        Raises UsageError if a value is missing, also if the parser would take another option for it.
        """
        ctx.meta[SHORT] = SHORT in args and LONG not in args
        if ctx.resilient_parsing:  # the shell asks for completions
            return super().parse_args(ctx, args)
        takes_value = {
            name: not getattr(one, "is_flag", True)
            for one in self.params
            for name in (*one.opts, *one.secondary_opts)
            if name.startswith("-")
        }
        words = iter(args[: args.index("--")] if "--" in args else args)
        for word in words:
            if not takes_value.get(word):
                continue
            value = next(words, None)
            if value in takes_value or (value is None and "--" not in args):
                found = "the line ends behind it" if value is None else f"the option {value} stands in its place"
                raise UsageError(f"{word} needs a value, and {found}", hint=f"see {ctx.command_path} {LONG}")
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            option = getattr(error, "param", None)
            expected = None if option is None else _numbers_of(self.callback, option.name)
            if option is None or expected is None:
                raise
            names = (*option.opts, *option.secondary_opts)
            texts = (_value(given, names, at) for at in reversed(range(len(given))))
            text = next((one for one in texts if one is not None), "")
            hint = f"see {ctx.command_path} {LONG}"
            raise UsageError(f"{option.opts[0]} must be {expected}, found {text!r}", hint=hint) from None

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The parts of the usage line, with required parts without braces."""
        return [re.sub("[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]

    def get_help_option(self, ctx: Any) -> Any:
        """The option of the help itself, which takes no value."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.metavar, option.help = "", f"{SHORT}: the common options.  {LONG}: all of them."
        return option

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the requested help."""
        purpose, *more, example = (self.help or "").split("\n\n")
        options: list[Any] = self.params
        self.format_usage(ctx, formatter)
        if ctx.meta.get(SHORT):
            shown = [one for one in options if one.name in ALSO_COMMON or getattr(one, PANEL, None) is None]
            for text in (purpose, example):
                formatter.write_text(text)
            formatter.write_paragraph()
            formatter.write_dl(
                [(one.get_help_record(ctx)[0].split(" <")[0], _first_sentence(one.help)) for one in shown]
            )
            formatter.write_paragraph()
            formatter.write_text(f"All options, {len(options) - len(shown)} more: {ctx.command_path} {LONG}")
            return
        for text in (purpose, *more, example):
            formatter.write_paragraph()
            formatter.write_text(text)
        panels: dict[str, list[tuple[str, str]]] = {}
        for one in [*options, self.get_help_option(ctx)]:
            name, text = one.get_help_record(ctx)
            title = getattr(one, PANEL, None) or ("Options" if one.param_type_name == "option" else "Arguments")
            panels.setdefault(title, []).append((name.split(" <")[0], RANGE.sub("", text)))
        formatter.write_paragraph()
        for title, records in panels.items():
            formatter.write(_panel(title, records, formatter))


def _panel(title: str, records: Sequence[tuple[str, str]], formatter: Any) -> str:
    """Options in a frame, whose texts have all the width that the names leave: Typer's own frame leaves them half."""
    from influence_cli.present.frames import SIDES, framed

    inside = type(formatter)(width=formatter.width - SIDES)
    inside.write_dl(records, col_max=WIDEST_NAME)
    return framed(title, inside.getvalue().rstrip(), formatter.width)


def _numbers_of(function: Callable[..., Any] | None, name: str) -> str | None:
    """The numbers that the parameter of that name accepts, in words; None if it accepts other values than numbers."""
    one = None if function is None else signature(function).parameters.get(name)
    if one is None:
        return None
    kind, option = one.annotation.__origin__, one.annotation.__metadata__[0]
    words = next((words for known, words in NUMBERS.items() if kind in (known, known | None)), None)
    if words is None or option.min is None:
        return words
    return (
        f"{words} of {option.min:,} or more" if option.max is None else f"{words} from {option.min:,} to {option.max:,}"
    )


def _value(args: Sequence[str], names: Sequence[str], at: int) -> str | None:
    """The value that the command line gives to one of these names at that position."""
    for name in names:
        if args[at] == name:
            return args[at + 1] if at + 1 < len(args) else None
        joined = f"{name}=" if name.startswith("--") else name
        if args[at].startswith(joined):
            return args[at].removeprefix(joined)
    return None


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def completing(words: Sequence[str]) -> Callable[[str], list[str]]:
    """Completion of an option whose value is one of these words, or several separated by commas."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{word}" for word in words if word.startswith(last)]

    return complete


def name_values(function: Callable[..., int]) -> None:
    """Give each option of a command a short word for its value (a switch takes none), and the words to complete."""
    for one in signature(function).parameters.values():
        kind, option = one.annotation.__origin__, one.annotation.__metadata__[0]
        spelled = (option.default, *(option.param_decls or ()))  # within Annotated the first name counts as a default
        names = [f"{command}{name}" for name in spelled for command in (f"{function.__name__} ", "")]
        words = next((COMPLETED[name] for name in names if name in COMPLETED), None)
        if words is not None:
            option.autocompletion = completing(words)
        plain = next((known for known in (bool, *VALUES) if kind in (known, known | None)), None)
        if plain is bool:
            option.metavar = ""
        elif plain is not None and option.metavar is None:
            option.metavar = VALUES[plain]
