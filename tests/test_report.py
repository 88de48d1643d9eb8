"""Reports: one file that shows what it was given, needs nothing else and cannot be broken out of."""

import base64
import math
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.recipes import convert_recipe, parse_settings
from understudy.store.charts import curves
from understudy.store.report import Picture, Section, Table, picture_size, render_report, settings_section, value_text


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += [data.strip()] if data.strip() else []


def encoded(width: int, height: int, suffix: str, *options: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


def render(tmp_path: Path, *sections: Section, **headline) -> tuple[str, Tags]:
    render_report(tmp_path / "report.html", "Bea over Abel", sections, **headline)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    return html, Tags(html)


def test_a_report_needs_nothing_but_itself(tmp_path: Path):
    jpeg, png = encoded(60, 40, ".jpg"), encoded(30, 50, ".png")
    section = Section("Stills", pictures=[Picture(jpeg, "a jpeg"), Picture(png)])
    html, page = render(tmp_path, section, section, pictures=[Picture(jpeg)])
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [base64.b64decode(image["src"].partition("base64,")[2]) for image in images] == [jpeg, jpeg, png, jpeg, png]
    assert [(image["width"], image["height"]) for image in images[:3]] == [("60", "40"), ("60", "40"), ("30", "50")]
    for _, attributes in page.tags:
        for name in {"src", "href", "action", "data"} & attributes.keys():
            assert attributes[name].startswith(("data:image/", "#"))
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) == 10


@given(st.text())
@settings(max_examples=25)
def test_whatever_a_text_holds_it_stays_text(tmp_path_factory, text: str):
    hostile = f'"><script>alert(1)</script><img src=x onerror=y>{{{{ 7 * 7 }}}}{text}'.replace("\0", "").replace("\r", "")
    section = Section(
        hostile, hostile, [(hostile, hostile, hostile)], [Picture(JPEG, hostile)], Table([hostile], [[hostile]]), [hostile]
    )
    headline = {"verdict": hostile, "eyebrow": hostile, "footer": hostile, "figures": [(hostile, hostile, hostile)]}
    _, page = render(tmp_path_factory.mktemp("report"), section, **headline)
    assert [tag for tag, _ in page.tags].count("img") == 1
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert sum("{{ 7 * 7 }}" in text for text in page.text) >= 10


JPEG = encoded(16, 16, ".jpg")


def test_a_report_shows_what_it_was_given(tmp_path: Path):
    table = Table(("frame", "word"), [(1200, "blurred"), (math.nan, "clear")])
    section = Section("Scores", "One.\n\nTwo.", [("detail", 0.61, "of the truth")], table=table, items=["an item"])
    _, page = render(tmp_path, section, verdict="A likeness.", figures=[("gain", "+7.8 dB", ""), ("frames", "3 of 120", "")])
    for text in (
        "Bea over Abel",
        "A likeness.",
        "Scores",
        "One.",
        "Two.",
        "detail",
        "0.61",
        "of the truth",
        "an item",
        "blurred",
    ):
        assert text in page.text
    assert [text for text in page.text if text in ("+7.8", "dB", "3", "of 120", "1\u202f200", "–")] == [
        "+7.8", "dB", "3", "of 120", "1\u202f200", "–",
    ]  # fmt: skip


def test_curves_span_the_chart_and_are_told_apart_by_name():
    chart = curves({"held-out": [(0, 1.0), (100, 0.0)], "trained": [(0, 0.5), (100, -0.5)]}, caption="error by step")
    lines = [match.split() for match in re.findall(r'<polyline points="([^"]+)"', chart.svg)]
    assert [len(line) for line in lines] == [2, 2]
    (left, highest), (right, _) = (tuple(map(float, point.split(","))) for point in lines[0])
    (_, lowest) = map(float, lines[1][1].split(","))
    assert (left, right, highest, lowest) == (52, 444, 24, 168)
    assert all(f">{word}<" in chart.svg for word in ("held-out", "trained", "−0.5", "100"))


@pytest.mark.parametrize("curve", [[(5, 0.25)], [(1, 0.25), (2, 0.25)]])
def test_a_curve_of_one_height_lies_in_the_middle(curve: list[tuple[float, float]]):
    assert ",96.0" in curves({"loss": curve}, caption="").svg


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"), (-2.0, "−2"), (1234567, "1\u202f234\u202f567"), (1234.5, "1\u202f234.5"), (0.0, "0"),
        (5e-5, "0.00005"), (math.inf, "–"), ("-7.8 dB", "−7.8 dB"), ("take-2", "take-2"), ("1,2", "1,2"),
    ],
)  # fmt: skip
def test_values_are_printed_as_people_write_them(value: str | float, text: str):
    assert value_text(value) == text


def test_a_verdict_begins_with_a_capital(tmp_path: Path):
    assert "Still improving at step 900" in render(tmp_path, verdict="still improving at step 900")[1].text


def test_a_sheet_of_faces_is_as_wide_as_the_page_and_a_still_is_not(tmp_path: Path):
    sheet = encoded(576, 856, ".jpg")
    _, page = render(tmp_path, pictures=[Picture(sheet, is_sheet=True), Picture(sheet)])
    assert [attributes.get("class") for tag, attributes in page.tags if tag == "figure"] == ["large sheet", None]


def test_settings_of_a_report_can_be_given_as_they_stand_there(tmp_path: Path):
    section = settings_section("Recipe", asdict(convert_recipe("delivery", {"is_grain_matched": False, "fade_seconds": 0.5})))
    assert section.table is not None
    copied = [f"{name}={value}" for name, value in section.table.rows if name in ("is_grain_matched", "fade_seconds")]
    assert asdict(convert_recipe("delivery", parse_settings(copied)))["is_grain_matched"] is False
    assert {"is_grain_matched", "false", "fade_seconds", "0.5"} <= set(render(tmp_path, section)[1].text)


def test_a_column_is_set_to_the_right_as_a_whole_or_not_at_all(tmp_path: Path):
    table = Table(("setting", "value", "steps"), [("blend", "relief", 3), ("num_crops", "2", "–")])
    _, page = render(tmp_path, Section("Recipe", table=table))
    cells = [attributes.get("class") for tag, attributes in page.tags if tag in ("th", "td")]
    assert cells == [None, None, "number"] * 3


@given(
    st.integers(1, 300), st.integers(1, 300), st.sampled_from([(".png",), (".jpg",), (".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
)
@settings(max_examples=30)
def test_the_size_of_any_picture_is_read_from_its_header(width: int, height: int, how: tuple):
    assert picture_size(encoded(width, height, *how)) == (width, height)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8", b"\xff\xd8\xff\xd9" * 5, JPEG[:20]])
def test_what_is_no_picture_is_refused(data: bytes):
    with pytest.raises(ValueError, match="expected a picture encoded as JPEG or PNG"):
        picture_size(data)
