"""What all commands have in common: -h, -q and -v, examples in their help, and all missing options told at once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import typer
from typer.core import TyperCommand

from anomaly.cli.terminal.console import err, manner, out

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors: no progress, no notes.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More: every note, and where an error came from.")]
JSON = "--json"
OUTPUTS = {"--out", "--report", "--csv", "--json"}  # files that are written
IN_PLACE = ("variants",)  # commands that may write over what they read
HELP = {"help_option_names": ["-h", "--help"]}


class Help(NamedTuple):
    """Where a command stands in the help of those above it, and examples of it, each a whole command line that parses."""

    panel: str
    examples: Sequence[str]


class Command(TyperCommand):
    """A command that tells all missing options at once, writes over nothing it reads, and in which `--json` may stand alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Click's, with these differences."""
        if any(JSON in param.opts and param.type_is_value for param in map(_Param, self.get_params(ctx))):
            args = with_stdout(args)
        try:
            rest = list(super().parse_args(ctx, list(args)))
            _check_outputs(self.get_params(ctx), ctx.params, ctx.info_name)
            return rest
        except typer.BadParameter as error:
            missing = self._missing(ctx, args) if type(error) is not typer.BadParameter else []
            if len(missing) > 1:
                ctx.fail("Missing:\n" + "\n".join(f"  {name}  {text}".rstrip() for name, text in missing))
            raise

    def _missing(self, ctx: Any, args: Sequence[str]) -> list[tuple[str, str]]:
        """Each required option and argument that is not given, with its help."""
        found = self.make_parser(ctx).parse_args(args=list(args))[0]
        lacking = [param for param in self.get_params(ctx) if param.required and not found.get(str(param.name))]
        return [(_Param(param).shown, str(getattr(param, "help", None) or "")) for param in lacking]


def _check_outputs(params: Sequence[Any], values: Mapping[str, Any], command: str | None) -> None:
    """Raise BadParameter where a file to be written is one that is to be read, or another that is to be written."""
    if command in IN_PLACE:
        return
    named = {param.name: [v for v in _several(values.get(param.name)) if isinstance(v, (str, Path)) and str(v)] for param in params}
    for param in params:
        for target in named[param.name] if OUTPUTS & set(param.opts) else []:
            for other in params:
                if other.name != param.name and any(_same_file(Path(target), Path(one)) for one in named[other.name]):
                    shown = _Param(param).shown
                    raise typer.BadParameter(f"{target} would be written over by {shown}, and is {_Param(other).shown}; name another file")


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _same_file(target: Path, other: Path) -> bool:
    try:
        return target.absolute() == other.absolute() or (target.is_file() and target.samefile(other))
    except (OSError, ValueError):  # an address, say
        return False


class _Param:
    """What is asked of a parameter of Click."""

    def __init__(self, param: Any) -> None:
        self.opts: Sequence[str] = param.opts
        self.type_is_value = not getattr(param, "is_flag", False)
        self.shown = self.opts[0] if self.opts and self.opts[0].startswith("-") else str(param.name).rstrip("_").upper()


def with_stdout(args: Sequence[str]) -> list[str]:
    """Arguments in which a `--json` without a file is `--json -`, which is standard output.

    >>> with_stdout(["b.anomaly", "--json", "--csv", "f.csv"]), with_stdout(["--json", "f.json"]), with_stdout(["--json"])
    (['b.anomaly', '--json', '-', '--csv', 'f.csv'], ['--json', 'f.json'], ['--json', '-'])
    """
    found: list[str] = []
    for at, given in enumerate(args):
        found.append(given)
        after = args[at + 1] if at + 1 < len(args) else "--"
        if given == JSON and "--" not in args[:at] and after.startswith("-") and after != "-":
            found.append("-")
    return found


def with_manner(run: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a command with -q and -v, which are set before it runs."""
    if "quiet" in inspect.signature(run).parameters:
        return run

    @functools.wraps(run)
    def told(*args: Any, quiet: bool = False, verbose: bool = False, **options: Any) -> Any:
        manner.quiet, manner.verbose = manner.quiet or quiet, manner.verbose or verbose
        err.muted = manner.quiet
        return run(*args, **options)

    signature, hints = inspect.signature(run), get_type_hints(run, include_extras=True)
    known = [parameter.replace(annotation=hints.get(name, parameter.annotation)) for name, parameter in signature.parameters.items()]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in (("quiet", Quiet), ("verbose", Verbose))
    ]
    told.__signature__ = signature.replace(parameters=[*known, *more])  # type: ignore[attr-defined]
    told.__annotations__ = {**hints, "quiet": Quiet, "verbose": Verbose}
    return told


def begin() -> None:
    """Everything as it is without options: several commands may run in one process, one after the other."""
    manner.quiet = manner.verbose = False
    err.muted, out.stderr = False, False


def arrange(app: typer.Typer, helps: Mapping[str, Help], above: str = "") -> None:
    """Give every command of an app what all have in common, and its place and examples in the help, by its whole name ("alarms list")."""
    app.info.context_settings = HELP
    for group in app.registered_groups:
        if group.typer_instance is not None:
            arrange(group.typer_instance, helps, f"{above}{group.name} " if group.name else above)
            if group.name and f"{above}{group.name}" in helps:
                group.rich_help_panel = helps[f"{above}{group.name}"].panel
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or getattr(command.callback, "__name__", "").lower().replace("_", "-")
        found = helps.get(f"{above}{name}")
        command.cls, command.context_settings, command.callback = Command, HELP, with_manner(command.callback)
        if found is not None:
            command.rich_help_panel = found.panel if not above else None
            word = "Examples" if len(found.examples) > 1 else "Example"
            command.epilog = f"{word}:\n\n" + "\n\n".join(found.examples)
