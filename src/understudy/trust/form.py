"""Renders a consent record as a page to print and sign."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from understudy.store.atomic import atomic_write_text
from understudy.trust.records import SignedRecord

_AGES = {
    "adult": "I am of full age, and was throughout the footage.",
    "minor": "Under age: this consent permits nothing.",
    "doubtful": "In doubt: nothing is permitted before a person has checked a document and signed the review.",
}
_USES = {
    "train": "a model learns the face from footage",
    "convert": "the model's pictures are put into footage",
}
_EXCLUDED = {
    "nudity": "nudity",
    "sexual": "sexual content",
    "minor-character": "the part of a minor",
    "advertising": "advertising",
    "political": "political messages",
    "dataset": "data sets for others",
    "third-party-model": "models of others",
}
"""What a record excludes, in the words of the form; what the list lacks is printed as the record has it."""


def write_consent_form(signed: SignedRecord) -> Path:
    """Writes `NAME.html` beside the record."""
    path = signed.path.with_suffix(".html")
    atomic_write_text(path, consent_form(signed))
    return path


def consent_form(signed: SignedRecord) -> str:
    """The record as one self-contained HTML page, escaped; what the record leaves open is a line to fill in by hand."""
    pages = Environment(loader=PackageLoader("understudy.trust", ""), autoescape=True, undefined=StrictUndefined)
    template = pages.get_template("consent_form.html")
    return template.render(
        record=signed.record,
        sha256=signed.sha256,
        signer=str(signed.signer),
        blank="_" * 48,
        ages=_AGES,
        uses=_USES,
        excluded=[_EXCLUDED.get(use, use) for use in signed.record.grant.excluded],
        taking_back=_sentence(signed.record.revocation.how.replace("`", "").replace("NAME", signed.record.performer)),
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
