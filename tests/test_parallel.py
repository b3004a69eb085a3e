"""One, two and eight simulated devices: equal bits along the sweep axis, equal numbers along the data axis."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

import lrjax
from lrjax.devices import parallel
from lrjax.errors import LrjaxError
from tests.runs import REPOSITORY, environment, equal_trees, final_states


def on_devices(count, *arguments):
    """Runs a task of `tests/on_devices.py` and returns what it printed."""
    command = [sys.executable, "-m", "tests.on_devices", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(count), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == count
    return found


def lanes_of(workdir):
    """Lane -> (arrays, final state of that lane, rows)."""
    run, states = lrjax.load_run(workdir), final_states(workdir)
    found = {}
    for number, members in enumerate(run.status["blocks"]):
        for place, lane in enumerate(members):
            state = jax.tree.map(lambda a, place=place: a[place], states[f"block-{number:03d}"])
            rows = sorted((row for row in run.metrics if row["lane"] == lane), key=lambda row: row["step"])
            found[lane] = (run.arrays[lane], state, rows)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["gram", "direct"])
def test_a_sweep_has_the_same_bits_on_1_2_and_8_devices_and_needs_no_communication(engine, tmp_path):
    found = {count: on_devices(count, "sweep", engine, tmp_path / str(count)) for count in (1, 2, 8)}
    assert [found[count]["collectives"] for count in found] == [[], [], []]
    blocks = [len(lrjax.load_run(tmp_path / str(count)).status["blocks"]) for count in found]
    assert blocks == [8, 4, 1]  # 15 lanes, two a device
    reference = lanes_of(tmp_path / "1")
    assert len(reference) == 15
    for count in (2, 8):
        other = lanes_of(tmp_path / str(count))
        for lane, (arrays, state, rows) in reference.items():
            assert equal_trees(other[lane][0], arrays), (count, lane)
            assert equal_trees(other[lane][1], state), (count, lane)
            assert other[lane][2] == rows


def relative(a, b):
    return np.linalg.norm(np.ravel(a - b)) / np.linalg.norm(np.ravel(b))


@pytest.mark.slow
def test_a_batch_shared_by_1_2_and_8_devices_gives_the_same_network(tmp_path):
    found = {count: on_devices(count, "data", tmp_path / str(count)) for count in (1, 2, 8)}
    assert found[1]["collectives"] == []
    assert "all-reduce" in found[2]["collectives"]
    assert "all-reduce" in found[8]["collectives"]
    (reference,) = final_states(tmp_path / "1").values()
    first, loss = reference["state"]["params"], lrjax.load_run(tmp_path / "1").arrays[0]["step/loss"]
    assert loss[-1] < 0.999 * loss[0]  # it learns: standing still would agree too
    for count in (2, 8):
        (saved,) = final_states(tmp_path / str(count)).values()
        worst = max(jax.tree.leaves(jax.tree.map(relative, saved["state"]["params"], first)))
        assert worst <= 1e-5, (count, worst)
        other = lrjax.load_run(tmp_path / str(count)).arrays[0]
        np.testing.assert_allclose(other["step/loss"], loss, rtol=1e-5)


@pytest.mark.slow
def test_more_devices_with_as_much_work_each_reduce_gradients_and_metrics_alone_and_a_sweep_nothing():
    found = on_devices(8, "weak_scaling")["collectives"]
    for count, own in found.items():
        assert own["sweep"]["collectives"] == []
        assert own["data"]["collectives"] == (["all-reduce"] if count != "1" else [])
        # The gradient, the statistics of one layer of 16 and their gradients, the metrics; and not one activation.
        more = own["data"]["reduced"] - own["data"]["params"]
        assert count == "1" or 0 < more <= 100, own
        for axis in ("sweep", "data"):
            assert own[axis]["flops"] == pytest.approx(found["1"][axis]["flops"], rel=0.1), (axis, count)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*pmap:DeprecationWarning")
@pytest.mark.parametrize("count", [8])
def test_the_step_under_pmap_gives_the_result_of_jit(count, tmp_path):
    on_devices(count, "pmap", tmp_path / "out")
    with np.load(tmp_path / "out" / "params.npz") as file:
        many = [name for name in file.files if name.startswith("many")]
        assert many
        for name in many:
            assert file[name].shape[0] == count
            assert (file[name] == file[name][:1]).all(), "devices hold different parameters"
            assert relative(file[name][0], file[name.replace("many", "one", 1)]) <= 1e-5
        losses = file["losses"]
    np.testing.assert_allclose(losses[:, 1], losses[:, 0], rtol=1e-5)
    assert losses[-1, 0] < 0.999 * losses[0, 0]


@pytest.mark.slow
def test_a_run_begun_on_one_device_is_not_taken_up_by_two(tmp_path):
    on_devices(1, "sweep", "gram", tmp_path / "run")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    (tmp_path / "run" / "status.json").write_text(json.dumps(status | {"state": "preempted"}))
    with pytest.raises(AssertionError, match="was begun on another number of devices"):
        on_devices(2, "sweep", "gram", tmp_path / "run")
    assert len(list((tmp_path / "run" / "ckpt").iterdir())) == 8


BAD_MESHES = {
    "devices do not divide": (lambda: parallel.make_mesh(3 * jax.device_count(), 1, 6), "does not divide the"),
}


@pytest.mark.parametrize(("make", "sentence"), BAD_MESHES.values(), ids=BAD_MESHES)
def test_a_mesh_that_cannot_be_is_refused(make, sentence):
    with pytest.raises(LrjaxError, match=sentence):
        make()


@pytest.mark.parametrize("loop", ["vmap", "map"])
def test_lane_loops_apply_the_function_to_every_lane(loop):
    mesh = parallel.make_mesh(1, num_lanes=4, batch_size=1)
    values = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    shared = parallel.put_shared(np.float32(2.0), mesh)
    function = parallel.lanes(lambda x, a: {"sum": x.sum() * a, "x": x + a}, mesh, loop, shared=(1,))
    found = parallel.fetch(function(parallel.put_lanes(values, mesh), shared))
    assert (found["sum"] == 2 * values.sum(axis=1)).all()
    assert (found["x"] == values + 2).all()


def test_all_devices_share_the_batch_of_a_single_lane_only():
    count = jax.device_count()
    assert parallel.make_mesh(0, num_lanes=1, batch_size=16 * count).shape["data"] == count
    assert parallel.make_mesh(0, num_lanes=2, batch_size=16 * count).shape["data"] == 1


def test_the_log_says_over_how_many_examples_batch_norm_takes_its_statistics():
    mesh = parallel.make_mesh(1, num_lanes=1, batch_size=64)
    assert "BatchNorm's statistics are those of each 16" in parallel.layout(mesh, 1, 64, normalised=16)
    assert "BatchNorm" not in parallel.layout(mesh, 1, 64)


def test_a_mesh_of_explicit_axes_and_a_batch_with_a_key_are_placed_for_functions_that_name_no_axis():
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Explicit,))
    weights = parallel.put_shared(jax.numpy.ones(3), mesh)
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        batch = parallel.put_examples({"x": np.ones((8, 3), np.float32), "key": key}, mesh)

        @jax.jit
        def function(w, batch):
            return batch["x"][jax.numpy.array([0, 2])] @ w + jax.random.normal(batch["key"])

        noise = float(jax.random.normal(jax.random.key(0)))
        np.testing.assert_allclose(function(weights, batch), [3 + noise] * 2, rtol=1e-6)
