"""Records and figures of learning-rate decay: what they keep, and what a reader sees."""

import numpy as np
import pytest

import lrjax
from lrjax.experiment.rundir.reading import PREFIX, Notes, Watched
from lrjax.experiment.rundir.record import load_record
from lrjax.papers.claim import judge
from lrjax.papers.lr_decay import CLAIMS
from lrjax.papers.lr_decay.curvature_figures import curvature
from lrjax.papers.lr_decay.pattern_figures import accuracy_by_subset
from lrjax.papers.lr_decay.synthetic import SYNTHETIC
from lrjax.report.record import make, shown

SPEC = "configs/lr_decay.py"


@pytest.fixture(scope="module", params=["L3", pytest.param("L5", marks=pytest.mark.slow)])
def smoke(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return folder, lrjax.run(lrjax.load_config(f"{SPEC}:{request.param},scale=smoke"), folder / "run")


def test_a_run_and_its_record_have_equal_claims_and_figures_and_no_number_a_step_is_kept(smoke):
    folder, run = smoke
    entries = make(folder / "run", folder / "record")
    again, record = shown(load_record(folder / "record")), np.load(folder / "record" / "record.npz")
    assert entries == again.entries
    assert again.figures == shown(run).figures
    assert not [name for name in record.files if name.startswith("step__")]
    assert [name for name in record.files if name.startswith(PREFIX.replace("/", "__"))]


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.id for claim in CLAIMS])
def test_no_check_reads_a_number_a_step_as_it_is(claim):
    run, notes = SYNTHETIC[claim.id].draw(1.0, np.random.default_rng(0)), Notes()
    lanes = [Watched(arrays, notes) for arrays in run.arrays]
    judge([claim], run._replace(arrays=lanes))
    assert not {name for lane in lanes for name in lane.read if name.startswith("step/")}


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_curves_have_seeds_a_mean_a_band_and_what_is_judged():
    run = SYNTHETIC["decay_is_best"].draw(1.0, np.random.default_rng(0))
    axis = next(axis for axis in accuracy_by_subset(run).fig.axes if axis.get_ylabel() == "complex patterns")
    thick = [line for line in axis.lines if not line.get_label().startswith("_")]
    thin = [line for line in axis.lines if line.get_linewidth() == pytest.approx(0.6) and len(line.get_xdata()) > 2]
    assert len(thin) == 3 * len(thick) == 12
    assert len(axis.collections) == len(thick)
    assert texts(accuracy_by_subset(run).fig.axes[0]) == ["stage 1, judged", "end, judged"]
    assert len({line.get_linestyle() + str(line.get_linewidth()) for line in thick}) == len(thick)


def test_both_instruments_are_on_one_axis_with_the_edges():
    run = SYNTHETIC["quadratic_rule_fails"].draw(1.0, np.random.default_rng(0))
    for lane in run.arrays:
        if "spectrum/lambda_h1" in lane:
            lane |= {
                "batch_sharpness/step": lane["spectrum/step"],
                "batch_sharpness/value": lane["spectrum/lambda_h1"] / 2,
            }
    (axis,) = curvature(run).fig.axes
    labels = axis.get_legend_handles_labels()[1]
    assert {"edge of a quadratic", "largest of a seed, judged"} < set(labels)
    lines = [line for line in axis.lines if line.get_linestyle() != "None" and len(line.get_xdata()) > 2]
    means = [line for line in lines if line.get_linewidth() > 1.2]
    assert [line.get_linestyle() for line in means] == ["-", "--"]
    assert means[0].get_ydata() == pytest.approx(2 * means[1].get_ydata())
    dots = next(line for line in axis.lines if line.get_label() == "largest of a seed, judged")
    top = [float(np.max(own["spectrum/lambda_h1"])) * 0.05 for own in run.arrays if "spectrum/lambda_h1" in own]
    assert dots.get_ydata() == pytest.approx(top)
