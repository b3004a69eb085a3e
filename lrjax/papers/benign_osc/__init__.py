"""Benign oscillation of SGD with large learning rates (Lu, Wu, Yang, Zou; ICLR 2024; arXiv 2310.17074)."""

from lrjax.papers.benign_osc.preface import before

__all__ = ["CLAIMS", "NOTE", "before", "figures"]

CLAIMS = []


def figures(run):
    return []


NOTE = ""
