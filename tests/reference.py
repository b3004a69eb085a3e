"""Plain NumPy of the paper's algorithm, written from the formulas alone, to hold the engines against."""

import numpy as np


def output(filters, x):
    """f(x) of the two-layer ReLU^2 network: filters [2, m, d] (shared) or [2, m, P, d], one example x [P, d]."""
    width = filters.shape[1]
    slots = filters[:, :, None] if filters.ndim == 3 else filters
    active = np.maximum(np.sum(slots * x[None, None], axis=-1), 0.0)
    return (np.sum(active[0] ** 2) - np.sum(active[1] ** 2)) / width


def step(filters, x, y, eta, half=False):
    """One step of SGD on (f - y)^2, or on half of it, with shared filters."""
    width = filters.shape[1]
    residual = output(filters, x) - y
    active = np.maximum(np.einsum("jrd,pd->jrp", filters, x), 0.0)
    signs = np.array([1.0, -1.0])[:, None, None]
    outer = 1.0 if half else 2.0
    return filters - eta * outer * residual * signs * (2.0 / width) * np.einsum("jrp,pd->jrd", active, x)


def train(filters, x, y, eta, order):
    """SGD over the examples in `order`; returns the filters and y f before each step."""
    margins = []
    for i in order:
        margins.append(y[i] * output(filters, x[i]))
        filters = step(filters, x[i], y[i], eta)
    return filters, np.array(margins)
