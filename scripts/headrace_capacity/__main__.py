"""Say what a load needs, or keep docs/how-to/capacity.md true.

PYTHONPATH=scripts python -m headrace_capacity --jobs-per-day 1000000 --cameras 10000
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn, TypeVar, get_args

from pydantic import ValidationError

from headrace_capacity import page
from headrace_capacity.load import Limits, Load, Plan, Prices
from headrace_capacity.measurement import MEASURED, Frozen, load
from headrace_capacity.model import plan_for
from headrace_capacity.tables import parts_table, pods_table, servers_table

_USAGE_EXIT: Final = 2
_GROUPS: Final[Mapping[str, type[Frozen]]] = {
    "load": Load,
    "plan": Plan,
    "limits": Limits,
    "prices": Prices,
}
_Group = TypeVar("_Group", bound=Frozen)


class BadInputError(Exception):
    """What was given cannot be computed with; the message is one line."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise BadInputError(message)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; return the exit code."""
    try:
        return _run(arguments)
    except BadInputError as error:
        print(f"headrace_capacity: {error}", file=sys.stderr)
        return _USAGE_EXIT


def _run(arguments: list[str] | None) -> int:
    options = _parser().parse_args(arguments)
    if options.check or options.write:
        return _page(write=options.write)
    given = {name: value for name, value in vars(options).items() if value is not None}
    wanted = _read(Load, given)
    if not wanted.jobs_per_day and not wanted.cameras:
        raise BadInputError("nothing to do: give --jobs-per-day, --cameras or both")
    try:
        measured = load(options.measured)
    except (OSError, ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise BadInputError(f"{options.measured}: {reason}") from None
    limits, prices = _read(Limits, given), _read(Prices, given)
    capacity = plan_for(wanted, measured, plan=_read(Plan, given), limits=limits)
    told = f"Prices of {prices.region} as of {prices.as_of}: check them."
    print(pods_table(capacity), servers_table(capacity, prices), parts_table(capacity), told,
          sep="\n\n")  # fmt: skip
    return 0


def _page(*, write: bool) -> int:
    if write:
        page.write()
    elif not page.is_true():
        print("docs/how-to/capacity.md is out of date: python -m headrace_capacity --write")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="headrace_capacity",
        description="What an installation of Headrace needs for a load.",
        allow_abbrev=False,
    )
    parser.add_argument("--measured", type=Path, default=MEASURED, help="a file of `make capacity`")
    parser.add_argument("--check", action="store_true", help="only whether the page is true")
    parser.add_argument("--write", action="store_true", help="only write the tables of the page")
    for title, model in _GROUPS.items():
        group = parser.add_argument_group(title)
        for name, field in model.model_fields.items():
            if kind := _scalar(field.annotation):
                told = field.description or name.replace("_", " ")
                default = "" if field.default is None else f" ({field.default})"
                group.add_argument(
                    f"--{name.replace('_', '-')}", type=kind, metavar=kind.__name__.upper(),
                    help=f"{told}{default}".replace("%", "%%"),
                )  # fmt: skip
    return parser


def _scalar(annotation: object) -> type | None:
    """Return the type of an option; a table of limits is none."""
    kinds = [kind for kind in (annotation, *get_args(annotation)) if kind in {int, float, str}]
    return kinds[0] if kinds and not isinstance(annotation, type(dict[str, int])) else None


def _read(model: type[_Group], given: Mapping[str, object]) -> _Group:
    fields = {name: value for name, value in given.items() if name in model.model_fields}
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        fault = error.errors()[0]
        option = str(fault["loc"][0]).replace("_", "-")
        raise BadInputError(f"--{option}: {fault['msg']}, not {fault['input']}") from None


if __name__ == "__main__":
    sys.exit(main())
