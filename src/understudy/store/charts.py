"""Charts for reports, drawn as SVG in the report's own colours: they stay sharp, follow dark mode and need no script."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.integer] | NDArray[np.floating]

_WIDTH = 460
_FONT = 'font-family="inherit" font-size="11" fill="var(--quiet)"'


@dataclass(frozen=True)
class Chart:
    """A drawing and what it shows. svg: markup that is put into the page as it is; made by the functions below only."""

    svg: str
    caption: str = ""


def heat_map(
    counts: Counts,
    column_edges: Sequence[float],
    row_edges: Sequence[float],
    *,
    caption: str,
    names: tuple[str, str],
    unit: str = "°",
    marked: NDArray[np.bool_] | None = None,
) -> Chart:
    """Counts (rows, columns), the lowest row at the bottom; the deeper, the more (by square root), each with its number.

    names: of the columns' and the rows' axis. marked: cells that are framed.
    """
    num_rows, num_columns = counts.shape
    left, top, bottom = 58, 6, 38
    cell = (_WIDTH - left - 16) / num_columns
    cell_height = min(cell, 34.0)
    height = top + num_rows * cell_height + bottom
    most = max(float(counts.max(initial=0)), 1.0)
    parts = []
    for row in range(num_rows):
        y = top + (num_rows - 1 - row) * cell_height
        for column in range(num_columns):
            x, count = left + column * cell, float(counts[row, column])
            parts.append(_cell(x, y, cell, cell_height, count, (count / most) ** 0.5))
            if marked is not None and marked[row, column]:
                parts.append(
                    f'<rect x="{x + 2:.1f}" y="{y + 2:.1f}" width="{cell - 4:.1f}" height="{cell_height - 4:.1f}" fill="none" '
                    f'stroke="var(--ink)" stroke-width="1.4" stroke-dasharray="3 2.5" rx="2"/>'
                )
    base = top + num_rows * cell_height
    for number, edge in enumerate(column_edges):
        if number % 2 == len(column_edges) // 2 % 2:
            parts.append(_label(left + number * cell, base + 14, f"{edge:g}{unit}"))
    for number, edge in enumerate(row_edges):
        if number % 2 == len(row_edges) // 2 % 2:
            parts.append(_label(left - 6, base - number * cell_height + 4, f"{edge:g}{unit}", anchor="end"))
    parts.append(_label(left + num_columns * cell / 2, base + 31, names[0]))
    middle = top + num_rows * cell_height / 2
    turned = f'x="10" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 10 {middle:.1f})"'
    parts.append(f"<text {turned} {_FONT}>{escape(names[1])}</text>")
    return Chart(_svg(height, parts, caption), caption)


def histogram(
    series: Sequence[tuple[str, Counts]], edges: Sequence[float], *, caption: str, axis: str, marks: Sequence[float] = ()
) -> Chart:
    """One or two series of shares (bins,) over the same bins: the first filled, the second a line.

    marks: values at which a thin line stands, where one kind ends and the next begins.
    """
    left, top, bottom, height = 8, 24, 36, 190
    low, high = edges[0], edges[-1]
    width = _WIDTH - 2 * left
    base = height - bottom
    most = max((float(counts.max(initial=0)) for _, counts in series), default=0.0) or 1.0

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * width

    def y(count: float) -> float:
        return base - count / most * (base - top)

    parts = [
        f'<line x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{top}" y2="{base}" stroke="var(--line)" stroke-width="1"/>'
        for mark in marks
        if low < mark < high
    ]
    for number, (_, counts) in enumerate(series[:2]):
        corners: list[tuple[float, float]] = [(x(low), base)]
        for index, count in enumerate(counts):
            corners += [(x(edges[index]), y(float(count))), (x(edges[index + 1]), y(float(count)))]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in [*corners, (x(high), base)])
        look = (
            'fill="var(--accent)" fill-opacity=".55" stroke="none"'
            if number == 0
            else 'fill="none" stroke="var(--ink)" stroke-width="1.5"'
        )
        parts.append(f'<polyline points="{points}" {look}/>')
    parts.append(f'<line x1="{left}" x2="{left + width}" y1="{base}" y2="{base}" stroke="var(--ink)" stroke-width="1"/>')
    parts += [_label(min(max(x(tick), left + 8), left + width - 8), base + 14, f"{tick:.4g}") for tick in _ticks(low, high, 6)]
    parts.append(_label(left + width / 2, base + 30, axis))
    parts += _legend([name for name, _ in series], left)
    return Chart(_svg(height, parts, caption), caption)


def curves(series: Mapping[str, Sequence[tuple[float, float]]], *, caption: str) -> Chart:
    """One or two curves of points (x, y) over common axes: the first in the accent's colour, the second in ink."""
    left, top, bottom, height = 52, 24, 22, 190
    width, base = _WIDTH - left - 16, height - bottom
    points = np.array([point for curve in series.values() for point in curve], np.float64)
    (x_low, y_low), (x_high, y_high) = points.min(axis=0), points.max(axis=0)
    y_low, y_high = (y_low, y_high) if y_high > y_low else (y_low - 0.5, y_high + 0.5)
    x_high = max(x_high, x_low + 1)

    def x(value: float) -> float:
        return left + float((value - x_low) / (x_high - x_low)) * width

    def y(value: float) -> float:
        return base - float((value - y_low) / (y_high - y_low)) * (base - top)

    parts = []
    for tick in _ticks(y_low, y_high, 4):
        parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="var(--line)"/>')
        parts.append(_label(left - 6, y(tick) + 4, f"{tick:.4g}", anchor="end"))
    for tick in _ticks(x_low, x_high, 5):
        parts.append(_label(min(x(tick), _WIDTH - 20), base + 15, f"{tick:,.10g}".replace(",", "\u202f")))
    for number, curve in enumerate(list(series.values())[:2]):
        line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in curve)
        colour = "var(--ink)" if number else "var(--accent)"
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    parts += _legend(list(series), left) if len(series) > 1 else []
    return Chart(_svg(height, parts, caption), caption)


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers between `low` and `high`, about so many."""
    step = _round_step((high - low) / about)
    ticks = np.arange(np.ceil(low / step - 1e-9) * step, high + step / 1e6, step)
    return [float(tick) if abs(tick) > step / 1e6 else 0.0 for tick in ticks]


def _legend(names: Sequence[str], left: float) -> list[str]:
    parts, x = [], left
    for number, name in enumerate(names):
        if number == 0:
            mark = f'<rect x="{x:.1f}" y="4" width="14" height="9" fill="var(--accent)" fill-opacity=".55"/>'
        else:
            mark = f'<line x1="{x:.1f}" x2="{x + 14:.1f}" y1="8.5" y2="8.5" stroke="var(--ink)" stroke-width="1.5"/>'
        parts += [mark, _label(x + 19, 12.5, name, anchor="start")]
        x += 34 + 6.5 * len(name)
    return parts


def _cell(x: float, y: float, width: float, height: float, count: float, depth: float) -> str:
    ink = "var(--paper)" if depth > 0.62 else "var(--ink)"
    fill = f'fill="var(--accent)" fill-opacity="{depth:.3f}"' if count else 'fill="var(--line)" fill-opacity=".28"'
    box = f'<rect x="{x + 0.75:.1f}" y="{y + 0.75:.1f}" width="{width - 1.5:.1f}" height="{height - 1.5:.1f}" rx="2" {fill}/>'
    if not count:
        return box
    middle = f'x="{x + width / 2:.1f}" y="{y + height / 2 + 3.8:.1f}"'
    return f'{box}<text {middle} text-anchor="middle" font-family="inherit" font-size="11" fill="{ink}">{count:.0f}</text>'


def _label(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {_FONT}>{escape(re.sub(r"^-(?=[0-9.])", "−", text))}</text>'


def _svg(height: float, parts: Sequence[str], caption: str) -> str:
    label = escape(caption, quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _round_step(rough: float) -> float:
    """The nearest of 1, 2, 2.5 and 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(max(rough, 1e-9)))
    return float(min((1, 2, 2.5, 5, 10), key=lambda factor: abs(factor * power - rough)) * power)
