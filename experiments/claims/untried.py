"""Claims that two cores and the bundled performers cannot settle, and why; nothing is left out in silence."""

from __future__ import annotations

from experiments.claims.model import Claim

CLAIMS = (
    Claim(
        "C34",
        "fringe bias",
        "Trained on a performer who mostly wears a fringe, an adversary draws one where the plate has none.",
        "",
        open_because="the bundled performers have one hair each, and no fringe; it needs one performer rendered with two "
        "kinds of hair (docs/virtual-performers.md), 90 % of the training frames with the fringe.",
    ),
    Claim(
        "C35",
        "conditioning does not cure it",
        "A discriminator that is shown the input as well does not cure the fringe.",
        "",
        open_because="rests on C34's footage.",
    ),
    Claim(
        "C40",
        "unconditional is uncontrollable, conditional clings to the samples",
        "Of large adversarial models (progressive growing), the unconditional cannot be controlled, and the conditional cling "
        "to their samples.",
        "",
        open_because="speaks of models without an input picture, which nothing here trains; how far an adversary clings to "
        "its samples is C36, what it loses is C37.",
    ),
    Claim(
        "C41",
        "meant for film, memoirs, documentaries",
        "The technique is meant for film, for memoirs and for documentaries.",
        "",
        open_because="a purpose, which no figure decides. What holds it to that purpose here: consent is asked for each "
        "performer and each output is marked (docs/responsible-use.md, docs/trust.md), with tests.",
    ),
)
