"""Checkpoints of other programs: every layout of orbax and safetensors is read back to the bit, and nothing else is read."""

import os
import pickle
import shutil
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from safetensors.numpy import save_file

from lrjax.errors import LrjaxError, by_path
from lrjax.posthoc.foreign import load
from lrjax.posthoc.matching import found_in
from tests.runs import REPOSITORY, environment

OPTIMIZERS = {
    "adamw": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)),
    "injected": optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9),
    "multi": optax.MultiSteps(optax.adam(1e-3), 2),
    "partition": optax.partition({"a": optax.adam(1e-3), "b": optax.sgd(0.1)}, {"layers": ["a", "b"], "scale": "b"}),
}


def params_of(seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    layers = [
        {"w": jax.random.normal(keys[0], (3, 2)), "b": jax.random.normal(keys[1], (2,), jnp.bfloat16)},
        {"w": jax.random.normal(keys[2], (2, 1))},
    ]
    return {"layers": layers, "scale": jax.random.normal(keys[3], ())}


def trained(optimizer):
    params = params_of()
    grads = jax.tree.map(jnp.ones_like, params)
    updates, state = optimizer.update(grads, optimizer.init(params), params)
    return optax.apply_updates(params, updates), state


def standard(folder, **trees):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, trees.get("bare", trees))


def pytree(folder, **trees):
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(folder, trees)


def managed(folder, **trees):
    options = ocp.CheckpointManagerOptions(step_prefix="ckpt", step_format_fixed_length=6)
    with ocp.CheckpointManager(folder, options=options) as manager:
        manager.save(7, args=ocp.args.StandardSave(trees))


def composite(folder, **trees):
    items = {name: ocp.args.PyTreeSave(tree) for name, tree in trees.items()}
    with ocp.CheckpointManager(folder) as manager:
        for step in (3, 20):
            manager.save(step, args=ocp.args.Composite(**items, about=ocp.args.JsonSave({"seed": 1})))


LAYOUTS = {"standard": standard, "pytree": pytree, "managed": managed, "composite": composite}


def equal(one, other):
    """To the bit, and of the same dtypes and containers."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def shapes(tree):
    return jax.eval_shape(lambda: tree)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_orbax_is_read_back_to_the_bit(layout, name, tmp_path):
    params, state = trained(OPTIMIZERS[name])
    LAYOUTS[layout](tmp_path / "ckpt", params=params, opt_state=state)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    stored = load(tmp_path / "ckpt")
    equal(found_in(stored.leaves, shapes(params), "params", place="it"), params)
    equal(found_in(stored.leaves, shapes(state), "opt_state", place="it"), state)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_the_step_is_that_of_the_folder_or_of_a_train_state(tmp_path):
    params = params_of()
    standard(tmp_path / "a", params=params, step=jnp.asarray(9))
    pytree(tmp_path / "b", params=params, step=9)
    standard(tmp_path / "c", params=params)
    managed(tmp_path / "d", params=params)
    composite(tmp_path / "e", params=params)
    read = {name: load(tmp_path / name) for name in "abcde"}
    assert [read[name].step for name in "abcde"] == [9, 9, None, 7, 20]
    assert load(tmp_path / "e", 3).step == load(tmp_path / "e" / "3").step == load(tmp_path / "e" / "3", 3).step == 3
    assert load(tmp_path / "e", 3).place.name == "3"


def test_a_train_state_of_linen_with_other_collections_is_read(tmp_path):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(nn.BatchNorm(use_running_average=False)(nn.Dense(3)(x)))

    variables = Net().init(jax.random.key(0), jnp.ones((4, 2)))
    made = TrainState.create(apply_fn=None, params=variables["params"], tx=optax.adam(1e-3))
    extra = {"batch_stats": variables["batch_stats"], "key": jax.random.key(3), "name": "net", "epoch": 2}
    pytree(tmp_path / "ckpt", state=made, **extra)
    stored = load(tmp_path / "ckpt")
    equal(found_in(stored.leaves, made.params, "params", place="it"), made.params)
    equal(found_in(stored.leaves, made.opt_state, "opt_state", place="it"), made.opt_state)
    assert stored.step == 0


def test_a_state_of_nnx_is_read_with_its_boxes(tmp_path):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(3, 2, rngs=rngs), nnx.Linear(2, 1, rngs=rngs)])

    net = Net(nnx.Rngs(0))
    _, state = nnx.split(net)
    pure = nnx.to_pure_dict(state)
    standard(tmp_path / "boxed", params=state)
    standard(tmp_path / "pure", bare=pure)
    for name in ("boxed", "pure"):
        stored = load(tmp_path / name)
        equal(found_in(stored.leaves, state, "params", place="it"), state)
        equal(found_in(stored.leaves, pure, "params", place="it"), pure)
    optimizer = nnx.Optimizer(net, optax.adam(1e-3), wrt=nnx.Param)
    standard(tmp_path / "both", model=state, optimizer=nnx.state(optimizer))
    stored = load(tmp_path / "both")
    equal(found_in(stored.leaves, state, "params", place="it"), state)
    template = jax.eval_shape(optax.adam(1e-3).init, state)
    assert jax.tree.structure(found_in(stored.leaves, template, "opt_state", place="it")) == jax.tree.structure(
        template
    )
    assert stored.step == 0


def test_arrays_of_eight_devices_are_read_on_one(tmp_path):
    code = """
import jax, numpy as np, orbax.checkpoint as ocp, sys
mesh = jax.make_mesh((8,), ("x",))
where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(sys.argv[1], {"params": {"w": jax.device_put(np.arange(16.0, dtype=np.float32), where)}})
"""
    eight = environment() | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "ckpt"], check=True, cwd=REPOSITORY, env=eight)
    template = {"w": jax.ShapeDtypeStruct((16,), jnp.float32)}
    read = found_in(load(tmp_path / "ckpt").leaves, template, "params", place="it")
    equal(read, {"w": jnp.arange(16.0)})


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("prefix", ["", "params", "model"])
def test_safetensors_are_read_by_either_separator_and_under_a_prefix(separator, prefix, tmp_path):
    params = params_of()
    names = {
        separator.join([*filter(None, [prefix]), *path.split("/")]): leaf for path, leaf in by_path(params).items()
    }
    save_file({name: np.asarray(leaf) for name, leaf in names.items()}, tmp_path / "a.safetensors")
    stored = load(tmp_path / "a.safetensors")
    equal(found_in(stored.leaves, shapes(params), "params", place="it"), params)
    assert stored.step is None
    assert found_in(stored.leaves, optax.adam(1e-3).init(params), "opt_state", place="it") is None


@pytest.mark.parametrize("generator", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_a_typed_random_key_of_an_optimizer_comes_back(generator):
    state = {"count": jnp.int32(3), "key": jax.random.key(5, impl=generator)}
    leaves = {"opt_state/count": np.int32(3), "opt_state/key": np.asarray(jax.random.key_data(state["key"]))}
    read = found_in(leaves, shapes(state), "opt_state", place="it")
    assert read["key"].dtype == state["key"].dtype
    assert jnp.array_equal(jax.random.key_data(read["key"]), jax.random.key_data(state["key"]))


def test_momenta_of_the_shapes_of_parameters_are_not_taken_for_them():
    params = {"w": np.ones(2, np.float32)}
    leaves = {"x/mu/w": np.zeros(2, np.float32), "x/nu/w": np.zeros(2, np.float32), "net/w": params["w"]}
    equal(found_in(leaves, params, "params", place="it"), jax.tree.map(jnp.asarray, params))
    del leaves["net/w"]
    with pytest.raises(
        LrjaxError, match="it has no params, but a tree like them at 'x/mu', in the state of an optimizer"
    ):
        found_in(leaves, params, "params", place="it")
    assert found_in(leaves, params, "params", place="it", at="x/mu")["w"].tolist() == [0, 0]


def test_of_several_trees_that_fit_the_named_one_is_taken():
    one, two = np.ones(2, np.float32), np.zeros(2, np.float32)
    template = {"w": one}
    assert found_in({"params/w": one, "ema/w": two}, template, "params", place="it")["w"].tolist() == [1, 1]
    both = {"net/w": one, "ema/w": two}
    with pytest.raises(LrjaxError) as told:
        found_in(both, template, "params", place="it")
    assert str(told.value) == "params fits it at 'net', 'ema'; name one of them as params_at beside loss_fn"
    assert found_in(both, template, "params", place="it", at="ema")["w"].tolist() == [0, 0]


W = np.ones((3, 2), np.float32)


@pytest.mark.parametrize(
    ("leaves", "sentence"),
    [
        ({"params/w": W}, "params of it (at 'params'): it lacks 'b'; make the model as the training did"),
        (
            {"params/w": W, "params/b": W[0], "params/c": W},
            "params of it (at 'params'): it also has 'c'; make the model as the training did",
        ),
        (
            {"params/w": W.T, "params/b": W[0], "opt_state/mu/w": W.T, "opt_state/mu/b": W[0]},
            "params of it (at 'params'): 'w' is (2, 3), not (3, 2); make the model as the training did",
        ),
        (
            {"params/w": W.astype(np.float16), "params/b": W[0]},
            "params of it (at 'params'): 'w' is float16, not float32; make the model as the training did",
        ),
        (
            {f"net/l{number}": W for number in range(5)},
            "params of it: it lacks 'b', 'w', it also has 'net/l0', 'net/l1', 'net/l2' and 2 more; "
            "make the model as the training did",
        ),
    ],
)
def test_a_mismatch_is_one_sentence_that_names_the_first_few(leaves, sentence):
    template = {"w": jax.ShapeDtypeStruct((3, 2), jnp.float32), "b": jax.ShapeDtypeStruct((2,), jnp.float32)}
    with pytest.raises(LrjaxError) as told:
        found_in(leaves, template, "params", place="it")
    assert str(told.value) == sentence


def test_a_state_of_another_optimizer_is_told_apart():
    params = params_of()
    leaves = {f"opt_state/{path}": leaf for path, leaf in by_path(optax.sgd(0.1, momentum=0.9).init(params)).items()}
    with pytest.raises(
        LrjaxError, match=r"opt_state of it \(at .*\): it lacks .*; make the optimizer as the training did"
    ):
        found_in(leaves, optax.adam(0.1).init(params), "opt_state", place="it")


def test_what_is_no_array_in_a_template_is_named():
    with pytest.raises(LrjaxError, match="params has 'act', which is no array but a .*; give the arrays alone"):
        found_in({}, {"act": jnp.tanh}, "params", place="it")


def test_a_state_without_arrays_needs_no_checkpoint():
    state = optax.sgd(0.1).init(params_of())
    assert found_in({"w": W}, state, "opt_state", place="it") is state


class Trap:
    def __reduce__(self):
        return os._exit, (3,)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a.pkl", "is a pickle, which runs whatever it holds when it is read; where you trust it"),
        ("a.pt", "is a pickle, which runs"),
        ("a.npz", "may hold pickles and is not read; write its arrays with safetensors.numpy.save_file"),
        ("a.safetensors", "is no safetensors file"),
        ("a.msgpack", "is no checkpoint that is known; lrjax reads folders of orbax and .safetensors files"),
    ],
)
def test_no_pickle_is_ever_opened(name, sentence, tmp_path):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(LrjaxError) as told:
        load(path)
    assert str(told.value).startswith(f"{path} {sentence}")
    assert "\n" not in str(told.value)


def test_what_is_no_checkpoint_gets_one_sentence(tmp_path):
    params = params_of()
    composite(tmp_path / "run" / "steps", params=params)
    standard(tmp_path / "one", params=params)
    (tmp_path / "empty").mkdir()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "model.safetensors").touch()
    (tmp_path / "own").mkdir()
    for name in ("config.json", "status.json"):
        (tmp_path / "own" / name).touch()
    (tmp_path / "twice").mkdir()
    for name in ("a_3", "b_3"):
        standard(tmp_path / "twice" / name, params=params)
    cases = [
        ("none", None, "there is no checkpoint "),
        ("empty", None, "holds no finished checkpoint of orbax; lrjax reads folders of orbax and .safetensors files"),
        ("run", None, f"is no checkpoint of orbax, but {tmp_path / 'run' / 'steps'} has some; give that"),
        ("files", None, "is no checkpoint of orbax; give the file in it, "),
        ("own", None, "is a run of lrjax; lrjax spectra "),
        ("run/steps", 4, "step 4 is not stored in "),
        ("one", 4, "is a single checkpoint; leave --step out, or give the folder of all steps"),
        ("twice", None, "has step 3 twice, a_3 and b_3; give one of them"),
    ]
    for name, step, sentence in cases:
        with pytest.raises(LrjaxError) as told:
            load(tmp_path / name, step)
        assert sentence in str(told.value)
        assert "\n" not in str(told.value)


def test_a_damaged_checkpoint_gets_one_sentence_and_nothing_else(tmp_path, capfd, caplog):
    for number, damage in enumerate(("manifest.ocdbt", "_METADATA", "d")):
        folder = tmp_path / str(number)
        standard(folder, params=params_of())
        shutil.rmtree(folder / damage) if damage == "d" else (folder / damage).write_bytes(b"no")
        capfd.readouterr()
        caplog.clear()
        with pytest.raises(LrjaxError, match=rf"^the checkpoint .*{number} is damaged \(.*\); give another one$"):
            load(folder)
        assert capfd.readouterr() == ("", "")
        assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_a_checkpoint_is_read_in_silence(tmp_path, capfd, caplog):
    composite(tmp_path / "many", params=params_of())
    standard(tmp_path / "one", params=params_of())
    capfd.readouterr()
    caplog.clear()
    for name in ("one", "many"):
        load(tmp_path / name)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_a_number_in_the_name_of_one_tree_is_no_step_and_its_own_count_tells_more(tmp_path):
    tree = {"params": {"w": np.arange(2.0)}, "step": np.asarray(7)}
    found = {}
    for name in ("resnet-50", "run_2024", "step_20", "20"):
        standard(tmp_path / name, bare=tree)
        standard(tmp_path / "uncounted" / name, bare={"w": np.arange(2.0)})
        found[name] = load(tmp_path / name).step, load(tmp_path / "uncounted" / name).step
    assert found == {"resnet-50": (7, None), "run_2024": (7, None), "step_20": (7, 20), "20": (7, 20)}
