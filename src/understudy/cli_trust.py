"""The commands about consent and verification: parses, asks what is not given, calls the verb, prints its result."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from understudy.plainhelp import PlainHelp
from understudy.types import BadInput, StageResult, UnderstudyError

if TYPE_CHECKING:
    from understudy.trust.records import Grant, Kind, Person, Purpose, Review
    from understudy.trust.verify import Verdict

LONGEST_ANSWER = 400

consent_app = typer.Typer(help="Records of who agreed to what. Training and converting need one of each performer.")

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Short name of the performer.")]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--consent", metavar="DIR", help="Folder of the records; else $UNDERSTUDY_CONSENT, else consent in this folder."
    ),
]


# ---- consent --------------------------------------------------------------------------------------------------------------


@consent_app.command(cls=PlainHelp)
def new(
    performer: Name,
    kind: Annotated[str, typer.Option(metavar="KIND", help="One of signed, self, synthetic, public-domain-archive.")],
    is_unasked: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: declare an adult who grants both uses, worldwide, for a year or more.")
    ] = False,
    folder: Folder = None,
    is_json: Json = False,
) -> None:
    """Make and sign a record, and a form to print.

    Asks for name, age, who grants it, purpose, territory and term. A performer under age is refused. The key that signs is made
    on first use, in $UNDERSTUDY_KEYS or ~/.config/understudy.
    """
    from understudy.api import consent_new
    from understudy.trust.consent import check_creatable, consent_folder

    check_creatable(consent_folder(folder), performer, kind)
    checked_kind = cast("Kind", kind)
    person, grant, review = (None, None, None) if is_unasked else _ask_terms(performer, checked_kind)
    made = consent_new(performer, kind=checked_kind, person=person, grant=grant, review=review, consent=folder)
    _print(made.as_json(), is_json, _record_text(made))


@consent_app.command(cls=PlainHelp)
def show(performer: Name, folder: Folder = None, is_json: Json = False) -> None:
    """Show a record and what it permits today."""
    from understudy.api import consent_show

    shown = consent_show(performer, consent=folder)
    _print(shown.as_json(), is_json, _record_text(shown))


@consent_app.command(cls=PlainHelp)
def check(
    performer: Name,
    purpose: Annotated[str | None, typer.Option("--for", metavar="USE", help="train or convert; else both.")] = None,
    folder: Folder = None,
    is_json: Json = False,
) -> None:
    """Check that a record is in force.

    It is signed by a key that counts here, unchanged, in its term and not revoked; else the exit status is 3.
    """
    from understudy.api import consent_check

    if purpose not in (None, "train", "convert"):
        raise BadInput(f"--for: expected train or convert, got {purpose!r}")
    checked = consent_check(performer, purpose=cast("Purpose | None", purpose), consent=folder)
    until = cast(dict[str, dict[str, object]], checked.figures["record"])["grant"]["valid_until"]
    words = f"{performer}: the record is signed and unchanged, and permits {purpose or 'train and convert'} until {until}."
    _print(checked.as_json(), is_json, words)


@consent_app.command(cls=PlainHelp)
def revoke(
    performer: Name,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the file that is written.")] = "",
    folder: Folder = None,
    is_json: Json = False,
) -> None:
    """Take a consent back, for good.

    Training and converting are refused from now on, also with copies of the record in other folders. Stop what is running.
    """
    from understudy.api import consent_revoke

    revoked = consent_revoke(performer, reason=reason, consent=folder)
    words = (
        f"{performer}: consent is revoked since {revoked.figures['revoked']}, in every copy of the record here. "
        f"Delete the models and face sets of {performer}."
    )
    _print(revoked.as_json(), is_json, words)


def _record_text(result: StageResult) -> str:
    """A record's filled fields, what it permits today, and its files, one a line."""
    record = cast(dict[str, object], result.figures["record"])
    fields: dict[str, object] = {}
    for name, value in record.items():
        fields |= {f"{name} {key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
    fields["face"] = "bound" if result.figures["is_face_bound"] else "not bound yet; the first training binds it"
    fields |= {purpose: result.figures[purpose] for purpose in ("train", "convert")} | dict(result.outputs)
    lines = [
        f"{name.replace('_', ' '):<26} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in fields.items()
        if value not in (None, "", [], False) and name != "schema"
    ]
    return "\n".join(lines)


# ---- the questions of `consent new` ---------------------------------------------------------------------------------------


def _ask_terms(performer: str, kind: Kind) -> tuple[Person, Grant, Review]:
    """Who is shown, and what they permit; enter takes what stands in brackets."""
    from dataclasses import replace

    from understudy.trust.consent import default_grant, default_person

    today = datetime.date.today()
    person, grant = default_person(performer, kind), default_grant(performer, kind, today)
    person = replace(person, name=_ask("Full name", performer))
    if kind != "synthetic":
        person = replace(person, contact=_ask("How to reach them, or who speaks for them"))
    person, review = _ask_age(person, today)
    if kind == "public-domain-archive":
        person = replace(person, deceased_authorised_by=_ask("If they have died: who authorised it"))
    grant = replace(
        grant,
        granted_by=person.name
        if kind == "self"
        else _ask("Who grants it", person.name if kind == "signed" else grant.granted_by),
        project=_ask("For which production"),
        description=_ask("To do what, in a sentence"),
        territory=_ask("In which territory", grant.territory),
        valid_until=_ask_day("Until which day", grant.valid_until, today),
    )
    return person, grant, review


def _ask_age(person: Person, today: datetime.date) -> tuple[Person, Review]:
    """The declaration of full age; a doubtful one needs somebody who has seen a document. Raises Refused for a minor."""
    from dataclasses import replace

    from understudy.trust.records import Review
    from understudy.types import Refused

    answer = ""
    while answer not in ("yes", "no", "unsure"):
        answer = _ask("Of full age, and was throughout the footage (yes, no, unsure)").lower()
    if answer == "no":
        raise Refused(
            f"{person.name}: declared under age; minors are never trained on or converted, so there is no record to make"
        )
    if answer == "yes":
        return replace(person, age_checked_by=_ask("Checked by whom, on which document", person.age_checked_by)), Review()
    reviewer = _ask("Who has seen a document that shows it (nobody yet: press enter)")
    if not reviewer:
        raise Refused(
            f"{person.name}: of a doubtful age; have a person see a document that shows full age, then make the record"
        )
    document = ""
    while not document:
        document = _ask("Which document")
    checked = replace(person, age="doubtful", age_checked_by=f"{reviewer}, on {document}")
    return checked, Review(reviewer, today, document)


def _ask_day(question: str, default: datetime.date, earliest: datetime.date) -> datetime.date:
    while True:
        answer = _ask(question, default.isoformat())
        try:
            day = datetime.date.fromisoformat(answer)
        except ValueError:
            day = datetime.date.min
        if day >= earliest:
            return day
        print(f"Expected a day such as {default}, not before {earliest}.", file=sys.stderr)


def _ask(question: str, default: str = "") -> str:
    """A line of the user's; the question goes to stderr. Raises BadInput where nobody answers."""
    while True:
        print(f"{question}{f' [{default}]' if default else ''}: ", end="", file=sys.stderr, flush=True)
        try:
            answer = input().strip() or default
        except (EOFError, UnicodeDecodeError) as error:
            print(file=sys.stderr)
            raise BadInput("the questions were not answered; answer them in a terminal, or give --yes") from error
        if answer.isprintable() and len(answer) <= LONGEST_ANSWER:
            return answer
        print(f"Expected one line of at most {LONGEST_ANSWER} letters.", file=sys.stderr)


# ---- verification ---------------------------------------------------------------------------------------------------------


def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Videos, pictures, or folders that convert made.")],
    is_json: Json = False,
) -> None:
    """Say what shows in a file that a computer changed it.

    Reads credentials, watermark and tags of any file, ours or not.
    """
    from understudy.trust.verify import verify as examine

    if len(files) == 1:
        verdict = examine(files[0])
        _print(verdict.as_json(), is_json, _verdict_text(verdict))
        return
    found: list[Verdict | _Unread] = []
    for file in files:
        try:
            found.append(examine(file))
        except UnderstudyError as error:  # the other files' verdicts are wanted all the same
            found.append(_Unread(str(file), str(error)))
        if not is_json:
            print(("\n" if len(found) > 1 else "") + _verdict_text(found[-1]), flush=True)
    if is_json:
        _print(_verdicts_json(found), is_json, "")
    if unread := [each for each in found if isinstance(each, _Unread)]:
        raise BadInput(f"{len(unread)} of {len(files)} files could not be examined: {', '.join(each.file for each in unread)}")


@dataclass(frozen=True)
class _Unread:
    """A file that no verdict can be given of, and why."""

    file: str
    error: str


def _verdicts_json(found: Sequence[Verdict | _Unread]) -> dict[str, object]:
    """The verdicts of several files, and how many are ours, were changed after signing, and could not be examined."""
    verdicts = [each for each in found if not isinstance(each, _Unread)]
    return {
        "num_files": len(found),
        "num_made_by_understudy": sum(verdict.made_by_understudy == "true" for verdict in verdicts),
        "num_broken_credentials": sum(verdict.credentials == "broken" for verdict in verdicts),
        "num_unread": len(found) - len(verdicts),
        "files": [asdict(each) if isinstance(each, _Unread) else each.as_json() for each in found],
    }


def _verdict_text(verdict: Verdict | _Unread) -> str:
    if isinstance(verdict, _Unread):
        return verdict.error
    made = {
        "true": "carries the marks of Understudy",
        "false": "nothing of Understudy's was found",
        "unknown": "says that a computer changed it, but nothing proves that Understudy did",
    }[verdict.made_by_understudy]
    return "\n".join([f"{verdict.file}: {made}.", *(f"  {sentence}" for sentence in verdict.words)])


def _print(value: dict[str, object], is_json: bool, text: str) -> None:
    from understudy.store.json_files import json_text

    print(json_text(value, is_compact=True) if is_json else text)
