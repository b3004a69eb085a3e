"""Words that the claims of this paper share, and their premise on what a network has learned of PS10."""

from lrjax.papers.premises import Premise, Selector, last_of, learned

PAPER = "lr_decay"
REMEMBERED = "as remembered"
PATTERN_TEST = 2000  # complex test examples at least, of a test set of 4000 or more


def learned_patterns(select: Selector, share: float = 0.9, level: float | None = 1.0) -> Premise:
    """`learned` on the complex patterns of PS10, all of which can be told apart without noise.

    Args:
        select: the lanes that must have learned.
        share: of `level`.
        level: accuracy; None takes the best setting's of the run.

    Example:
        >>> learned_patterns(lambda run: []).name
        'learned(0.9)'
    """
    read = last_of("subsets/test_complex")
    return learned(select, share, read=read, chance=0.1, examples=PATTERN_TEST, level=level)
