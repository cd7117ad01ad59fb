"""``shrinkspeech``: inspect, fit, sweep, export, check.

torch is imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from itertools import takewhile

import typer

from shrinkspeech.errors import ShrinkSpeechError
from shrinkspeech_cli import check, export, fit, inspect, several, sweep, unexpected
from shrinkspeech_cli.memory import keep_memory

HELP = """Shrink a trained speech model to a FLOP/s budget, and export it to ONNX.

\b
    shrinkspeech inspect model.pt2
    shrinkspeech fit model.pt2 --audio clips/ --target-flops 25% -o run/
    shrinkspeech export run/ -o model.onnx
    shrinkspeech check model.onnx --max-flops 600k
"""
EXIT_CODES = "Exit codes: 0 done, 1 a check was not met, 2 bad usage or input."
STEPS, MORE = "Commands, in the order of use", "More commands"

app = typer.Typer(
    help=HELP,
    epilog=EXIT_CODES,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("inspect", rich_help_panel=STEPS)(inspect.inspect)
app.command("fit", rich_help_panel=STEPS)(fit.fit)
app.command("export", rich_help_panel=STEPS)(export.export)
app.command("check", rich_help_panel=STEPS)(check.check)
app.command("sweep", rich_help_panel=MORE)(sweep.sweep)


def _version(wanted: bool) -> None:
    if wanted:
        from shrinkspeech import __version__

        typer.echo(f"shrinkspeech {__version__}")
        raise typer.Exit


@app.callback(help=HELP, epilog=EXIT_CODES)
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show where an error comes from, as a Python traceback."),
) -> None:
    """Options that go before the command; ``main`` looks for --debug itself, since errors leave the command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; any error is one line on stderr and exit code 2. With --debug before the command, a traceback."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if several.idle(given):
        return
    debug = "--debug" in takewhile(lambda argument: argument.startswith("-"), given)
    keep_memory()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".isinstance.treespec", category=FutureWarning)  # torch's own
            with several.quiet_others():
                app(args=given, prog_name="shrinkspeech")
    except SystemExit as ended:
        if not ended.code:
            several.part()
        raise
    except Exception as error:
        if debug:
            raise
        if text := several.told(_text(error, given)):
            unexpected.tell(text)
        sys.exit(2)


def _text(error: Exception, arguments: Sequence[str]) -> str:
    if isinstance(error, ShrinkSpeechError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"cannot use {error.filename}: {error.strerror}" if error.filename else f"cannot go on: {error.strerror}"
    return unexpected.sentence(error, arguments)


if __name__ == "__main__":
    main()
