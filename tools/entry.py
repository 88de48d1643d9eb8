"""How a tool begins and ends: `--help` shows what it is for; a user's mistake is told in one line, and so is Ctrl-C.

Needs nothing but Python, because two of the tools run where Understudy is not installed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

EXIT_BAD_INPUT, EXIT_STOPPED = 2, 130


def parser(words: str | None) -> argparse.ArgumentParser:
    """Of a tool's options; words: the tool's docstring, which `--help` shows as it is."""
    return argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)


def run(main: Callable[..., object], options: argparse.ArgumentParser | None = None) -> None:
    """Call `main` with what the user gave for each of `options`; what they can mend, or stopped, ends in one line."""
    given = vars(options.parse_args()) if options else {}
    try:
        main(**given)
    except KeyboardInterrupt:
        _end("stopped", EXIT_STOPPED)
    except FileNotFoundError as error:
        if error.filename is None:
            raise
        _end(f"{error.filename} is not there", EXIT_BAD_INPUT)
    except Exception as error:
        if not hasattr(error, "exit_status"):  # which every UnderstudyError has: that class may not be at hand
            raise
        _end(str(error), error.exit_status)


def end_quietly() -> None:
    """For a tool's own processes: Ctrl-C reaches them too, and ends them without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(message: str, status: int) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(status)
