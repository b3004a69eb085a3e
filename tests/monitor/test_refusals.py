"""What the monitor must not say, whatever the numbers: each test is a trap."""

import inspect
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.monitor import Facts, Monitor, Report, advice, edge_lines, lines, report
from lrjax.monitor.advice import Case, advise

RAISES = re.compile(r"(raise|increase|larger|higher|bigger|grow)\w*", re.IGNORECASE)


def mlp():
    """The network of the calibration in small: tanh, half a squared error."""
    keys = jax.random.split(jax.random.key(0), 3)
    sizes = (32, 16, 16, 4)
    params = [
        {"w": jax.random.normal(key, (m, n)) / np.sqrt(m), "b": jnp.zeros(n)}
        for key, m, n in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]

    def loss(params, batch):
        hidden = batch[0]
        for layer in params[:-1]:
            hidden = jnp.tanh(hidden @ layer["w"] + layer["b"][None])
        out = hidden @ params[-1]["w"] + params[-1]["b"][None]
        return jnp.mean(jnp.sum((out - batch[1]) ** 2, axis=-1)) / 2

    x = jax.random.normal(jax.random.key(1), (256, 32))
    y = jax.nn.one_hot(jax.random.randint(jax.random.key(2), (256,), 0, 4), 4)
    return params, loss, (x, y)


@pytest.mark.slow
def test_adam_at_ten_times_its_rate_shows_headroom_and_nothing_raises_the_rate():
    """A rule that reads the critical multiple as headroom would multiply a rate that is ten times too large."""
    params, loss, (x, y) = mlp()
    optimizer = optax.adam(1e-2)
    state, monitor = (
        optimizer.init(params),
        Monitor(loss, optimizer, learning_rate=1e-2, num_steps=300, every=20, budget=0.2),
    )

    @jax.jit
    def step(params, state, batch):
        updates, state = optimizer.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    order = np.random.default_rng(0)
    for index in range(300):
        rows = order.integers(0, 256, 16)
        batch = (x[rows], y[rows])
        monitor.update(index, params, state, batch)
        params, state = step(params, state, batch)
    made = monitor.report()
    multiples = [row["critical_multiple"] for row in made.rows if "critical_multiple" in row]
    assert np.median(multiples) > 1
    assert "far_too_small" not in {one.code for one in made.advice}
    assert not [one.sentence for one in made.advice if RAISES.search(one.sentence)]
    row = next(row for row in made.table if row["instrument"].startswith("critical"))
    assert "no reason to raise the rate" in row["reading"]


def rows(**values):
    """Forty measurements, all with these readings."""
    usual = {"loss": 1.0, "gradient_norm": 1.0, "learning_rate": 0.1, "gain_ratio": 0.5}
    usual |= {"step_slope": -1.0, "step_curvature": 1.0}
    return [{"step": 10 * i, "rate_source": "schedule"} | usual | values for i in range(40)]


def texts(made, facts, full=False, **more):
    found = Report(rows=made, facts=facts, groups=("a",), num_steps=400, batch_size=32, full_batch=full, **more)
    return [one.sentence for one in found.advice] + [" ".join(row.values()) for row in found.table]


KINDS = {
    "sgd": Facts("sgd"),
    "heavy ball": Facts("heavy_ball", momentum=0.9),
    "nesterov": Facts("heavy_ball", momentum=0.9, nesterov=True),
    "adam": Facts("adam", b1=0.9, b2=0.999, eps=1e-8),
    "other": Facts("other"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rho_of_two_at_stationarity_calls_no_rate_too_high(kind):
    """It is an identity there, whatever the rate."""
    made = rows(step_curvature=2.0, gain_ratio=0.0, valley_gap=0.1)
    for text in texts(made, KINDS[kind]):
        assert not re.search(r"too (high|large|big)|lower the rate|reduce the rate", text, re.IGNORECASE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_eigenvalue_has_no_line_for_small_batches(kind):
    found = edge_lines(KINDS[kind], 0.1, full_batch=False)["sharpness"]
    assert found.value is None
    assert not [
        one for one in advise(Case(rows(sharpness=1e6), KINDS[kind], (), None, False, False)) if one.code == "edge"
    ]


@pytest.mark.parametrize("kind", ["heavy ball", "nesterov", "adam", "other"])
def test_two_over_lambda_is_the_line_of_plain_gradient_descent_alone(kind):
    value = edge_lines(KINDS[kind], 0.1, full_batch=True)["sharpness"].value
    assert value is None or abs(value - 20) > 5


def test_the_edge_of_stability_is_no_fault():
    made = rows(sharpness=20.5, batch_sharpness=20.0)
    found = [one for one in Report(rows=made, facts=KINDS["sgd"], full_batch=True).advice if one.code == "edge"]
    assert found
    assert {one.level for one in found} == {"information"}
    assert all("no fault" in one.sentence for one in found)


def test_headroom_alone_gives_no_advice():
    for kind, multiple in itertools.product(KINDS.values(), (3.0, 64.0)):
        made = rows(critical_multiple=multiple, gain_ratio=0.99)
        assert not [one for one in Report(rows=made, facts=kind).advice if one.level == "advice"]


FORBIDDEN = {
    "a share of the weights that an update should have": r"1e-3|0\.001|10\^-3",
    "the rate of Adam by the batch": r"linear(ly)? (scal|with the batch)|square.root|sqrt.*batch|scale the (learning )?rate",
    "generalisation": r"generali[sz]|flat minim|test (loss|error|accuracy)|overfit",
    "coefficients of power lines": r"power.line",
    "headroom as advice": r"(raise|increase) the (learning )?rate (by|to|\d)",
}


def everything_said():
    """Sentences, evidence and table rows over many readings of each optimizer."""
    levels = {
        "valley_gap": (0.0, 0.1, 0.3),
        "step_curvature": (0.1, 2.0),
        "gain_ratio": (0.0, 0.99),
        "decay/a": (0.0, 1e-5, 0.01),
    }
    found = set()
    for facts, full in itertools.product(KINDS.values(), (False, True)):
        for values in itertools.product(*levels.values()):
            made = rows(**dict(zip(levels, values, strict=True))) + rows(**{"update_rms/a": 3.0, "angle/a": 0.5})[-1:]
            fixed = {"noise": 4.0, "signal": 0.5, "batch_sharpness": 30.0, "sharpness": 30.0, "critical_multiple": 3.0}
            fixed |= {
                "update_rms/a": 0.017,
                "update_over_weights/a": 0.017,
                "angle/a": 0.017,
                "gradient_curvature": 30.0,
            }
            made = [fixed | row for row in made]
            found |= set(texts(made, facts, full))
            case = Case(made, facts, ("a",), 400, full, False)
            found |= {one.evidence for one in advise(case)}
    return found


@pytest.fixture(scope="module")
def said():
    return everything_said()


@pytest.mark.parametrize("name", FORBIDDEN)
def test_nothing_that_is_said_recommends(name, said):
    assert [text for text in said if re.search(FORBIDDEN[name], text, re.IGNORECASE)] == []
    assert len(said) > 20


def test_the_noise_scale_is_called_the_critical_batch_size_only_to_deny_it(said):
    for text in said:
        if "critical batch" in text:
            assert "not the critical batch size" in text
    assert any("not the critical batch size" in text for text in said)


def test_no_docstring_recommends_what_the_module_says_it_will_not():
    """Where the words are written, they are denied; the list of what is not said apart."""
    assert advice.__doc__ is not None
    assert "What is not said" in advice.__doc__
    for module in (advice, lines, report):
        for sentence in re.split(r"(?<=[.;:])\s", inspect.getsource(module).replace(str(module.__doc__), "")):
            if re.search(r"1e-3\b|generali[sz]|critical batch", sentence, re.IGNORECASE):
                assert re.search(r"\bnot?\b|anything about", sentence), sentence
