"""Reports: one HTML file that needs nothing else, to be read by people, on screen or on paper, online or not."""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from understudy.store.atomic import atomic_write_text
from understudy.store.charts import Chart
from understudy.version import __version__

Value = str | int | float
Figure = tuple[str, Value, str]
"""A name, a value (a string may carry its unit: "+7.8 dB") and a note that says how to read it (may be empty)."""


@dataclass(frozen=True)
class Picture:
    """An encoded JPEG or PNG, shown as it is, and what it shows.

    is_sheet: it is many pictures in one, and is shown as wide as the page.
    """

    data: bytes
    caption: str = ""
    is_sheet: bool = False


@dataclass(frozen=True)
class Table:
    """Rows below a header; columns of numbers are set to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[Value]]


@dataclass(frozen=True)
class Section:
    """A part of a report. text: paragraphs parted by empty lines; all but the title may be left out.

    are_tiles: the pictures are many and small, and stand close together.
    """

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    pictures: Sequence[Picture] = ()
    table: Table | None = None
    items: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    are_tiles: bool = False


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int


def render_report(
    path: Path,
    title: str,
    sections: Sequence[Section],
    *,
    verdict: str = "",
    figures: Sequence[Figure] = (),
    pictures: Sequence[Picture] = (),
    eyebrow: str = "Understudy",
    footer: str = "",
) -> None:
    """Write a report to `path`, atomically: a headline (title, verdict, figures, pictures), then the sections.

    All texts are plain and are escaped. eyebrow: a few words above the title (the stage, the performers). Raises ValueError
    for a picture that is neither JPEG nor PNG.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("understudy", "store"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "paragraphs": paragraphs,
        "value": value_text,
        "number_and_unit": number_and_unit,
        "number_columns": number_columns,
    }
    environment.filters |= {"size": picture_size, "data_uri": data_uri, "column_rem": _column_rem}
    html = environment.get_template("report.html").render(
        title=title,
        sections=sections,
        verdict=verdict[:1].upper() + verdict[1:],
        figures=figures,
        pictures=pictures,
        eyebrow=eyebrow,
        footer=footer,
        version=__version__,
    )
    atomic_write_text(path, html)


def headline(figures: Mapping[str, object], notes: Mapping[str, str]) -> list[Figure]:
    """Of a stage's figures those that are numbers and have a note, in the notes' order."""
    return [
        (name.removeprefix("num_").replace("_", " "), value, note)
        for name, note in notes.items()
        if isinstance(value := figures.get(name), int | float)
    ]


def settings_section(title: str, recipe: Mapping[str, object]) -> Section:
    """A table of all that a recipe sets, as `--set` and project files take it."""
    rows = [(key, str(value).lower() if isinstance(value, bool) else str(value)) for key, value in recipe.items()]
    return Section(title, table=Table(("setting", "value"), rows))


def picture_size(data: bytes) -> Size:
    """The size of an encoded JPEG or PNG, from its header."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        return Size(*struct.unpack(">II", data[16:24]))
    position = 2
    while data.startswith(b"\xff\xd8") and position + 9 <= len(data):
        marker, length = struct.unpack(">xBH", data[position : position + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame, ITU T.81 table B.1
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return Size(width, height)
        position += 2 + length
    raise ValueError(f"expected a picture encoded as JPEG or PNG, got {len(data)} bytes that begin with {data[:8]!r}")


def data_uri(data: bytes) -> str:
    """An encoded picture as an address that holds the picture itself."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a plain text, which empty lines part."""
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def is_number(value: Value) -> bool:
    """Whether a cell holds a number, or text that is one but for its sign and unit ("+7.8 dB", "81 %")."""
    return not isinstance(value, str) or _NUMBER_AND_UNIT.fullmatch(value) is not None


def number_columns(table: Table) -> list[bool]:
    """For each column whether it holds numbers, and nothing else but empty cells and dashes."""
    columns = [[row[column] for row in table.rows if row[column] not in ("", "–")] for column in range(len(table.header))]
    return [bool(cells) and all(is_number(cell) for cell in cells) for cells in columns]


def value_text(value: Value) -> str:
    """A value as it is printed: three decimals at most, thousands set apart, a true minus, a dash for what is not known."""
    if isinstance(value, float) and not math.isfinite(value):
        return "–"
    if isinstance(value, float):
        text = (
            f"{value:,.3f}".rstrip("0").rstrip(".")
            if abs(value) >= 1e-3 or value == 0
            else np.format_float_positional(value, 2, fractional=False)
        )
    else:
        text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        if isinstance(value, str):
            return re.sub(r"^-(?=\d)", "−", text)
    return text.replace(",", "\u202f").replace("-", "−")


def number_and_unit(value: Value) -> tuple[str, str]:
    """A value's number and its unit, so that the unit can be set smaller; words have no unit."""
    match = _NUMBER_AND_UNIT.fullmatch(value) if isinstance(value, str) else None
    return (value_text(match[1]), match[2]) if match else (value_text(value), "")


def _column_rem(pictures: Sequence[Picture]) -> float:
    """How wide a column must be for the narrowest of `pictures` to stand about 12 rem high."""
    return 12 * min(size.width / size.height for size in (picture_size(picture.data) for picture in pictures))


_NUMBER_AND_UNIT = re.compile(r"([+−-]?\d[\d.,\u202f]*)\s*(of [\d.,\u202f]+|\D{0,12})")
