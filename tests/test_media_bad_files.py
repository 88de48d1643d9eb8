"""Files that are no footage: one line that names the file and the remedy; nothing else is ever opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from clips import make_clip, picture
from understudy.media import encode_jpeg, probe, read_frames
from understudy.types import BadInput

pytestmark = pytest.mark.slow  # real networks, codecs and clips


def bad_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Bad files, and a word of the remedy or reason that their message must hold."""
    good = make_clip(folder / "good.mp4", num_sounds=1)
    with av.open(str(folder / "sound.mp4"), "w") as container, av.open(str(good)) as source:
        sound = container.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = sound
                container.mux(packet)
    yield folder / "sound.mp4", "no video stream"
    yield folder / "missing.mp4", "no such file"
    contents = {
        "empty.mp4": (b"", "empty"),
        "text.mp4": (b"once upon a time\n" * 50, "text file"),
        "picture.mp4": (encode_jpeg(picture(1)), "JPEG picture"),
        "noindex.mp4": (good.read_bytes()[:-3000], "index"),
        "noise.mkv": (np.random.default_rng(0).bytes(5000), "no video"),
    }
    for name, (data, word) in contents.items():
        (folder / name).write_bytes(data)
        yield folder / name, word


def test_each_bad_file_gives_one_line_that_names_it(tmp_path: Path) -> None:
    for path, word in bad_files(tmp_path):
        for attempt in (probe, lambda path: next(read_frames(path))):
            with pytest.raises(BadInput, match=word) as caught:
                attempt(path)
            assert str(caught.value).startswith(f"{path}: ")
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("playlist", ["ffconcat version 1.0\nfile secret.mp4\n", "#EXTM3U\n#EXTINF:1,\nsecret.mp4\n"])
def test_a_playlist_in_a_videos_clothes_opens_no_other_file(tmp_path: Path, playlist: str) -> None:
    make_clip(tmp_path / "secret.mp4")
    (tmp_path / "clip.mp4").write_text(playlist)
    with pytest.raises(BadInput, match="text file"):
        probe(tmp_path / "clip.mp4")


def test_a_path_is_never_read_as_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "clip.mp4").rename("concat:a.mp4")
    assert len(list(read_frames(Path("concat:a.mp4")))) == 10
    with pytest.raises(BadInput, match="no such file"):
        probe(Path("http://localhost/clip.mp4"))


def test_a_video_that_claims_huge_frames_is_refused(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "huge.gif", codec="gif", pixel_format="rgb8")
    data = bytearray(clip.read_bytes())
    data[6:10] = (60000).to_bytes(2, "little") * 2
    clip.write_bytes(data)
    with pytest.raises(BadInput, match=r"huge\.gif"):
        list(read_frames(clip))
