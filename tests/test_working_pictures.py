"""Sheets and report pictures, which people at work look at, say that they are AI-made, to the eye and to programs."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest

from understudy.media import encode_jpeg, encode_png, read_image
from understudy.stages._swap_report import keepsake_picture
from understudy.trust.label import DIGITAL_SOURCE_TYPE, labelled_picture
from understudy.trust.notice import with_notice_below
from understudy.trust.verify import verify
from understudy.trust.xmp import read_xmp
from understudy.types import Image


@pytest.fixture
def picture() -> Image:
    noise = np.random.default_rng(1).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (160, 120)), np.uint8)


@pytest.mark.parametrize(("encode", "suffix"), [(encode_jpeg, "jpg"), (encode_png, "png")])
def test_a_labelled_picture_looks_the_same_and_says_what_it_is(picture: Image, tmp_path: Path, encode, suffix: str) -> None:
    plain, labelled = tmp_path / f"plain.{suffix}", tmp_path / f"labelled.{suffix}"
    plain.write_bytes(encode(picture))
    labelled.write_bytes(labelled_picture(encode(picture), "A sheet"))
    assert (read_image(labelled) == read_image(plain)).all()
    assert read_xmp(plain) is None
    assert "A sheet" in (read_xmp(labelled) or "")
    seen = verify(labelled)
    assert (seen.labels, seen.watermark, seen.made_by_understudy) == (("xmp",), "absent", "unknown")


def test_what_is_no_picture_cannot_be_labelled() -> None:
    with pytest.raises(ValueError, match="expected a picture encoded as JPEG or PNG"):
        labelled_picture(b"GIF89a")


def test_a_notice_below_hides_nothing_and_keeps_sides_even(picture: Image) -> None:
    below = with_notice_below(picture)
    assert (below[:120] == picture).all()
    assert below.shape[0] % 2 == 0
    assert (below[120:] > 200).any()


def test_the_pictures_of_a_conversion_s_report_say_what_they_are(picture: Image) -> None:
    kept = base64.b64encode(encode_jpeg(picture)).decode()
    shown = keepsake_picture(kept, {"frame": 3, "time_seconds": 0.1, "status": "swapped"})
    assert DIGITAL_SOURCE_TYPE.encode() in shown.data
