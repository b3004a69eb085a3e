"""Which networks are scale invariant (Li & Arora 2020, appendix C): whole networks, scaled by 2.9 in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.models import build_model
from lrjax.transforms.invariance import scale_invariance

pytestmark = [pytest.mark.x64, pytest.mark.slow]

IMAGES = np.random.default_rng(0).normal(size=(6, 8, 8, 3))
POST = {"name": "resnet32", "eps": 0.0, "head": "frozen"}
AFFINE = {"affine": True, "final_affine": False}
INVARIANT = {
    "batch norm": {},
    "group norm": {"norm": "group", "groups": 2},
    "layer norm": {"norm": "layer"},
    "instance norm": {"norm": "instance"},
    "no last relu": {"final_relu": False},
    "stem with bias": {"stem_bias": True},
    "affine, norm and 1x1 conv in every stage": {**AFFINE, "shortcut": "all"},
    "post-activation": {**POST, "affine": False},
    "post-activation with affine, plain norm before pooling": {**POST, "final_norm": True},
}
BROKEN = {
    "raw shortcut": {"shortcut": "none"},
    "affine, identity shortcut in stage 1": AFFINE,
    "affine, also in the last norm": {**AFFINE, "shortcut": "all", "final_affine": True},
    "post-activation with affine": POST,
    "eps": {"eps": 1e-2},
    "free head": {"head": "free"},
}


def network(config):
    """Logits of parameters in training mode, and generic parameters: no zero bias, no scale of one."""
    model = build_model({"name": "preresnet", "depth": 8, "width": 4, **config}, num_classes=5)
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        fan = int(np.prod(leaf.shape[:-1]))
        return jnp.asarray(
            rng.normal(1.0 if path[-1].key in ("scale", "var") else 0.0, max(fan, 4) ** -0.5, leaf.shape)
        )

    params, model_state = jax.tree_util.tree_map_with_path(draw, shapes)
    return lambda params: model.apply(params, model_state, jnp.asarray(IMAGES), train=True)[0], params


def change(config):
    """Relative change of the logits when all trained parameters are multiplied by 2.9."""
    logits, params = network(config)
    at = jax.jit(lambda c: logits(jax.tree.map(lambda w: c * w, params)))
    before, after = at(1.0), at(2.9)
    return float(jnp.linalg.norm(after - before) / jnp.linalg.norm(before))


@pytest.mark.parametrize("name", INVARIANT)
def test_network_is_invariant(name):
    assert change(INVARIANT[name]) < 1e-13


@pytest.mark.parametrize("name", BROKEN)
def test_network_is_broken(name):
    assert change(BROKEN[name]) > 0.01


def test_report_on_a_network_names_the_raw_shortcut():
    logits, params = network(BROKEN["raw shortcut"])
    report = scale_invariance(lambda p: -jnp.mean(jax.nn.log_softmax(logits(p))[:, 0]), params)
    assert {o.path for o in report.obstacles} == {f"stage{stage}_block1/projection/kernel" for stage in (2, 3)}
    with pytest.raises(LrjaxError, match="stage2_block1/projection/kernel"):
        report.require()
    report.require(only=lambda path: "projection" not in path)
