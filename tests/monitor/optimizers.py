"""Every optimizer of optax and of optax.contrib, with the arguments that it is made with."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import optax
import optax.contrib

SGD = optax.sgd(0.1)
MASK = {"a": True, "b": {"c": False, "d": True}}
LABELS = {"a": "x", "b": {"c": "y", "d": "x"}}


def rate(value=0.1, **keywords):
    return {"learning_rate": value, **keywords}


ARGUMENTS = {
    "adaptive_grad_clip": {"clipping": 0.1},
    "add_decayed_weights": {"weight_decay": 0.1},
    "add_noise": {"eta": 0.1, "gamma": 0.5, "key": 0},
    "apply_every": {"k": 3},
    "apply_if_finite": {"inner": SGD, "max_consecutive_errors": 2},
    "centralize": {},
    "clip": {"max_delta": 0.1},
    "clip_by_block_rms": {"threshold": 0.1},
    "clip_by_global_norm": {"max_norm": 0.1},
    "conditionally_mask": {"inner": SGD, "should_transform_fn": lambda count, **_: count % 2 == 0},
    "conditionally_transform": {"inner": SGD, "should_transform_fn": lambda count, **_: count % 2 == 0},
    "dpsgd": rate(l2_norm_clip=1.0, noise_multiplier=0.1, seed=0),
    "differentially_private_aggregate": {"l2_norm_clip": 1.0, "noise_multiplier": 0.1, "key": 0},
    "ema": {"decay": 0.9},
    "flatten": {"inner": optax.adam(0.1)},
    "freeze": {"mask": MASK},
    "galore": rate(rank=2),
    "lamb": rate(weight_decay=0.1),
    "lars": rate(weight_decay=0.1),
    "masked": {"inner": SGD, "mask": MASK},
    "mechanize": {"base_optimizer": SGD},
    "multi_transform": {"transforms": {"x": SGD, "y": optax.adam(0.1)}, "param_labels": LABELS},
    "noisy_sgd": rate(key=0),
    "partition": {"transforms": {"x": SGD, "y": optax.adam(0.1)}, "param_labels": LABELS},
    "optimistic_adam": rate(optimism=0.05),
    "reduce_on_plateau": {"patience": 1},
    "sam": {"optimizer": SGD, "adv_optimizer": optax.sgd(0.05)},
    "scale": {"step_size": -0.1},
    "scale_by_backtracking_linesearch": {"max_backtracking_steps": 5},
    "scale_by_galore": {"rank": 2},
    "scale_by_learning_rate": rate(),
    "scale_by_madgrad": rate(),
    "scale_by_rprop": rate(),
    "scale_by_schedule": {"step_size_fn": lambda count: -0.1 / (1 + count)},
    "scale_by_zoom_linesearch": {"max_linesearch_steps": 5},
    "schedule_free": {"base_optimizer": SGD, "learning_rate": 0.1},
    "selective_transform": {"optimizer": SGD, "freeze_mask": MASK},
    "snapshot": {"measure_name": "norm", "measure": optax.tree.norm},
    "split_real_and_imaginary": {"inner": SGD},
    "stateless": {"f": lambda updates, params: updates},
    "stateless_with_tree_map": {"f": lambda update, param: -0.1 * update},
    "trace": {"decay": 0.9},
    "with_extra_args_support": {"tx": SGD},
}
"""Name -> keywords, where it needs others than `learning_rate`."""

EXCEPTIONS = {
    "chain": "takes transformations as positional arguments; tested as a wrapper",
    "named_chain": "takes pairs as positional arguments; tested as a wrapper",
    "inject_hyperparams": "takes a factory and returns one; tested as a wrapper",
    "inject_stateful_hyperparams": "takes a factory and returns one; the same as inject_hyperparams",
    "measure_with_ema": "its updates are measures, and no tree like the parameters",
    "scale_by_muon": "takes matrices alone, as the masks of muon give it",
    "scale_by_distance_over_gradients": "promotes ranks, which the tests forbid; deprecated for contrib.dog",
    "lookahead": "steps pairs of fast and slow parameters, which are no parameters of a loss",
}
"""Name -> why it is not in the table."""

EXTRA = {
    "sophia": lambda loss: {"extra_args": lambda params, batch: {"obj_fn": lambda p: loss(p, batch)}},
    "dpsgd": lambda loss: {"gradient_fn": lambda params, batch: each_gradient(loss, params, batch)},
    "differentially_private_aggregate": lambda loss: {
        "gradient_fn": lambda params, batch: each_gradient(loss, params, batch)
    },
}
"""Name -> loss -> what has to be passed beside the gradient."""


def each_gradient(loss, params, batch):
    return jax.vmap(lambda x: jax.grad(loss)(params, x[None]))(batch)


def constructors():
    """Name -> constructor, of all functions that return a transformation."""
    found = {}
    for module in (optax, optax.contrib):
        for name, value in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("_"):
                continue
            returns = str(inspect.signature(value).return_annotation)
            if "GradientTransformation" in returns and "Callable" not in returns:
                found[name] = value
    return found


def required(constructor):
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(constructor).parameters.values()
    return {p.name for p in parameters if p.default is p.empty and p.kind in kinds}


def made(name):
    """The optimizer of a name with its arguments; None where they are not known."""
    constructor = constructors()[name]
    if name in EXCEPTIONS:
        return None
    needs = required(constructor)
    if name not in ARGUMENTS and needs - {"learning_rate"}:
        return None
    keywords = dict(ARGUMENTS.get(name, rate() if "learning_rate" in needs else {}))
    if "key" in keywords:  # versions of optax take a key, a seed or either
        seed = keywords.pop("key")
        takes_key = "key" in inspect.signature(constructor).parameters
        keywords |= {"key": jax.random.key(seed)} if takes_key else {"seed": seed}
    with warnings.catch_warnings():  # optax deprecates some
        warnings.simplefilter("ignore", DeprecationWarning)
        return constructor(**keywords)


def params():
    return {
        "a": jnp.linspace(-0.5, 0.7, 6).reshape(2, 3),
        "b": {"c": jnp.array([0.3, -0.2]), "d": jnp.array([0.1, 0.4])},
    }


def loss(params, batch):
    hidden = jnp.tanh(batch @ params["a"].T + params["b"]["c"][None])
    return jnp.mean((hidden * params["b"]["d"][None] - batch[:, :2]) ** 2) / 2 + 0.1


def batches(count):
    return [jax.random.normal(jax.random.key(i), (4, 3)) for i in range(count)]
