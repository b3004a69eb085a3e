"""The claims on noise (L4): five of each kind."""

from functools import partial

from lrjax.experiment.rundir.lanes import Lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import Claim, claim_of
from lrjax.papers.lr_decay import noise_checks
from lrjax.papers.lr_decay.checks import COMPLEX, SIMPLE
from lrjax.papers.lr_decay.conditions import named
from lrjax.papers.lr_decay.image_checks import least_sure
from lrjax.papers.lr_decay.sources import PAPER, REMEMBERED, learned_patterns
from lrjax.papers.premises import (
    Premise,
    Selector,
    converged,
    last_of,
    of_arms,
    resolved,
    same_steps,
    seeds,
    unsaturated,
)

KINDS = {
    "label": "wrong labels",
    "point": "random points among the complex patterns",
    "joint": "random points in all channels",
}
SHARE = 0.75  # of the best setting's complex accuracy, that each arm must have learned
_claim = partial(claim_of, PAPER, experiments=("L4",))


def _arms(kind: str) -> Selector:
    """Decay and each small constant rate of a kind of noise; 0.01 must be among them."""
    least, constants = of_arms(f"{kind}_decay", f"{kind}_constant_1"), named(f"{kind}_", "constant_")

    def select(run: RunResult) -> Lanes:
        found = least(run)
        return [*found, *(pair for pair in constants(run) if pair[0]["arm"] != f"{kind}_constant_1")]

    return select


def _shared(kind: str) -> tuple[Premise, ...]:
    arms, constants = _arms(kind), named(f"{kind}_", "constant")
    return seeds(3, arms), same_steps(arms), converged(constants, 0.05, COMPLEX)


def _accuracy(kind: str, words: str) -> list[Claim]:
    constants = named(f"{kind}_", "constant")
    margin = noise_checks.NO_DIFFERENCE
    return [
        _claim(
            f"noise_{kind}_simple",
            check=noise_checks.simple(kind),
            statement=f"With {words}, decay and small constant rates do not differ on simple patterns.",
            source=f"section 5.3, {REMEMBERED}",
            expected=f"simple accuracy at the end within {margin} (a fifth of the share of noise) of each constant rate",
            premises=(
                seeds(3, _arms(kind)),
                same_steps(_arms(kind)),
                converged(constants, 0.05, SIMPLE),
                resolved(
                    margin,
                    lambda run: least_sure(noise_checks.apart(run, kind, SIMPLE).values()),
                    noise_checks.first_measured_is_like_decay(kind),
                ),
            ),
        ),
        _claim(
            f"noise_{kind}_complex",
            check=noise_checks.complex_(kind),
            statement=f"With {words}, decay ends higher on complex patterns than small constant rates.",
            source=f"section 5.3, {REMEMBERED}",
            expected="complex test accuracy above each constant rate",
            premises=(*_shared(kind), unsaturated(constants, read=last_of(COMPLEX))),
        ),
    ]


def _memorised(kind: str, words: str) -> list[Claim]:
    arms = _arms(kind)
    free = unsaturated(arms, read=last_of(noise_checks.GIVEN))
    each = learned_patterns(arms, SHARE, level=None)
    return [
        _claim(
            f"noise_{kind}_memorised",
            check=noise_checks.memorised(kind),
            statement=f"With {words}, a large initial rate keeps the network from memorising them.",
            source=f"abstract; section 5.3, {REMEMBERED}",
            expected="accuracy on noise, against its given labels, at the end under each constant rate",
            premises=(*_shared(kind), each, free),
        ),
        _claim(
            f"noise_{kind}_stage_1",
            check=noise_checks.memorised_in_stage_1(kind),
            statement=f"With {words}, the first stage memorises less than small constant rates in as many steps.",
            source="implied by the abstract: a large initial rate suppresses memorisation",
            expected="accuracy on noise at the end of stage 1 under each constant rate's at that step",
            premises=(seeds(3, arms), same_steps(arms), each),
            origin="implied",
        ),
        _claim(
            f"noise_{kind}_matched",
            check=noise_checks.memorised_at_matched(kind),
            statement=f"With {words}, decay has memorised less when it has learned as much of the complex patterns.",
            source="ours",
            expected=f"accuracy on noise when complex accuracy first is {noise_checks.LEVEL:.0%} of what each constant rate "
            "ends with, lower for decay",
            premises=(*_shared(kind), free),
            origin="ours",
        ),
    ]


NOISE = [claim for kind, words in KINDS.items() for claim in (*_accuracy(kind, words), *_memorised(kind, words))]
