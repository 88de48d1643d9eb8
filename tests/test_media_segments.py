"""Long footage in segments: killed anywhere it goes on, and the joined files are the same byte for byte."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clips import make_clip, number_in, packets_of, picture, seconds_of
from killing import kill, start, wait_for_changes
from understudy.media import probe, read_frames
from understudy.media.codecs import Track
from understudy.media.encode import PictureEncoder
from understudy.media.segments import Layer, SegmentedWriter

EVERY = 8
NUM_FRAMES = 45


def tracks_in(folder: Path) -> dict[str, Track]:
    return {
        "swap": Track(folder / "swap.mp4", "h264", metadata={"comment": "AI-manipulated"}),
        "matte": Track(folder / "matte.mkv", "ffv1", has_sound=False, is_grey=True),
        "frames": Track(folder / "frames", "png"),
    }


def render(plate: Path, folder: Path, stop: int | None = None) -> SegmentedWriter:
    """Writes the plate up to `stop` frames, as a conversion would, and joins it where it is complete."""
    with SegmentedWriter(folder / "segments", probe(plate), tracks_in(folder), EVERY) as writer:
        for frame in read_frames(plate, writer.num_done, stop):
            matte = np.full(frame.image.shape[:2], frame.index * 1000, np.uint16)
            layers = {"swap": Layer(frame.image), "matte": Layer(matte), "frames": Layer(frame.image)}
            writer.write(frame, layers, {"frame": frame.index, "status": "swapped"})
        if stop is None:
            (folder / "ledger.json").write_text(json.dumps(list(writer.notes())))
            writer.join()
            writer.discard()
    return writer


def render_slowly(plate: Path, folder: Path) -> None:
    write = SegmentedWriter.write

    def slowly(self: SegmentedWriter, *rest: Any) -> None:
        write(self, *rest)
        time.sleep(0.02)

    SegmentedWriter.write = slowly  # type: ignore[method-assign]
    render(plate, folder)


def long_plate(path: Path, times: Sequence[int] = range(NUM_FRAMES)) -> Path:
    return make_clip(path, times=times, options={"bf": "3"}, num_sounds=1, sound_seconds=1.5)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("stops", [(3,), (8, 9), (20, 21, 44), (45,)], ids=str)
def test_a_run_that_stopped_goes_on_and_ends_the_same_byte_for_byte(tmp_path: Path, stops: Sequence[int]) -> None:
    plate = long_plate(tmp_path / "plate.mp4")
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    render(plate, tmp_path / "whole")
    for stop in stops:
        render(plate, tmp_path / "parts", stop)
    assert render(plate, tmp_path / "parts").num_done == stops[-1] // EVERY * EVERY
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert not (tmp_path / "parts" / "segments").exists()
    assert [note["frame"] for note in json.loads((tmp_path / "parts" / "ledger.json").read_text())] == list(range(NUM_FRAMES))


def test_a_run_that_is_killed_at_any_moment_ends_the_same_byte_for_byte(tmp_path: Path) -> None:
    plate = long_plate(tmp_path / "plate.mp4")
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    render(plate, tmp_path / "killed", 0)
    render(plate, tmp_path / "whole")
    for num_changes in (2, 3, 2):
        process = start(render_slowly, plate, tmp_path / "killed")
        wait_for_changes(tmp_path / "killed" / "segments", num_changes, process)
        kill(process)
    render(plate, tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_the_joined_film_has_the_plates_times_and_sound(tmp_path: Path) -> None:
    times = [number * 1001 + (number % 3) * 7 for number in range(NUM_FRAMES)]
    plate = make_clip(tmp_path / "plate.mp4", times=times, time_base=Fraction(1, 30000), num_sounds=1, sound_seconds=1.5)
    render(plate, tmp_path)
    copies, frames = list(read_frames(tmp_path / "swap.mp4")), list(read_frames(plate))
    assert [number_in(copy.image) for copy in copies] == list(range(NUM_FRAMES))
    assert seconds_of(copies) == seconds_of(frames)
    assert packets_of(tmp_path / "swap.mp4", "audio") == packets_of(plate, "audio")
    mattes = [int(frame.image[0, 0, 0]) for frame in read_frames(tmp_path / "matte.mkv")]
    assert mattes == [index * 1000 for index in range(NUM_FRAMES)]
    assert [path.name for path in sorted((tmp_path / "frames").iterdir())] == [
        f"{index:06d}.png" for index in range(NUM_FRAMES)
    ]


def test_another_request_starts_anew_and_a_failed_one_keeps_its_segments(tmp_path: Path) -> None:
    plate = long_plate(tmp_path / "plate.mp4")
    render(plate, tmp_path, 20)
    kept = {path.name for path in (tmp_path / "segments").iterdir()}
    assert kept == {"plan.json", "000000", "000001"}
    other = {"swap": Track(tmp_path / "swap.mp4", "h264", crf=30)}
    assert SegmentedWriter(tmp_path / "segments", probe(plate), other, EVERY).num_done == 0


def test_segments_that_other_code_left_are_made_again(tmp_path: Path) -> None:
    plate, tracks = long_plate(tmp_path / "plate.mp4"), {"swap": Track(tmp_path / "swap.mp4", "h264")}

    def num_done(code: str) -> int:
        with SegmentedWriter(tmp_path / "segments", probe(plate), tracks, EVERY, code=code) as writer:
            num_done = writer.num_done
            for frame in read_frames(plate, num_done, 20):
                writer.write(frame, {"swap": Layer(frame.image)})
        return num_done

    assert [num_done(code) for code in ("this", "this", "another", "another")] == [0, 16, 0, 16]


def render_again(plate: Path, folder: Path, keys: Sequence[str], earlier: Path | None = None) -> list[int]:
    """Writes what is missing of the plate, as a conversion of changed ranges would; the frames that it wrote."""
    written = []
    tracks = {"swap": Track(folder / "swap.mp4", "h264"), "frames": Track(folder / "frames", "png")}
    with SegmentedWriter(folder / "segments", probe(plate), tracks, EVERY, keys=keys) as writer:
        if earlier is not None:
            writer.adopt(earlier / "segments")
        for part in writer.missing:
            for frame in read_frames(plate, part.start, part.stop):
                image = frame.image + np.uint8(len(keys[frame.index // EVERY]) if frame.index // EVERY < len(keys) else 0)
                writer.write(frame, {"swap": Layer(image), "frames": Layer(image)}, {"frame": frame.index})
                written.append(frame.index)
        assert [note["frame"] for note in writer.notes()] == list(range(NUM_FRAMES))
        writer.join()
    return written


def test_only_segments_with_another_key_are_made_again_and_the_whole_is_as_if_all_were(tmp_path: Path) -> None:
    plate, keys, changed = long_plate(tmp_path / "plate.mp4"), ["a"] * 5, ["a", "bb", "a", "a", "cc"]
    for name in ("first", "second", "fresh"):
        (tmp_path / name).mkdir()
    assert render_again(plate, tmp_path / "first", keys) == list(range(NUM_FRAMES))
    assert render_again(plate, tmp_path / "second", changed, tmp_path / "first") == [*range(8, 16), *range(32, 45)]
    render_again(plate, tmp_path / "fresh", changed)
    assert contents(tmp_path / "second") == contents(tmp_path / "fresh")


def test_segments_of_another_plan_are_not_taken_over(tmp_path: Path) -> None:
    plate, other = long_plate(tmp_path / "plate.mp4"), long_plate(tmp_path / "other.mp4")
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    render_again(plate, tmp_path / "first", ["a"] * 5)
    assert render_again(other, tmp_path / "second", ["a"] * 5, tmp_path / "first") == list(range(NUM_FRAMES))


def test_discarding_leaves_nothing(tmp_path: Path) -> None:
    plate = long_plate(tmp_path / "plate.mp4")
    with SegmentedWriter(tmp_path / "segments", probe(plate), {"swap": Track(tmp_path / "swap.mp4", "h264")}, EVERY) as writer:
        for frame in read_frames(plate, stop=12):
            writer.write(frame, {"swap": Layer(picture(1))})
        writer.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["plate.mp4"]


def encode_often(plate: Path, num_times: int, answers: Path) -> None:
    info, frames = probe(plate), list(read_frames(plate, stop=EVERY))
    digests = set()
    for _ in range(num_times):
        encoder = PictureEncoder(Track(plate.with_name("swap.mp4"), "h264"), info)
        packets = [packet for frame in frames for packet in encoder.encode(frame.image, frame.pts, frame.time_base)]
        digests.add(hashlib.sha256(b"".join(bytes(packet) for packet in [*packets, *encoder.flush()])).hexdigest())
    answers.write_text("\n".join(digests))


def test_a_busy_machine_encodes_the_same_pictures_to_the_same_bytes(tmp_path: Path) -> None:
    plate = long_plate(tmp_path / "plate.mp4")
    answers = [tmp_path / f"{number}.txt" for number in range(8)]
    processes = [start(encode_often, plate, 60, answer) for answer in answers]
    for process in processes:
        process.join()
    assert len({digest for answer in answers for digest in answer.read_text().split()}) == 1
