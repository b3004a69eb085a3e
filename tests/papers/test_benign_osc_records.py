"""Records of benign oscillation: what is judged and drawn of a run is judged and drawn of its record, without its series."""

import numpy as np
import pytest

import lrjax
from lrjax.experiment.rundir.metrics import load_run
from lrjax.experiment.rundir.reading import Notes, Watched
from lrjax.experiment.rundir.record import load_record, write_record
from lrjax.papers.benign_osc import CLAIMS
from lrjax.papers.claim import judge
from lrjax.report.record import MOST_BYTES, make, shown

# The scale is small, for at smoke no check is asked: shorter, and with fewer rates.
SHORT = {
    "E1": {"sweep.e": (0.5, 1.1, 1.2, 1.25), "steps": 6000, "checkpoint_every": 6000},
    "map": {"sweep.e": tuple(np.linspace(0.05, 1.65, 65).round(4).tolist()), "sweep.seed": (0, 1)},
}
DECIDED = {"E1": {"theorem_2", "capacity_law"}, "map": {"map_onset", "map_two_cycle"}}
MOST_ENTRIES = 500  # of what is kept of a lane under one name


@pytest.fixture(scope="module", params=["E1", pytest.param("map", marks=pytest.mark.slow)])
def recorded(request, tmp_path_factory):
    """Experiment, run directory, and folder of its record."""
    workdir = tmp_path_factory.mktemp(request.param)
    lrjax.run(lrjax.load_config(f"configs/benign_osc.py:{request.param}", SHORT[request.param]), workdir)
    folder = tmp_path_factory.mktemp("records") / request.param
    make(workdir, folder)
    return request.param, workdir, folder


def test_a_run_is_recorded_and_its_record_is_judged_and_drawn_equal(recorded):
    experiment, workdir, folder = recorded
    of_run, of_record = shown(load_run(workdir)), shown(load_record(folder))
    assert of_record.entries == of_run.entries
    assert of_record.figures == of_run.figures
    assert of_run.figures
    decided = {entry["id"] for entry in of_run.entries if entry["verdict"] in ("supported", "contradicted")}
    assert decided >= DECIDED[experiment]


def test_a_record_keeps_no_series_of_one_number_a_step(recorded):
    _, workdir, folder = recorded
    steps = len(load_run(workdir).arrays[0]["step/margin"])
    assert steps > MOST_ENTRIES
    lanes = len(load_record(folder).arrays)
    with np.load(folder / "record.npz") as stored:
        sizes = {name: stored[name].size for name in stored.files if name != "run"}
    assert not [name for name in sizes if name.startswith("step__")]
    assert max(sizes.values()) <= MOST_ENTRIES * lanes
    assert sum(path.stat().st_size for path in folder.iterdir()) < MOST_BYTES


def test_a_check_whose_record_lacks_a_series_is_not_judged_and_names_it(recorded, tmp_path):
    experiment, workdir, _ = recorded
    read, asked = {"E1": ("capacity_law", "theorem_2"), "map": (None, "map_onset")}[experiment]
    lack = {"E1": "features/step", "map": "step/margin"}[experiment]
    run, notes = load_run(workdir), Notes()
    lanes = [Watched(arrays, notes) for arrays in run.arrays]
    judge([claim for claim in CLAIMS if claim.id == read], run._replace(arrays=lanes))
    write_record(tmp_path / "record", run, lanes)
    (entry,) = judge([claim for claim in CLAIMS if claim.id == asked], load_record(tmp_path / "record"))
    assert entry["verdict"] == "not judged"
    assert f"the record keeps no {lack}" in entry["measured"]
