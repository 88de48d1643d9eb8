"""What a fuzzed file may be answered with: nothing, or one line for the user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from understudy.types import UnderstudyError


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """What a user would be told in one line is a good answer, here; the line is checked to be one."""
    try:
        yield
    except UnderstudyError as error:
        check_one_line(error)


def check_one_line(error: UnderstudyError) -> None:
    """A message for a user is one line, and printable."""
    text = str(error)
    assert text, "an empty message"
    assert "\n" not in text, f"more than one line: {text!r}"
