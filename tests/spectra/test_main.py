"""`python -m lrjax.posthoc`: what it measures is what the probe measures, and a run directory is only read."""

import contextlib
import hashlib
import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import lrjax
from lrjax.experiment.rundir import workdirs
from lrjax.posthoc import cli
from lrjax.posthoc.__main__ import main
from lrjax.posthoc.checkpoints import open_run, points, steps_of
from lrjax.posthoc.measuring import Measured
from tests.runs import tiny

K = 2
CONFIG = {"keep_checkpoints": "all", "sweep.e": (1.25,), "probes.spectrum": 200, "spectra.k": K}
CONFIG |= {"spectra.matrices": ("hessian", "gradient_covariance"), "spectra.tol": 1e-4}


def contents(folder):
    """Relative path -> digest of every file, but for what the program under test writes."""
    files = [path for path in folder.rglob("*") if path.is_file() and "spectra" not in path.relative_to(folder).parts]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with the spectrum probe: three lanes of different lengths in two blocks, all checkpoints kept."""
    workdir = tmp_path_factory.mktemp("spectra") / "run"
    config = tiny(CONFIG, probes=("spectrum",))
    return SimpleNamespace(workdir=workdir, config=config, result=lrjax.run(config, workdir))


@pytest.fixture(scope="module")
def measured(finished):
    """The run measured at every stored step while a process holds its lock, and what that printed."""
    before = contents(finished.workdir)
    with workdirs.opened(finished.workdir, finished.config), contextlib.redirect_stdout(io.StringIO()) as out:
        assert main([f"--workdir={finished.workdir}"]) == 0
    record = json.loads((finished.workdir / "spectra" / "spectra.json").read_text())
    return SimpleNamespace(
        before=before, after=contents(finished.workdir), out=out.getvalue(), record=record, rows=record["rows"]
    )


def test_the_files_of_the_run_are_read_and_its_lock_is_left_alone(measured):
    assert measured.before == measured.after
    assert any(name.startswith("ckpt") for name in measured.before)


def test_stored_states_have_the_eigenvalues_that_the_probe_saw_in_training(finished, measured):
    seen = {(row["lane"], row["step"], row["matrix"]): row["values"] for row in measured.rows}
    compared = 0
    for lane, arrays in enumerate(finished.result.arrays):
        for place, step in enumerate(arrays["spectrum/step"]):
            for matrix in ("hessian", "gradient_covariance"):
                values = arrays[f"spectrum/{matrix}_values"][place]
                np.testing.assert_allclose(seen[lane, step, matrix], values, rtol=1e-3)
                compared += 1
    assert compared >= 3 * 2 * 3


def test_every_checkpoint_is_measured_and_a_lane_that_ended_comes_once_at_its_last_step(finished, measured):
    steps = {lane: [] for lane in range(3)}
    for row in measured.rows:
        if row["matrix"] == "hessian":
            steps[row["lane"]].append(row["step"])
    ends = [lane["steps"] for lane in finished.result.lanes]
    assert sorted(ends) == [330, 400, 500]
    assert steps == {lane: [*range(0, end, 100), end] for lane, end in enumerate(ends)}


def test_rows_say_how_sure_they_are_what_they_cost_and_where_the_edge_is(finished, measured):
    for row in measured.rows:
        rate = finished.result.lanes[row["lane"]]["learning_rate"]
        assert row["learning_rate"] == pytest.approx(rate)
        assert row["edge"] == (pytest.approx(2 / rate) if row["matrix"] == "hessian" else None)
        assert all(row["converged"])
        assert all(r <= 1e-4 * v + 1e-6 for r, v in zip(row["residuals"], row["values"], strict=True))
        assert row["products"] >= K
        assert row["seconds"] > 0
        assert row["examples"] == 64
        text = f"{row['values'][0]:>12.5g}{row['values'][1]:>12.5g}{row['products']:>10}"
        assert any(text in line for line in measured.out.splitlines())
    assert measured.record["command"].startswith("python -m lrjax.posthoc --workdir=")
    assert measured.record["settings"]["k"] == K
    assert measured.record["complete"] is True


def test_each_step_starts_from_the_eigenvectors_of_the_one_before(measured):
    products = [row["products"] for row in measured.rows if (row["lane"], row["matrix"]) == (2, "hessian")]
    assert max(products[2:]) < products[0]  # a lane of small rate hardly moves from step 100 on


def lane_arrays(folder, lane):
    with np.load(folder / "arrays" / f"lane-{lane:03d}.npz") as file:
        return {name.replace("__", "/"): file[name] for name in file.files}


def test_arrays_have_the_names_and_the_numbers_of_the_probe(finished, measured):
    arrays, probe = lane_arrays(finished.workdir / "spectra", 0), finished.result.arrays[0]
    rows = [row for row in measured.rows if (row["lane"], row["matrix"]) == (0, "hessian")]
    assert arrays["spectrum/step"].tolist() == [row["step"] for row in rows]
    assert arrays["spectrum/hessian_values"].tolist() == [row["values"] for row in rows]
    at = np.isin(arrays["spectrum/step"], probe["spectrum/step"])
    np.testing.assert_allclose(arrays["spectrum/cos_hk"][at], probe["spectrum/cos_hk"], atol=0.02)
    assert not any(name.startswith("step/") for name in arrays)


def test_figures_show_eigenvalues_and_the_angle(finished, measured):
    names = {path.name for path in (finished.workdir / "spectra" / "figures").iterdir()}
    assert names == {"cos_hk.png", "eigenvalues_hessian.png", "eigenvalues_gradient_covariance.png"}


def test_fewer_devices_than_the_run_had_give_the_same_states(finished):
    """Two lanes a block in the checkpoints, one at a time here."""

    def states(overrides):
        stored = open_run(finished.workdir, overrides)
        steps = steps_of(stored, [0, 2], [0, 300])
        return {(p.lane.index, p.step): p for p in points(stored, [0, 2], steps)}

    usual, alone = states({}), states({"lanes_per_device": 1})
    assert usual.keys() == alone.keys() == {(0, 0), (2, 0), (0, 300), (2, 300)}
    for at, point in usual.items():
        for name, leaf in point.state.params.items():
            atol = 1e-6 * np.abs(leaf).max() if at[1] == 0 else 0  # drawn anew by another program, and read
            np.testing.assert_allclose(alone[at].state.params[name], leaf, rtol=0, atol=atol)
        np.testing.assert_allclose(alone[at].train["x"], point.train["x"], rtol=1e-5, atol=1e-7)
    assert not np.array_equal(usual[0, 300].state.params["inner"], usual[2, 300].state.params["inner"])


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished.workdir, tmp_path / "copied", ignore=shutil.ignore_patterns("spectra"))


def test_a_second_call_replaces_its_own_files_and_nothing_else(copied, monkeypatch):
    fake(lambda point, before: [Measured(row(point), None, None)], monkeypatch)
    assert main([f"--workdir={copied}", "--steps=0,200", "--lanes=0,1"]) == 0
    folder = copied / "spectra"
    (folder / "figures" / "mine.png").write_bytes(b"mine")
    fake(lambda point, before: [Measured(row(point) | {"matrix": "ggn"}, None, None)], monkeypatch)
    assert main([f"--workdir={copied}", "--steps=200", "--lanes=2"]) == 0
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"spectra.json", "arrays/lane-002.npz", "figures/eigenvalues_ggn.png", "figures/mine.png"}
    assert [row["step"] for row in json.loads((folder / "spectra.json").read_text())["rows"]] == [200]
    workdirs.start_over(copied)  # they belong to the run: --fresh removes them with it
    assert not folder.exists()


@pytest.mark.slow
def test_density_trace_and_the_spread_between_subsets(finished, tmp_path, capsys):
    flags = ["--steps=400", "--lanes=0", "--matrices=hessian", "--k=1", "--examples=8", "--spread=3", "--trace"]
    assert main([f"--workdir={finished.workdir}", *flags, "--density", "--probes=2", f"--out={tmp_path}"]) == 0
    out, err = capsys.readouterr()
    (found,) = json.loads((tmp_path / "spectra.json").read_text())["rows"]
    assert found["examples"] == 8
    assert len(set(found["spread"]["values"])) == 3
    assert found["spread"]["std"] == pytest.approx(np.std(found["spread"]["values"], ddof=1))
    assert f"trace {found['trace']['value']:.5g} +-" in out
    assert "lambda_1 on 3 other subsets of 8 examples" in out
    assert "note: measured on 8 of 64 examples" in err
    assert err.count("\n") == len(set(err.splitlines()))
    arrays = lane_arrays(tmp_path, 0)
    nodes, weights, atoms = (arrays[f"density/hessian/400/{name}"] for name in ("nodes", "weights", "atoms"))
    assert nodes.shape == weights.shape == (2, found["density"]["steps"])
    assert atoms.tolist() == found["values"]
    np.testing.assert_allclose(weights.sum(axis=1), 1 - 1 / found["parameters"], rtol=1e-9)
    second = np.sum(weights * nodes**2, axis=1).mean()
    assert 0 < second < atoms[0] ** 2
    assert (tmp_path / "figures" / "density_hessian_lane-000_step-000000400.png").exists()


BAD = {
    "no workdir": ([], "give --workdir=DIR"),
    "no such directory": (["--workdir=no/such"], "there is no directory no/such"),
    "unknown flag": (["--workdir=RUN", "--step=0"], "unrecognized arguments: --step=0; --help lists the flags"),
    "words for steps": (["--workdir=RUN", "--steps=first"], "--steps=first must be all, or numbers"),
    "unknown matrix": (["--workdir=RUN", "--matrices=hesian"], "unknown matrix 'hesian' in spectra.matrices; did you mean"),
    "unknown lane": (["--workdir=RUN", "--lanes=7"], "there is no lane 7; the lanes of RUN are 0..2"),
    "missing step": (["--workdir=RUN", "--steps=100,150"], "step 150 is not stored for these lanes; stored are 0, 100, 200"),
    "too few steps": (["--workdir=RUN", "--k=9", "--max_steps=3"], "spectra.max_steps=3 is fewer than the spectra.k=9"),
    "word for a number": (["--workdir=RUN", "--k=many"], "spectra.k must be of type int, not 'many'"),
    "Adam's matrix of SGD": (["--workdir=RUN", "--matrices=preconditioned_hessian"], "preconditioned_hessian needs one of"),
    "spread of everything": (["--workdir=RUN", "--spread=3"], "a spread needs a subset, and it is all 64 examples"),
    "a file for a folder": (["--workdir=RUN", "--out=RUN/config.json"], "cannot write to RUN/config.json; give another --out"),
    "more pairs than parameters": (["--workdir=RUN", "--k=900", "--max_steps=900"], "k=900 must lie in 1..640, the number"),
    "spread of one": (["--workdir=RUN", "--spread=1"], "a spread needs two subsets"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "sentence"), BAD.values(), ids=BAD)
def test_bad_flags_end_in_one_sentence_and_leave_nothing(arguments, sentence, copied, capsys):
    before = contents(copied)
    assert main([argument.replace("RUN", str(copied)) for argument in arguments]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert sentence.replace("RUN", str(copied)) in err
    assert err.count("\n") == 1
    assert contents(copied) == before
    assert not (copied / "spectra").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main([f"--workdir={tmp_path}"]) == 1
    assert "holds no run of lrjax" in capsys.readouterr().err


def test_without_checkpoints_it_says_how_to_keep_them_and_step_0_is_measured_still(copied, capsys):
    shutil.rmtree(copied / "ckpt")
    assert main([f"--workdir={copied}"]) == 1
    assert (
        "holds no checkpoints; measure --steps=0, or train with --config.keep_checkpoints=all"
        in capsys.readouterr().err
    )
    assert main([f"--workdir={copied}", "--steps=0", "--lanes=0", "--matrices=hessian", "--k=1"]) == 0


def test_a_damaged_checkpoint_is_named_and_stays_as_it_is(copied, capsys):
    data = copied / "ckpt" / "block-000" / "200" / "state" / "_METADATA"
    data.write_bytes(data.read_bytes()[:-7])
    before = contents(copied)
    assert main([f"--workdir={copied}", "--steps=200"]) == 1
    assert "checkpoint block-000/200 is damaged" in capsys.readouterr().err
    assert contents(copied) == before


def fake(measure, monkeypatch):
    monkeypatch.setattr(cli, "measure", lambda point, before, extras: measure(point, before))


def row(point):
    found = {"lane": point.lane.index, "step": point.step, "matrix": "hessian", "edge": 2.0, "edge_of": "heavy_ball"}
    return found | {"values": [1.0], "residuals": [0.1], "converged": [False], "products": 3, "seconds": 0.1}


def test_ctrl_c_leaves_what_was_measured_and_no_trace(copied, capsys, monkeypatch):
    def measure(point, before):
        if point.step == 100:
            raise KeyboardInterrupt
        return [Measured(row(point), None, None)]

    fake(measure, monkeypatch)
    assert main([f"--workdir={copied}", "--lanes=0"]) == 130
    out, err = capsys.readouterr()
    assert err == "interrupted; what was measured until then, if anything, is written\n"
    record = json.loads((copied / "spectra" / "spectra.json").read_text())
    assert (record["complete"], [r["step"] for r in record["rows"]]) == (False, [0])


def test_a_diverged_lane_is_left_out_from_there_on_and_said_to_be(copied, capsys, monkeypatch):
    def diverging(*arguments):
        for point in points(*arguments):
            at = 123 if (point.lane.index, point.step >= 200) == (0, True) else -1
            yield point._replace(state=point.state._replace(diverged_at=np.int32(at)))

    monkeypatch.setattr(cli, "points", diverging)
    fake(lambda point, before: [Measured(row(point), None, None)], monkeypatch)
    assert main([f"--workdir={copied}", "--lanes=0,2"]) == 0
    out, err = capsys.readouterr()
    assert err == "note: lane 0 diverged at step 123 and is not measured from there on\n"
    assert "*: not converged; raise --max_steps or --tol" in out
    steps = [(r["lane"], r["step"]) for r in json.loads((copied / "spectra" / "spectra.json").read_text())["rows"]]
    assert [step for lane, step in steps if lane == 0] == [0, 100]
    assert [step for lane, step in steps if lane == 2][-1] > 300


@pytest.mark.slow
def test_an_image_model_is_measured_at_step_0_before_any_training(tfds_dir, tmp_path, capsys):
    overrides = {
        "data_dir": str(tfds_dir),
        "data.num_train": 40,
        "data.num_test": 10,
        "arms.simple_cnn_small.model.width": 2,
    }
    overrides |= {"arms.resnet18_large": None, "arms.resnet18_small": None, "arms.simple_cnn_large": None}
    overrides |= {"arms.resnet18_decayed": None, "arms.simple_cnn_decayed": None}
    config = lrjax.load_config("configs/benign_osc.py:E0,scale=smoke", overrides)
    (tmp_path / "config.json").write_text(json.dumps(json.loads(config.to_json_best_effort())))
    (tmp_path / "status.json").write_text(json.dumps({"blocks": [[0]]}))
    flags = ["--steps=0", "--matrices=hessian", "--k=1", "--examples=8", "--batch_size=8", "--tol=0.1"]
    assert main([f"--workdir={tmp_path}", *flags, "--debug"]) == 0
    (found,) = json.loads((tmp_path / "spectra" / "spectra.json").read_text())["rows"]
    assert found["converged"] == [True]
    assert (found["examples"], found["values"][0] > 0) == (8, True)
