"""The visible notice that a picture was changed by a computer: in a corner of every frame, or on a card at the end.

Letters are a twentieth of the picture's short side high, which GB 45438-2025 asks for; the end card stands for two seconds.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.depth import code_max
from understudy.types import AnyImage, BadInput, Image

END_CARD_SECONDS = 2.0
LETTER_FRACTION = 0.05
PLACES = ("corner", "end-card")
TEXTS = {
    "en": ("AI-manipulated", "A face in this film was replaced by a computer."),
    "de": ("KI-verändert", "Ein Gesicht in diesem Film wurde von einem Computer ersetzt."),
    "fr": ("Modifié par IA", "Un visage de ce film a été remplacé par ordinateur."),
    "es": ("Manipulado con IA", "Un rostro de esta película fue sustituido por ordenador."),
    "it": ("Modificato con IA", "Un volto in questo film è stato sostituito al computer."),
    "pt": ("Alterado por IA", "Um rosto neste filme foi substituído por computador."),
    "nl": ("Met AI bewerkt", "Een gezicht in deze film is door een computer vervangen."),
    "pl": ("Zmienione przez AI", "Twarz w tym filmie została zastąpiona przez komputer."),
    "zh": ("人工智能生成", "本片中的人脸由人工智能替换。"),
    "ja": ("AIによる加工", "この映像の顔はAIにより置き換えられています。"),
}
"""By language: the words in the corner, and the sentence on the end card."""


def check_notice(place: str, language: str) -> None:
    """Raises BadInput for a place where no notice can stand, and for a language that it is not written in."""
    if place not in PLACES:
        raise BadInput(f"setting notice: expected one of {', '.join(PLACES)}, got {place!r}")
    check_language(language)


def check_language(language: str) -> None:
    """Raises BadInput for a language that the notice is not written in."""
    if language not in TEXTS:
        raise BadInput(f"setting notice_language: expected one of {', '.join(TEXTS)}, got {language!r}")


def with_corner_notice(frame: AnyImage, language: str = "en", white: float = 1.0) -> AnyImage:
    """A copy of the picture (height, width, 3) with the notice on a dark ground at its lower left.

    white: the code value, 0 to 1, that looks white: less than 1 in HDR, where 1 would dazzle.
    """
    height, width = frame.shape[:2]
    label = _label(_words(language)[0], width, height)
    rows, columns = label.shape
    margin = max(2, min(width, height) // 40)
    marked = frame.copy()
    corner = marked[height - margin - rows : height - margin, margin : margin + columns]
    light = label[: corner.shape[0], : corner.shape[1], None].astype(np.float32) / 255
    corner[:] = np.rint(corner * 0.35 * (1 - light) + code_max(frame) * white * light)
    return marked


def with_notice_below(picture: Image, language: str = "en") -> Image:
    """The picture (height, width, 3) with the notice on a dark strip below it, so that it hides nothing."""
    height, width = picture.shape[:2]
    label = _label(_words(language)[0], width, height)
    strip = np.zeros((label.shape[0] + label.shape[0] % 2, width, 3), np.uint8)  # even, for films
    strip[: label.shape[0], : label.shape[1]] = label[..., None]
    return np.concatenate([picture, strip])


def end_card(width: int, height: int, language: str = "en") -> Image:
    """A black card with the notice and its sentence in the middle."""
    title, sentence = _words(language)
    card: Image = np.zeros((height, width, 3), np.uint8)
    for text, centre, fraction in ((title, 0.42, 0.09), (sentence, 0.58, LETTER_FRACTION)):
        mask = _text_mask(text, max(10, round(min(width, height) * fraction)), most_px=int(0.9 * width))
        top, left = round(height * centre - mask.shape[0] / 2), (width - mask.shape[1]) // 2
        card[top : top + mask.shape[0], left : left + mask.shape[1]] = mask[..., None]
    return card


def _words(language: str) -> tuple[str, str]:
    check_language(language)
    return TEXTS[language]


@cache
def _label(text: str, width: int, height: int) -> NDArray[np.uint8]:
    """(rows, columns) 0..255: the words with room round them."""
    letters_px = max(10, round(min(width, height) * LETTER_FRACTION))
    margin = max(2, min(width, height) // 40)
    mask = _text_mask(text, letters_px, most_px=width - 2 * margin - letters_px)
    return np.asarray(np.pad(mask, letters_px // 2), dtype=np.uint8)


def _text_mask(text: str, letters_px: int, most_px: int) -> NDArray[np.uint8]:
    """(rows, columns) 0..255: white words, capitals `letters_px` high, or lower where they would be wider than `most_px`."""
    size_px = round(letters_px / 0.72)  # capitals take this much of the font's size
    canvas = np.zeros((3 * size_px, (len(text) + 2) * 2 * size_px, 3), np.uint8)
    cv2.putText(canvas, text, (size_px, 2 * size_px), (255, 255, 255), cv2.FontFace("sans"), size_px, 500)
    rows, columns = np.flatnonzero(canvas.any(axis=(1, 2))), np.flatnonzero(canvas.any(axis=(0, 2)))
    mask = canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, 0]
    if mask.shape[1] > most_px:
        size = (most_px, max(1, mask.shape[0] * most_px // mask.shape[1]))
        mask = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return mask
