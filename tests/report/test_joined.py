"""Runs of one seed each, joined: the run that had all seeds at once, claim by claim, and what is refused."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

import lrjax
from lrjax import commands
from lrjax.commands import importing
from lrjax.errors import LrjaxError
from lrjax.experiment.loop.join import join_seeds, joinable
from lrjax.experiment.rundir.metrics import write_status
from lrjax.experiment.rundir.record import load_record
from lrjax.papers import PAPERS
from lrjax.papers.benign_osc.dynamics_figures import weak_feature
from lrjax.papers.benign_osc.report_figures import FIGURES
from lrjax.papers.claim import judge
from lrjax.report import __main__ as reports
from lrjax.report import record
from lrjax.report.joined import write_joined
from tests.runs import REPOSITORY, equal_trees, tiny

SEEDS = (0, 1, 2)
RECORD = REPOSITORY / "docs/results/benign_osc-CLEAR"
ABOUT_THE_RUN = ("command", "wall_time_s")


def of_seeds(seeds):
    """CLEAR with an arm that begins from lanes of another; not of scale smoke, at which nothing is judged."""
    short = {"steps": 200, "arms.small_rate.steps": 200, "arms.time_matched": None, "lanes_per_device": 16}
    config = tiny(short | {"sweep.seed": seeds}, probes=("features", "test_accuracy", "curvature"))
    with config.unlocked():
        config.scale = "small"
        config.arms.later = ConfigDict({"start": {"arm": "main", "at": 100}})
    return config


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Directories: one run of all seeds, and one of each."""
    root = tmp_path_factory.mktemp("joined")
    for name, seeds in {"all": SEEDS, **{f"seed-{seed}": (seed,) for seed in SEEDS}}.items():
        lrjax.run(of_seeds(seeds), root / name, command=f"python -m lrjax.main {name}")
    with pytest.MonkeyPatch.context() as patch:  # one figure is enough, and all of them take most of the time
        patch.setitem(FIGURES, "CLEAR", (weak_feature,))
        yield root


def parts(root, order=SEEDS):
    return [lrjax.load_run(root / f"seed-{seed}") for seed in order]


@pytest.fixture(scope="module")
def both(runs):
    return join_seeds(parts(runs)), lrjax.load_run(runs / "all")


@pytest.fixture(scope="module")
def told(both):
    """The claims and figures of both."""
    return tuple(map(record.shown, both))


@pytest.fixture
def copied(runs, tmp_path):
    return shutil.copytree(runs, tmp_path / "runs", ignore=shutil.ignore_patterns("all"))


def changed_status(folder, **changes):
    status = json.loads((folder / "status.json").read_text()) | changes
    write_status(folder, {key: value for key, value in status.items() if value is not None})


def judged(entries):
    return [{key: value for key, value in entry.items() if key not in ABOUT_THE_RUN} for entry in entries]


def test_joined_runs_have_the_lanes_config_and_bits_of_the_run_of_all_seeds(both):
    joined, whole = both
    assert joined.config == whole.config
    assert joined.lanes == whole.lanes == joined.status["lanes"]
    starts = [(lane["lane"], lane["start"]["lane"]) for lane in joined.lanes if "start" in lane]
    assert starts == [(index, index + 6) for index in range(6)]  # two values of e, three seeds; the arm comes first
    assert all(equal_trees(mine, theirs) for mine, theirs in zip(joined.arrays, whole.arrays, strict=True))
    rows = [sorted(run.metrics, key=lambda row: (row["lane"], row["step"])) for run in both]
    assert rows[0] == rows[1]


def test_joined_runs_are_judged_and_drawn_as_the_run_of_all_seeds(told):
    mine, theirs = told
    assert judged(mine.entries) == judged(theirs.entries)
    assert mine.figures == theirs.figures != {}


def test_a_claim_that_one_seed_cannot_decide_is_decided_by_three_joined(both, runs):
    claims = PAPERS["benign_osc"].CLAIMS
    alone, joined = (
        {entry["id"]: entry for entry in judge(claims, run)} for run in (lrjax.load_run(runs / "seed-0"), both[0])
    )
    decided = [name for name, entry in joined.items() if entry["verdict"] in ("supported", "contradicted")]
    assert decided
    for name in decided:
        assert alone[name]["measured"].startswith("not judged: seeds(3) does not hold: 1 seed in ")


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2)])
def test_the_order_of_the_directories_does_not_matter(both, runs, order):
    again = join_seeds(parts(runs, order))
    assert again.lanes == both[0].lanes
    assert again.status == both[0].status
    assert all(equal_trees(mine, theirs) for mine, theirs in zip(again.arrays, both[0].arrays, strict=True))


def test_two_joined_runs_and_a_third_are_the_three_joined(both, runs):
    first, *others = parts(runs)
    again = join_seeds([first, join_seeds(others)])
    assert again.lanes == both[0].lanes
    assert again.status == both[0].status


def test_a_joined_run_keeps_what_each_run_was(both, runs):
    status, each = both[0].status, parts(runs)
    assert status["state"] == "done"
    assert status["wall_time_s"] == round(sum(run.status["wall_time_s"] for run in each), 2)
    assert status["command"] == " && ".join(f"python -m lrjax.main seed-{seed}" for seed in SEEDS)
    assert [one["workdir"] for one in status["joined"]] == [str(run.workdir) for run in each]
    assert [one["seeds"] for one in status["joined"]] == [[0], [1], [2]]
    assert {one["device"] for one in status["joined"]} == {status["device"]}
    assert not {"arrays", "bytes", "rows", "seal", "sum"} & set(status)


def test_a_report_of_joined_runs_has_a_folder_of_its_own_and_names_each_run(told, runs, tmp_path, capsys):
    target = tmp_path / "new" / "joined"
    folders = [str(runs / f"seed-{seed}") for seed in (1, 2, 0)]
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    assert commands.main(["report", *folders, f"--joined={target}"]) == 0
    said = capsys.readouterr()
    assert said.err == "note: Joined from 3 runs that differ in their seeds alone\n"
    assert f"report: {target}/report.html" in said.out
    assert {"claims.json", "figures", "report.html"} <= {path.name for path in target.iterdir()}
    page = (target / "report.html").read_text()
    assert all(page.count(folder) == 1 for folder in folders)
    assert "Joined from 3 runs" in page
    assert "--joined=FOLDER joins" in page
    assert judged(json.loads((target / "claims.json").read_text())) == judged(told[1].entries)
    assert before == {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}


def test_a_record_of_joined_runs_is_one_and_reads_back_equal(both, told, runs, tmp_path):
    folders = [str(runs / f"seed-{seed}") for seed in SEEDS]
    assert record.main([*folders, "--joined", f"--into={tmp_path}", "--device=h100"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["benign_osc-CLEAR@h100"]
    again = load_record(tmp_path / "benign_osc-CLEAR@h100")
    assert again.lanes == both[0].lanes
    assert again.status["joined"] == both[0].status["joined"]
    assert record.shown(again) == told[0]
    assert reports.main([str(tmp_path / "benign_osc-CLEAR@h100")]) == 0
    assert folders[2] in (tmp_path / "benign_osc-CLEAR@h100" / "report.html").read_text()


def refused(capsys, *arguments):
    """The one sentence of a report that is refused."""
    assert reports.main([str(argument) for argument in arguments]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_fewer_than_two_runs_and_a_seed_that_comes_twice_are_refused(runs, tmp_path, capsys):
    new = f"--joined={tmp_path / 'new'}"
    assert "to join runs takes two or more, not 1" in refused(capsys, runs / "seed-0", new)
    twice = f"{runs / 'seed-0'} and {runs / 'seed-0'} both have seed 0"
    assert twice in refused(capsys, runs / "seed-0", runs / "seed-0", runs / "seed-1", new)
    assert "both have seed 2" in refused(capsys, runs / "all", runs / "seed-2", new)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("paper", "exp_lr", "differ in paper (benign_osc and exp_lr)"),
        ("experiment", "E1", "differ in experiment (CLEAR and E1)"),
        ("scale", "medium", "differ in scale (small and medium)"),
        ("steps", 99, "differ in steps (200 and 99)"),
        ("matmul_precision", "tensorfloat32", "differ in matmul_precision (float32 and tensorfloat32)"),
        ("model", {"name": "mlp"}, "differ in model."),
        ("sweep", {"seed": [1], "e": [0.5]}, "differ in sweep.e ([0.5, 1.25] and [0.5])"),
        ("sweep", {}, "has no axis seed in its sweep"),
        ("sweep", {"seed,e": [[1, 0.5]]}, "has no axis seed in its sweep"),
    ],
)
def test_configs_that_differ_in_anything_but_the_seeds_are_refused_with_the_key(runs, key, value, said):
    one, other = parts(runs)[:2]
    with pytest.raises(LrjaxError, match=re.escape(said)):
        join_seeds([one, other._replace(config=other.config | {key: value})])


def test_where_the_data_lie_may_differ(both, runs):
    one, *others = parts(runs)
    assert join_seeds([one, *(run._replace(config=run.config | {"data_dir": "elsewhere"}) for run in others)]).lanes


@pytest.mark.parametrize(
    ("device", "alike"),
    [("CPU: 64 cores", True), ("1 x NVIDIA H200", False), ("CPU: 2 cores, then 1 x NVIDIA H100", False), (None, False)],
)
def test_devices_may_differ_in_number_and_not_in_kind(copied, tmp_path, capsys, device, alike):
    changed_status(copied / "seed-1", device=device)
    if alike:
        joined = join_seeds(parts(copied))
        assert joined.status["device"].endswith(", then CPU: 64 cores")
    else:
        err = refused(capsys, *copied.iterdir(), f"--joined={tmp_path / 'new'}")
        assert "ran on different devices (CPU and " in err or "ran on different devices (unknown and CPU)" in err


def test_a_precision_that_differs_is_refused(runs):
    one, other = parts(runs)[:2]
    wide = [arrays | {"step/loss": arrays["step/loss"].astype(np.float64)} for arrays in other.arrays]
    with pytest.raises(LrjaxError, match=r"differ in precision \(step/loss is float32 and float64\)"):
        join_seeds([one, other._replace(arrays=wide)])


def test_a_run_that_is_not_whole_is_refused_by_its_name(copied, tmp_path, capsys):
    changed_status(copied / "seed-1", state="preempted")
    err = refused(capsys, *copied.iterdir(), f"--joined={tmp_path / 'new'}")
    assert f"{copied / 'seed-1'} is not whole (" in err
    changed_status(copied / "seed-1", state="done")
    next((copied / "seed-2" / "arrays").iterdir()).unlink()
    err = refused(capsys, *copied.iterdir(), f"--joined={tmp_path / 'new'}")
    assert f"{copied / 'seed-2'} is not whole (" in err


def test_an_arm_that_sets_its_seed_is_refused(runs):
    fixed = [
        run._replace(
            config=run.config | {"arms": run.config["arms"] | {"small_rate": {"e": 0.2, "seed": 7}}},
            lanes=[lane | ({"values": {}} if lane["arm"] == "small_rate" else {}) for lane in run.lanes],
        )
        for run in parts(runs)
    ]
    with pytest.raises(LrjaxError, match="arm 'small_rate' sets its seed itself"):
        join_seeds(fixed)


def test_lanes_that_are_not_those_of_the_config_are_refused(runs):
    one, other = parts(runs)[:2]
    with pytest.raises(LrjaxError, match="do not have the lanes of their configs"):
        join_seeds([one, other._replace(lanes=[lane | {"arm": "other"} for lane in other.lanes])])


def test_a_record_is_no_run_to_join(runs, tmp_path, capsys):
    err = refused(capsys, RECORD, runs / "seed-1", f"--joined={tmp_path / 'new'}")
    assert f"{RECORD} is a record, which keeps what its own claims read" in err


def test_the_report_goes_into_no_folder_that_holds_something_else(copied, tmp_path, capsys):
    before = sorted(copied.rglob("*"))
    for target in (copied / "seed-0", copied, tmp_path / "file"):
        (tmp_path / "file").touch()
        err = refused(capsys, *copied.iterdir(), f"--joined={target}")
        assert str(target) in err
        assert "name a new folder by --joined=FOLDER" in err
    assert sorted(copied.rglob("*")) == before
    assert "--refresh is for a run that goes on" in refused(capsys, copied / "seed-0", "--joined=new", "--refresh=3")


def test_differing_sources_are_said_and_an_earlier_report_is_replaced(copied, tmp_path):
    changed_status(copied / "seed-1", version="0.0.9", code="another", commit=None)
    (tmp_path / "new" / "figures").mkdir(parents=True)
    (tmp_path / "new" / "report.html").write_text("earlier")
    found = write_joined(list(copied.iterdir()), tmp_path / "new")
    assert found.notices[1].startswith("They were made by different sources of lrjax")
    status = join_seeds(parts(copied)).status
    assert not {"code", "commit"} & set(status)
    assert "0.0.9" in status["version"]
    assert "0.0.9" in (tmp_path / "new" / "report.html").read_text()


def test_directories_that_could_be_joined_are_found_with_the_command(copied):
    longer = shutil.copytree(copied / "seed-2", copied / "longer") / "config.json"
    longer.write_text(json.dumps(json.loads(longer.read_text()) | {"steps": 99}))
    (copied / "empty").mkdir()
    each = [copied / f"seed-{seed}" for seed in SEEDS]
    (command,) = importing.joining(sorted(copied.iterdir()))
    words = shlex.split(command)
    assert words[3:] == list(map(str, each))
    assert commands.main(words[1:]) == 0
    assert (Path(words[2].removeprefix("--joined=")) / "report.html").is_file()
    changed_status(each[0], state="preempted")
    assert joinable(copied.iterdir()) == [each[1:]]
    changed_status(each[1], state="preempted")
    assert joinable(copied.iterdir()) == []
