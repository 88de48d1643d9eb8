"""Whom an extraction without a picture takes for the performer, and what is doubtful about it, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from understudy.perception.persons import most_frequent_person, num_frames_of_persons
from understudy.types import Face, FloatArray

TIE, RIVALRY = 0.9, 0.5
"""In so many of the performer's frames a second person makes the choice chance, or doubtful. Not measured: passers-by are in
few frames, and partners in a dialogue in about as many."""


def chosen_person(faces: Sequence[Face], performer: str) -> tuple[FloatArray, str]:
    """The embedding (1, 128) of the person in most frames, and a warning where another is in many; (0, 128) without faces.

    Nothing is refused, for the frames have been looked through by then, and the user may see in the report that all is well.
    """
    num_frames, num_of_second = [*num_frames_of_persons(faces), 0, 0][:2]
    doubt = ""
    if num_of_second and num_of_second >= TIE * num_frames:
        doubt = (
            f"two people are in about as many frames ({num_frames} and {num_of_second}), and {performer} was taken for one of "
            "them by chance: look whom the report shows; if it is the wrong one, give --like IMAGE and another --out"
        )
    elif num_of_second and num_of_second >= RIVALRY * num_frames:
        doubt = (
            f"{performer} is taken to be the person in most frames, {num_frames}; another person is in {num_of_second}: "
            "if the wrong one was taken, give --like IMAGE and another --out"
        )
    return most_frequent_person(faces), doubt


def doubts_in_words(performer: str, figures: Mapping[str, float | int], doubt: str) -> list[str]:
    """What the user must know before training on the face set. doubt: that of `chosen_person`."""
    if figures["num_faces"]:
        return [doubt] if doubt else []
    nothing = f"no face of {performer} was found in {figures['num_frames']} frames"
    if not figures["num_other_faces"]:
        return [f"{nothing}: there is nothing to train on"]
    others = f"its {figures['num_other_faces']} faces are of other people"
    return [f"{nothing}; {others}: if one of them is {performer}, give another --like IMAGE and another --out"]
