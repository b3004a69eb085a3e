"""python -m lrjax.papers.error_rates: how often the checks of claims are wrong, on synthetic runs.

For each claim, of 400 runs without an effect: how many came out supported or contradicted (nominal level 5 %, both
together); of 400 with the effect that the claim names: how many came out supported; whether all four verdicts are reached.
"""

import argparse
import importlib
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lrjax.papers import PAPERS
from lrjax.papers.claim import NOT_JUDGED, SHOWN, Claim, judge
from lrjax.papers.synthetic import Synthetic

DRAWS = 400
MOST_FALSE = 31 / 400  # 99 % point of the count at a level of 5 %
LEAST_RIGHT = 0.8
REVERSED = 50  # draws of the reverse effect


class Rates(NamedTuple):
    """The error rates of one claim.

    Attributes:
        claim: the claim.
        effect: size of the effect and deviation of seeds, in words.
        false: share of runs without an effect that were supported or contradicted.
        right: share of runs with the effect that were supported.
        reached: the verdicts that came out of any draw.
        unbroken: premises of which no synthetic run was "not judged" by their name; empty where all were.
        draws: runs of each kind.
    """

    claim: Claim
    effect: str
    false: float
    right: float
    reached: frozenset[str]
    unbroken: tuple[str, ...]
    draws: int

    @property
    def good(self) -> bool:
        """Whether all bounds hold."""
        return (
            self.false <= MOST_FALSE
            and self.right >= LEAST_RIGHT
            and self.reached == frozenset(SHOWN)
            and not self.unbroken
        )


def synthetic_of(paper: str) -> dict[str, Synthetic]:
    """The synthetic runs of a paper: claim id -> `Synthetic`; empty where it has none.

    Example:
        >>> "conjecture_1_rate" in synthetic_of("break_even")
        True
    """
    name = f"{PAPERS[paper].__name__}.synthetic"
    try:
        return importlib.import_module(name).SYNTHETIC
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return {}


def rates_of(claim: Claim, synthetic: Synthetic, draws: int = DRAWS) -> Rates:
    """The error rates of one claim; the same at every call.

    Args:
        claim: with its check and premises.
        synthetic: its runs.
        draws: runs of each kind; of the reverse effect there are fewer.

    Example:
        >>> from lrjax.papers.break_even import CLAIMS
        >>> claim = next(claim for claim in CLAIMS if claim.id == "conjecture_1_rate")
        >>> rates_of(claim, synthetic_of("break_even")["conjecture_1_rate"], draws=20).right
        1.0
    """
    generator = np.random.default_rng(zlib.crc32(f"{claim.paper} {claim.id}".encode()))

    def verdicts(effect: float, count: int) -> Counter[str]:
        count = 1 if synthetic.exact else count
        return Counter(judge([claim], synthetic.draw(effect, generator))[0]["verdict"] for _ in range(count))

    none, stated, back = verdicts(0.0, draws), verdicts(1.0, draws), verdicts(-1.0, min(draws, REVERSED))
    unbroken, reached = [], set(none) | set(stated) | set(back)
    for premise in claim.premises:
        make = synthetic.broken.get(premise.name)
        entry = None if make is None else judge([claim], make(generator))[0]
        if entry is None or entry["verdict"] != NOT_JUDGED or premise.name not in entry["measured"]:
            unbroken.append(premise.name)
        else:
            reached.add(NOT_JUDGED)
    wrong = 1.0 - (none["inconclusive"] + none[NOT_JUDGED]) / none.total()
    if synthetic.exact:  # a wrong variant is rightly contradicted
        wrong = none["supported"] / none.total()
    right = stated["supported"] / stated.total()
    return Rates(claim, synthetic.effect, wrong, right, frozenset(reached), tuple(unbroken), none.total())


def every(papers: Sequence[str] = tuple(PAPERS), draws: int = DRAWS) -> Iterator[Rates | Claim]:
    """The rates of each claim of some papers, in their order; the `Claim` itself where it has no synthetic runs."""
    for paper in papers:
        found = synthetic_of(paper)
        for claim in PAPERS[paper].CLAIMS:
            yield rates_of(claim, found[claim.id], draws) if claim.id in found else claim


def row(rates: Rates) -> str:
    """A line of the table."""
    lacks = [f"never {verdict}" for verdict in SHOWN if verdict not in rates.reached]
    lacks += [f"{name} never broken" for name in rates.unbroken]
    words = "; ".join(["ok" if rates.good else "OUT OF BOUNDS", *lacks, rates.effect])
    return f"{rates.claim.paper:<11} {rates.claim.id:<28} {rates.false:6.1%} {rates.right:7.1%}  {words}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; status 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(prog="python -m lrjax.papers.error_rates", description=__doc__)
    parser.add_argument("papers", nargs="*", default=list(PAPERS), metavar="PAPER", help=", ".join(PAPERS))
    parser.add_argument("--draws", type=int, default=DRAWS, help="runs of each kind and claim")
    flags = parser.parse_args(arguments)
    unknown = [paper for paper in flags.papers if paper not in PAPERS]
    if unknown or flags.draws < 1:
        parser.error(f"no paper {unknown[0]!r}: {', '.join(PAPERS)}" if unknown else "--draws must be 1 or more")
    print(
        f"{'paper':<11} {'claim':<28} {'false':>6} {'right':>7}  bounds: false at most {MOST_FALSE:.2%}, right at least 80 %"
    )
    good, without = True, []
    for found in every(flags.papers, flags.draws):
        if isinstance(found, Claim):
            without.append(f"{found.paper} {found.id}")
            continue
        good &= found.good
        print(row(found), flush=True)
    if without:
        print(f"\nwithout synthetic runs: {', '.join(without)}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
