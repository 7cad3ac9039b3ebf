"""`aiops`: every command, in one list. Commands live in modules of their own and import what is heavy when they run.

Exit status: 0 done, 1 the answer is "no" (a replay differs), 2 the input is wrong (one line on stderr says what).
"""

from __future__ import annotations

import sys

import typer

from aiops import __version__
from aiops.cli import backtest, check, db, diagnose, doctor, forecast, load, replay, run, simulate, top
from aiops.errors import AiopsError, UserError

app = typer.Typer(
    name="aiops",
    help="An autopilot for AI/GPU clusters: watches, foresees, explains and acts, and can prove every step.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"aiops {__version__}")
        raise typer.Exit


@app.callback()
def root(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version.")) -> None:
    """An autopilot for AI/GPU clusters: watches, foresees, explains and acts, and can prove every step."""


app.command("run", rich_help_panel="Daemon")(run.run)
app.command("doctor", rich_help_panel="Daemon")(doctor.doctor)
app.command("check-config", rich_help_panel="Daemon")(check.check_config)
app.add_typer(db.app, name="db", rich_help_panel="Daemon")
app.command("import", rich_help_panel="Daemon")(load.load)
app.command("top", rich_help_panel="Daemon")(top.top)
app.command("explain", rich_help_panel="Proof")(replay.explain)
app.command("replay", rich_help_panel="Proof")(replay.replay)
app.command("forecast", rich_help_panel="On files")(forecast.forecast)
app.command("backtest", rich_help_panel="On files")(backtest.backtest)
app.command("diagnose", rich_help_panel="On files")(diagnose.diagnose)
app.command("simulate", rich_help_panel="On files")(simulate.simulate)


def main() -> None:
    """Run the command line; a person's mistake is one line and status 2, never a traceback."""
    try:
        status = app(standalone_mode=False)
    except UserError as error:
        _fail(str(error), 2)
    except AiopsError as error:
        _fail(str(error), 1)
    except typer.TyperException as error:
        _fail(error.format_message(), 2)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    else:
        sys.exit(status if isinstance(status, int) else 0)


def _fail(line: str, status: int) -> None:
    sys.stderr.write(f"aiops: {' '.join(line.split())}\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
