"""A run as tables, as ten lines, and its lanes by names that say what differs."""

import csv
import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import lrjax
from lrjax import commands
from lrjax.errors import LrjaxError
from lrjax.experiment.rundir.frames import columns, frame, left_out, tables
from lrjax.experiment.rundir.names import lane_names
from lrjax.experiment.rundir.sinks import titles
from tests.runs import REPOSITORY, environment, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return lrjax.run(tiny(), tmp_path_factory.mktemp("frames") / "run")


def lane(arm, **values):
    return {"arm": arm, "values": {key.replace("__", "."): value for key, value in values.items()}}


@pytest.mark.parametrize(
    ("lanes", "names"),
    [
        ([lane("main", e=1.1, seed=0), lane("main", e=1.1, seed=1)], ["seed=0", "seed=1"]),
        ([lane("a", optimizer__learning_rate=0.1), lane("b")], ["a learning_rate=0.1", "b"]),
        ([lane("main", model__width=8, data__width=2), lane("main", model__width=9, data__width=3)],
         ["model.width=8 data.width=2", "model.width=9 data.width=3"]),
        ([lane("main", seed=0), lane("main", seed=0)], ["main", "main #2"]),
        ([lane("main", e=0.1), lane("main", e=0.1000001)], ["e=0.1", "e=0.1000001"]),
        ([lane("main", order="shuffled", p=True)], ["main"]),
        ([], []),
    ],
)  # fmt: skip
def test_a_lane_is_called_by_what_differs_and_no_two_alike(lanes, names):
    assert lane_names(lanes) == names


def test_every_number_of_metrics_and_arrays_is_in_a_table(run):
    assert tables(run) == ["metrics", "lanes", "step", "features"]
    metrics = columns(run)
    assert [len(column) for column in metrics.values()] == [len(run.metrics)] * len(metrics)
    assert metrics["loss"].tolist() == [row["loss"] for row in run.metrics]
    steps = columns(run, "step")
    assert len(steps["loss"]) == sum(len(arrays["step/loss"]) for arrays in run.arrays)
    for number, arrays in enumerate(run.arrays):
        own = steps["lane"] == number
        np.testing.assert_array_equal(steps["loss"][own], arrays["step/loss"])
        np.testing.assert_array_equal(steps["step"][own], np.arange(len(arrays["step/loss"])))
    assert left_out(run, "features") == {"features/inner_xi": 1024}
    measured = columns(run, "features", widest=1024)
    for name, array in run.arrays[0].items():
        stream, _, key = name.partition("/")
        if stream == "features":
            flat = array.reshape(len(array), -1)
            found = [measured[c][measured["lane"] == 0] for c in measured if c == key or c.startswith(f"{key}.")]
            np.testing.assert_array_equal(np.stack(found, axis=1), flat)


def test_the_table_of_lanes_has_settings_and_ends(run):
    lanes = columns(run, "lanes")
    assert list(lanes)[:3] == ["lane", "name", "arm"]
    assert lanes["learning_rate"].tolist() == [lane["learning_rate"] for lane in run.lanes]
    assert len(set(lanes["name"].tolist())) == len(run.lanes)


def test_a_table_that_is_not_there_is_named(run):
    with pytest.raises(LrjaxError, match="no table 'featurs'; did you mean 'features'"):
        run.to_frame("featurs")


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_frame_is_of_the_package_that_is_there(run, package, monkeypatch):
    for name in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(DataFrame=dict) if name == package else None)
    assert run.to_frame().keys() == columns(run).keys()


def test_without_either_package_a_sentence_says_what_to_do(monkeypatch):
    for name in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(LrjaxError, match="pip install pandas.*lrjax export"):
        frame({"a": np.arange(2)})


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_a_real_frame_has_the_columns_and_numbers(run, name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    made = importlib.import_module(name).DataFrame(columns(run))
    assert list(made.columns) == list(columns(run))
    assert made["loss"].to_numpy().tolist() == columns(run)["loss"].tolist()


def test_the_repr_of_a_run_is_ten_lines_and_that_of_many_lanes_too(run):
    lines = repr(run).splitlines()
    assert 6 <= len(lines) <= 10
    many = run._replace(lanes=run.lanes * 100, arrays=run.arrays * 100)
    assert len(repr(many).splitlines()) <= 10
    assert max(map(len, [*lines, *repr(many).splitlines()])) <= 110
    assert "benign_osc:CLEAR" in lines[0]
    assert "done" in lines[0]
    assert "diverged at step 7" in repr(run._replace(lanes=[run.lanes[0] | {"diverged_at": 7}, *run.lanes[1:]]))
    assert repr(run._replace(metrics=[], arrays=[], lanes=[], status={}))


@pytest.mark.parametrize("form", ["csv", "npz", "parquet"])
def test_export_writes_the_tables_beside_the_run_and_leaves_it_as_it_was(run, form, tmp_path, capsys):
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    before = sorted(path.name for path in run.workdir.iterdir())
    assert commands.main(["export", str(run.workdir), f"--format={form}", f"--out={tmp_path}"]) == 0
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(tables(run))
    assert sorted(path.name for path in run.workdir.iterdir()) == before
    wanted = columns(run)
    path = tmp_path / f"metrics.{form}"
    if form == "csv":
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert [float(row["loss"]) for row in rows] == wanted["loss"].tolist()
        assert [row["name"] for row in rows] == wanted["name"].tolist()
    elif form == "npz":
        with np.load(path, allow_pickle=False) as content:
            for key in wanted:
                np.testing.assert_array_equal(content[key], wanted[key])
    else:
        import pyarrow.parquet

        assert pyarrow.parquet.read_table(path)["loss"].to_pylist() == wanted["loss"].tolist()
    assert f"{len(run.metrics)} rows" in capsys.readouterr().out


def test_export_follows_no_link(run, tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.csv").symlink_to(kept)
    assert commands.main(["export", str(run.workdir), "--table=metrics", f"--out={tmp_path / 'out'}"]) == 0
    assert kept.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["no/such"], "there is no directory no/such"),
        (["{run}", "--format=xlsx"], "--format=xlsx must be one of csv, npz, parquet"),
        (["{run}", "--table=spectrm"], "this run has no table 'spectrm'"),
        (["{run}", "--out=/dev/null/x"], "cannot write to /dev/null/x"),
    ],
)
def test_export_says_what_is_wrong(run, words, sentence, capsys):
    assert commands.main(["export", *(word.format(run=run.workdir) for word in words)]) == 1
    assert sentence in capsys.readouterr().err


def test_what_a_sink_calls_a_lane_is_a_name_of_a_folder(tmp_path):
    (tmp_path / "status.json").write_text(
        '{"lanes": [{"lane": 0, "arm": "a/../b", "values": {}}, {"lane": 1, "arm": "c", "values": {}}]}'
    )
    assert all(Path(name).name == name for name in titles(tmp_path).values())
    assert titles(tmp_path / "none") == {}


def test_importing_lrjax_loads_nothing_else():
    code = "import sys; before = set(sys.modules); import lrjax; print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=True
    )
    assert not {"numpy", "jax", "ml_collections", "flax"} & set(done.stdout.split())
