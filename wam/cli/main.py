# SPDX-License-Identifier: Apache-2.0
"""`wam`: finds the verb, runs it, and turns errors into a one-line message and an exit code.

A verb is a module `wam/cli/VERB.py` with a typer function of the verb's name, or a typer `app` for a verb with
subcommands of its own. It is imported when it is called, not before.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from wam import __version__
from wam.cli.usage import usage_text
from wam.core.errors import MissingDependency, WamError, is_machine_fault, named_os_error
from wam.core.extras import missing
from wam.sim.gl import refusal_of_mujoco

# typer brings its own click from 0.26 on and uses the installed one before; these are the same classes either way.
_UsageError: type[Any]
_ClickException: type[Any]
_UsageError, _ClickException = typer.BadParameter.__mro__[1:3]

EXIT_OK = 0
EXIT_COULD_NOT_RUN = 1
EXIT_FAILED_CHECK = 2
EXIT_MACHINE = 3
EXIT_INTERRUPTED = 130

VERBS = {
    "doctor": "Check this machine: Python, ROS 2, rendering, compiler, shared memory; suggest fixes.",
    "demo": "Let a simulated robot do a task with the real nodes; writes a report with its video.",
    "sim": "Simulated tasks, without ROS: list and render them, run and record their scripted experts.",
    "eval": "Evaluate a policy on a simulated task in closed loop, with the real nodes or in this process.",
    "replay": "Replay a recorded episode through planner and executor as if it were live; writes a report.",
    "record": "Record a robot and its nodes to a rosbag2; the bag survives kill -9 and a full disk.",
    "secure": "Write a robot's keystore: who may publish and read what, encrypted (DDS security).",
    "audit": "Print what the safety nodes have recorded: every change of rung, its cause, the last commands.",
    "convert": "Convert data sets to bags, bags to data sets, and released checkpoints to policy bundles.",
    "train": "Train a policy on a LeRobot data set; the result is a policy bundle.",
    "export": "Write the stages of a policy as ONNX graphs, for ONNX Runtime.",
    "build-engine": "Compile the stages of a policy with TensorRT, for this machine's GPU.",
    "check-backend": "Judge a backend on this device: every stage of a policy against the eager one.",
    "distill": "Distil a trained policy into one that needs fewer integration steps.",
    "init": "Draft the robot file of a recording; create initial weights for training.",
    "info": "List robots, policies and presets, or show one of them; or what a recording or data set holds.",
    "check": "Name every problem of a recording or data set: what it means for replay, and what helps.",
    "soak": "Run hours of random faults on a simulated robot with the real nodes; show whether anything grows.",
    "bench": "Measure latencies and compare them with their limits.",
}
"""Every verb with its line in `wam --help`, in the order shown."""

HELP = """
Deploy world-action-model policies on robots: a slow [bold]planner[/bold] provides context, a fast
[bold]executor[/bold] acts.

New here? [bold]wam doctor[/bold] checks the machine, [bold]wam demo piper[/bold] moves a simulated robot,
[bold]wam replay[/bold] evaluates a policy on your recording.

Exit codes: 0 success, 1 could not run (the last line says why), 2 ran, but a check failed,
3 this machine refused (disk, permission, display), 130 interrupted.
"""


def load_verb(name: str) -> Any:
    """Import the module of a verb and return its (click) command.

    Raises:
        MissingDependency: the module needs something that is not installed.
    """
    module_name = name.replace("-", "_")
    try:
        module = importlib.import_module(f"wam.cli.{module_name}")
    except ModuleNotFoundError as error:
        if _is_ours(error):
            raise
        raise missing_dependency(error, needed_by=f"wam {name}") from error
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
        app.command(name)(getattr(module, module_name))
    command = typer.main.get_command(app)
    command.name = name
    _keep_brackets(command)
    return command


def _keep_brackets(command: Any) -> None:
    """Escape units such as [s] in the help texts, which rich would take for markup."""
    command.help = escape(command.help or "")
    for parameter in command.params:
        if getattr(parameter, "help", None):
            parameter.help = escape(parameter.help)
    for verb in getattr(command, "commands", {}).values():
        _keep_brackets(verb)


def _is_ours(error: ModuleNotFoundError) -> bool:
    """Return whether the missing module is one of this package, which is a bug and not an installation problem."""
    return (error.name or "").partition(".")[0] == "wam"


def missing_dependency(error: ModuleNotFoundError, *, needed_by: str) -> MissingDependency:
    """Return the error that says what to install."""
    module = (error.name or str(error)).partition(".")[0]
    verb = needed_by.removeprefix("wam").strip()
    return missing(f"{needed_by} needs the Python module {module}", module, verb=verb)


class LazyVerb(TyperCommand):
    """Placeholder of a verb in the help; imports the verb when it is called."""

    def __init__(self, name: str) -> None:
        super().__init__(name, help=VERBS[name], short_help=VERBS[name])

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Delegate to the real command, which click then invokes."""
        return load_verb(str(self.name)).make_context(info_name, args, parent=parent, **extra)


class Verbs(TyperGroup):
    """The group of all verbs; knows their names without importing them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the verbs in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> LazyVerb | None:
        """Return the placeholder of a verb, or None for an unknown word."""
        return LazyVerb(cmd_name) if cmd_name in VERBS else None


app = typer.Typer(
    cls=Verbs,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wam {__version__}")
        raise typer.Exit(EXIT_OK)


@app.callback(help=HELP)
def wam(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Read the options that come before the verb; without a verb, show the help."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(EXIT_COULD_NOT_RUN)


def run(arguments: Sequence[str], *, command: Callable[[], Any] | None = None) -> int:
    """Run the `wam` command and return its exit code; errors are printed to stderr.

    Args:
        arguments: command line without the program's name.
        command: returns the command to run; for tests.
    """
    make = command or (lambda: typer.main.get_command(app))
    try:
        result = make().main(args=list(arguments), prog_name="wam", standalone_mode=False)
    except WamError as error:
        return _refuse_error(error)
    except OSError as error:
        if (
            error.errno is None
        ):  # of a library, not of the operating system: it names neither place nor reason
            raise
        return _refuse_error(named_os_error(error))
    except ModuleNotFoundError as error:
        if _is_ours(error):
            raise
        return _refuse(str(missing_dependency(error, needed_by=_verb_of(arguments))))
    except (KeyboardInterrupt, typer.Abort):
        result = EXIT_INTERRUPTED
    except _ClickException as error:
        return _refuse_usage(error)
    except RuntimeError as error:
        if (refusal := refusal_of_mujoco(error, os.environ)) is None:
            raise
        return _refuse_error(refusal)
    if result == EXIT_INTERRUPTED:  # typer itself turns Ctrl-C into this result
        print("interrupted", file=sys.stderr)
    return result if isinstance(result, int) else EXIT_OK


def _verb_of(arguments: Sequence[str]) -> str:
    """Return `wam VERB` of a command line, or `wam` where it names none."""
    return next((f"wam {word}" for word in arguments if word in VERBS), "wam")


def _refuse_error(error: WamError) -> int:
    """Report an error; one of this machine (disk, permission, display) has an exit code of its own."""
    code = _refuse(str(error))
    return EXIT_MACHINE if is_machine_fault(error) else code


def _refuse(text: str, *, after: str = "") -> int:
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"[bold red]error:[/bold red] [red]{escape(text)}[/red]{escape(after)}"
    )
    return EXIT_COULD_NOT_RUN


def _refuse_usage(error: Any) -> int:
    """Report a usage error in one line; click would exit with 2, which here means a failed check."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return EXIT_COULD_NOT_RUN
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "wam"
    after = f"; see `{path} --help`" if isinstance(error, _UsageError) else ""
    return _refuse(usage_text(error), after=after)


def main() -> None:
    """Entry point of the `wam` executable."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
