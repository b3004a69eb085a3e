"""In which precision a training step multiplies float32 matrices, and that a CPU's numbers do not depend on it."""

import contextlib
import re
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lrjax
from lrjax.devices import parallel
from lrjax.errors import LrjaxError
from lrjax.experiment.loop import sweep
from lrjax.experiment.loop.block import Block
from lrjax.experiment.loop.dry_run import _arguments
from lrjax.experiment.loop.train import _shared_data
from lrjax.experiment.step.train_step import MATMUL_PRECISIONS, train_step
from lrjax.papers.premise import fewer_digits
from lrjax.papers.premises import exact
from lrjax.report.about import facts

OF_JAX = {"float32": "HIGHEST", "tensorfloat32": "HIGH", "bfloat16": "DEFAULT"}
EXPERIMENTS = {"mlp": "E7_mlp", "simple_cnn": "E1"}


def group_of(network, precision, data_dir):
    overrides = {"data_dir": str(data_dir), "matmul_precision": precision, "batch_size": 4, "log_every": 2}
    config = lrjax.load_config(f"configs/break_even.py:{EXPERIMENTS[network]},scale=smoke", overrides)
    with config.unlocked(), config.ignore_type():
        config.update(probes={}, steps=2)
    return sweep.expand(config)[0]


@pytest.mark.parametrize("precision", MATMUL_PRECISIONS)
@pytest.mark.parametrize("network", EXPERIMENTS)
def test_every_product_of_the_step_has_the_precision_asked_for(network, precision, tfds_dir):
    group = group_of(network, precision, tfds_dir)
    engine, *shapes = _arguments(group)
    text = str(jax.make_jaxpr(lambda *arguments: train_step(engine, group.static, *arguments))(*shapes))
    found = re.findall(r"precision=\(Precision\.(\w+), Precision\.(\w+)\)", text)
    assert len(found) == text.count("dot_general[") > 0
    assert set(found) == {(OF_JAX[precision],) * 2}
    windows = re.findall(r"dilation=\(1, 1\), precision=(.*?)\)", text)
    assert set(windows) == ({f"'{precision}'"} if network == "simple_cnn" else set())


@pytest.mark.parametrize("network", EXPERIMENTS)
def test_convolutions_and_products_reach_the_compiler_in_that_precision_on_an_accelerator(network, tfds_dir):
    counts = {}
    for precision in ("float32", "tensorfloat32"):
        group = group_of(network, precision, tfds_dir)
        engine, *shapes = _arguments(group)
        step = jax.jit(lambda *arguments, e=engine, g=group: train_step(e, g.static, *arguments))
        text = step.trace(*shapes).lower(lowering_platforms=("cuda",)).as_text()
        lines = [line for line in text.splitlines() if "dot_general" in line or "stablehlo.convolution" in line]
        wanted = OF_JAX[precision]
        # StableHLO prints a convolution's precision as an attribute, and a product's as a list of words.
        counts[precision] = len(lines)
        assert lines
        assert all(len(re.findall(rf"\b{wanted}\b", line)) == 2 for line in lines)
    assert counts["float32"] == counts["tensorfloat32"]


@pytest.mark.parametrize("network", EXPERIMENTS)
def test_a_cpu_gives_the_same_bits_in_every_precision_and_without_one(network, tfds_dir, monkeypatch):
    def losses(precision):
        group = group_of(network, precision, tfds_dir)
        mesh = parallel.make_mesh(1, 1, 4)
        block = Block(0, group, group.lanes[:1], mesh, _shared_data(group, mesh))
        state, metrics = block.advance(parallel.put_lanes(block.start().state, mesh), 0)
        return parallel.fetch((state.params, metrics["loss"]))

    results = [losses(precision) for precision in (MATMUL_PRECISIONS if network == "mlp" else ("float32",))]
    monkeypatch.setattr("lrjax.experiment.loop.block._program", _without_precision(monkeypatch))
    results.append(losses("float32"))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (results[0], other)), strict=True))


def _without_precision(monkeypatch):
    """The program as it was before the key: compiled anew, without a precision."""
    from lrjax.experiment.loop import block

    plain = SimpleNamespace(**{name: getattr(jax, name) for name in dir(jax)})
    plain.default_matmul_precision = lambda word: contextlib.nullcontext()
    monkeypatch.setattr("lrjax.experiment.step.train_step.jax", plain)
    return block._program.__wrapped__


def test_an_unknown_precision_is_refused_with_the_nearest(tfds_dir):
    with pytest.raises(LrjaxError, match="unknown matmul_precision 'tensorfloat'; did you mean 'tensorfloat32'?"):
        group_of("mlp", "tensorfloat", tfds_dir)


def test_lanes_that_differ_in_precision_are_programs_of_their_own(tfds_dir):
    config = lrjax.load_config("configs/break_even.py:E7_mlp,scale=smoke", {"data_dir": str(tfds_dir)})
    with config.unlocked(), config.ignore_type():
        config.optimizer.learning_rate = 0.1
        config.arms = {"full": {}, "tf32": {"matmul_precision": "tensorfloat32"}}
    groups = sweep.expand(config)
    assert {group.static.matmul_precision for group in groups} == {"float32", "tensorfloat32"}


def run_of(device, precision=None) -> Any:
    config = {"matmul_precision": precision} if precision else {}
    lane = {"arm": "main", "values": {}, "seed": 0}
    arrays = {"step/loss": np.zeros(3, np.float32)}
    return SimpleNamespace(config=config, lanes=[lane], arrays=[arrays], status={"device": device})


@pytest.mark.parametrize(
    ("device", "precision", "told"),
    [
        ("1 x NVIDIA H100", "float32", "float32 in training; float32 in curvature"),
        ("1 x NVIDIA H100", "tensorfloat32", "tensorfloat32 in training; float32 in curvature"),
        ("CPU: 2 cores", "tensorfloat32", "float32 in training; float32 in curvature"),
        ("CPU: 2 cores, then 1 x NVIDIA H100", "bfloat16", "bfloat16 in training; float32 in curvature"),
        ("1 x NVIDIA H100", None, None),
    ],
)
def test_a_report_says_in_which_precision_a_run_multiplied(device, precision, told):
    assert facts(run_of(device, precision)).get("matrix products") == told


@pytest.mark.parametrize("device", ["CPU: 2 cores", "1 x NVIDIA H100"])
def test_a_run_in_float64_is_said_to_be_in_float64(device):
    run = run_of(device, "float32")
    run.config["compute_dtype"] = "float64"
    assert facts(run)["matrix products"] == "float64 in training; float64 in curvature"


@pytest.mark.parametrize(
    ("device", "precision", "held"),
    [
        ("1 x NVIDIA H100", "float32", True),
        ("1 x NVIDIA H100", "tensorfloat32", False),
        ("1 x NVIDIA H100", None, False),  # of before the key: the device's default
        ("CPU: 2 cores", "tensorfloat32", True),
        ("CPU: 2 cores", None, True),
    ],
)
def test_no_theorem_is_judged_by_products_of_fewer_digits(device, precision, held):
    run = run_of(device, precision)
    assert (fewer_digits(run) is None) == held
    assert exact(lambda run: 1e-9, most=1e-6).evaluate(run).holds == held


def test_what_a_probe_evaluates_has_the_precision_of_the_step_and_curvature_float32(tfds_dir):
    group = group_of("mlp", "tensorfloat32", tfds_dir)
    mesh = parallel.make_mesh(1, 1, 4)
    block = Block(0, group, group.lanes[:1], mesh, _shared_data(group, mesh))
    with block.precision():
        plain = str(jax.make_jaxpr(jnp.matmul)(jnp.ones((2, 2)), jnp.ones((2, 2))))
        with jax.default_matmul_precision("highest"):
            inside = str(jax.make_jaxpr(jnp.matmul)(jnp.ones((2, 2)), jnp.ones((2, 2))))
    assert "Precision.HIGH," in plain
    assert "Precision.HIGHEST," in inside
