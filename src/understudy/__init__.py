"""Understudy gives a performer in film footage another performer's face, learned from footage of both.

The verbs of the command line are here as functions; `understudy.types` has the nouns and the exceptions,
`understudy.settings` what each verb can be asked for.
"""

from understudy.api import (
    consent_check,
    consent_new,
    consent_revoke,
    consent_show,
    convert,
    curate,
    demo,
    doctor,
    evaluate,
    extract,
    run,
    train,
    verify,
)
from understudy.settings import ConvertRecipe, CurateRecipe, TrainRecipe
from understudy.types import BadInput, Refused, StageResult, UnderstudyError
from understudy.version import __version__

__all__ = [
    "BadInput",
    "ConvertRecipe",
    "CurateRecipe",
    "Refused",
    "StageResult",
    "TrainRecipe",
    "UnderstudyError",
    "__version__",
    "consent_check",
    "consent_new",
    "consent_revoke",
    "consent_show",
    "convert",
    "curate",
    "demo",
    "doctor",
    "evaluate",
    "extract",
    "run",
    "train",
    "verify",
]
