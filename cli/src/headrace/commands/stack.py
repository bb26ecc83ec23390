"""`up`, `down`, `status`, `logs`: the local stack."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace import completion
from headrace.failures import CommandError, ExitCode
from headrace.output import JsonOption, console, print_fields, print_json, print_table
from headrace_local import control
from headrace_local.channel import order
from headrace_local.errors import LocalStackError
from headrace_local.overrides import Overrides
from headrace_local.parts import ALL_PARTS, Part, services_of
from headrace_local.services import ServiceSpec, replicated
from headrace_local.state import Phase, ProcessState, StackState

DirectoryOption = Annotated[
    Path | None,
    typer.Option(
        "--directory", help="The stack's directory; default HEADRACE_HOME, else ./.headrace."
    ),
]

NamesArgument = Annotated[
    list[str], typer.Argument(metavar="NAME...", autocompletion=completion.process_names)
]

_COLOURS = {
    ProcessState.READY: "green",
    ProcessState.STARTING: "yellow",
    ProcessState.RESTARTING: "yellow",
    ProcessState.FAILED: "red",
    ProcessState.STOPPED: "dim",
}


def up(
    directory: DirectoryOption = None,
    *,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all is ready, and leave it running.")
    ] = False,
    servers_only: Annotated[
        bool, typer.Option("--servers-only", help="Start the servers without our services.")
    ] = False,
    only: Annotated[
        Part | None, typer.Option("--only", help="Start one half of the product; default both.")
    ] = None,
    replicas: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COUNT", help="Run a service several times; repeatable."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the services; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start the local stack: Valkey, Postgres, S3, SQS, Keystone, Swift and the services."""
    show = None if as_json else StackPrinter(foreground=not detach)
    run = control.up_detached if detach else control.up
    parts = ALL_PARTS if only is None else (only,)
    overrides = Overrides(settings=_pairs(settings))
    try:
        services = () if servers_only else _replicated(parts, _pairs(replicas))
        result = run(directory, parts=parts, services=services, overrides=overrides, on_change=show)
    except LocalStackError as error:
        raise CommandError(str(error)) from None
    if as_json:
        print_json(_public(result.state))
    elif result.already_running:
        console.print(f"It ran already, in {result.state.directory}.")
        if not detach:
            _print_endpoints(result.state)


def _pairs(words: list[str] | None) -> dict[str, str]:
    """Read NAME=VALUE words."""
    pairs = [word.partition("=") for word in words or ()]
    wrong = ["".join(parts) for parts in pairs if not (parts[0] and parts[1])]
    if wrong:
        raise CommandError(f"not NAME=VALUE: {', '.join(wrong)}")
    return {name: value for name, _, value in pairs}


def _replicated(parts: Sequence[Part], counts: dict[str, str]) -> tuple[ServiceSpec, ...]:
    """Return the services of the parts, some of them several times."""
    wrong = [name for name, count in counts.items() if not count.isdigit() or int(count) < 1]
    if wrong:
        raise CommandError(f"how many replicas? {', '.join(wrong)}")
    return replicated(services_of(parts), {name: int(count) for name, count in counts.items()})


class StackPrinter:
    """Prints each process when its state changes, and where things are once all is ready."""

    def __init__(self, *, foreground: bool) -> None:
        """Print for a stack that Ctrl-C stops (`foreground`), or one that goes on."""
        self._foreground = foreground
        self._seen: dict[str, ProcessState | None] = {}
        self._was_ready = False

    def __call__(self, state: StackState) -> None:
        """Print what has changed."""
        for record in state.processes:
            # Before its turn a process is `stopped`, which is no news.
            if self._seen.get(record.name, ProcessState.STOPPED) != record.state:
                self._seen[record.name] = record.state
                colour = _COLOURS[record.state]
                console.print(f"  [{colour}]{record.state:<11}[/] {record.name:<16} {record.url}")
        if state.phase is Phase.READY and not self._was_ready:
            self._was_ready = True
            _print_endpoints(state)
            if self._foreground:
                console.print("Ctrl-C stops everything.", style="dim")


def down(directory: DirectoryOption = None) -> None:
    """Stop the local stack; its data stays."""
    try:
        stopped = control.down(directory)
    except LocalStackError as error:
        raise CommandError(str(error)) from None
    console.print("Stopped." if stopped else "Nothing was running.")


def status(directory: DirectoryOption = None, *, as_json: JsonOption = False) -> None:
    """Show the local stack. Exits 1 unless all of it is ready."""
    state = control.status(directory)
    if state is None:
        raise CommandError("no local stack here; `headrace up` starts one", ExitCode.NOT_FOUND)
    if as_json:
        print_json(_public(state))
    else:
        console.print(f"[bold]{state.phase}[/]  {state.directory}", highlight=False)
        print_table(
            ("NAME", "KIND", "STATE", "PID", "RESTARTS", "URL", ""),
            [
                (r.name, r.kind, r.state.value, r.pid, r.restarts, r.url, r.error)
                for r in state.processes
            ],
        )
    if not state.is_running and any(record.identity for record in state.processes):
        console.print("Its supervisor is gone: `headrace up` takes over what is left.")
    ready = all(record.state is ProcessState.READY for record in state.processes)
    if not (state.is_running and ready):
        raise typer.Exit(ExitCode.FAILED)


def logs(
    name: Annotated[str, typer.Argument(autocompletion=completion.process_names)],
    directory: DirectoryOption = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0)] = 100,
) -> None:
    """Show the log of a server or service of the local stack."""
    try:
        for line in control.logs(directory, name, follow=follow, lines=lines):
            typer.echo(line.rstrip("\n"))
    except LocalStackError as error:
        raise CommandError(str(error), ExitCode.NOT_FOUND) from None


def start(names: NamesArgument, directory: DirectoryOption = None) -> None:
    """Start processes of the running stack that were stopped."""
    _order(directory, "start", names)


def stop(names: NamesArgument, directory: DirectoryOption = None) -> None:
    """Stop processes of the running stack; they stay down until they are started."""
    _order(directory, "stop", names)


def restart(names: NamesArgument, directory: DirectoryOption = None) -> None:
    """Restart processes of the running stack."""
    _order(directory, "restart", names)


def env(directory: DirectoryOption = None, *, as_json: JsonOption = False) -> None:
    """Print the settings of the stack's services, passwords included, to be sourced by a shell."""
    try:
        settings = control.require_running(directory).env
    except LocalStackError as error:
        raise CommandError(str(error), ExitCode.NOT_FOUND) from None
    if as_json:
        print_json(settings)
        return
    for name, value in sorted(settings.items()):
        typer.echo(f"export {name}={shlex.quote(value)}")


def _order(directory: Path | None, do: str, names: list[str]) -> None:
    try:
        order(control.require_running(directory), do, names)
    except LocalStackError as error:
        raise CommandError(str(error)) from None
    console.print(f"Done: {do} {' '.join(names)}.", highlight=False)


def _print_endpoints(state: StackState) -> None:
    print_fields(
        (name.removesuffix("_url"), url + ("/docs" if name != "analysis_url" else ""))
        for name, url in state.endpoints.items()
    )


def _public(state: StackState) -> dict[str, Any]:
    """Return what may be shown: no key, no passwords."""
    return state.model_dump(mode="json", exclude={"api_key", "env", "control"})
