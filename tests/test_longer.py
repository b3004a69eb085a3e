"""A run that is made longer has the bits of one that had all its steps from the start, or is refused with the reason."""

import pytest

import lrjax
from lrjax import commands
from tests.runs import assert_same_run, tiny

ONE_LENGTH = {"arms.small_rate": None, "arms.time_matched": None}
FEATURES = {"probes.features": 100}


def run(folder, steps=400, **overrides):
    lrjax.run(tiny(ONE_LENGTH | {"steps": steps} | {k.replace("__", "."): v for k, v in overrides.items()}), folder)
    return folder


def went_on(source, capsys, *words):
    status = commands.main(["run", "--plain_process", f"--from={source}", *words])
    return status, capsys.readouterr().err


def test_more_steps_give_the_bits_of_a_run_that_had_them_from_the_start(tmp_path, capsys):
    source, whole = run(tmp_path / "short"), run(tmp_path / "whole", steps=700)
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    status, err = went_on(source, capsys, "--steps=700", f"--workdir={tmp_path / 'long'}")
    assert status == 0
    assert "goes on from step 400" in err
    assert_same_run(tmp_path / "long", whole)
    after = {path: path.read_bytes() for path in source.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == {path: content for path, content in before.items() if path.name != ".lock"}


@pytest.mark.slow
def test_several_blocks_and_so_many_more_give_the_same_bits_in_a_folder_beside(tmp_path, capsys):
    source = run(tmp_path / "name", sweep__e=(0.5, 0.9, 1.25))
    whole = run(tmp_path / "whole", steps=500, sweep__e=(0.5, 0.9, 1.25))
    status, err = went_on(source, capsys, "--steps=+100")
    assert status == 0
    assert "its other 1 block of lanes run from their start" in err
    (made,) = set(tmp_path.glob("name-*")) - {source}
    assert_same_run(made, whole)
    assert went_on(source, capsys, "--steps=500")[0] == 0  # the same again: it is there


@pytest.mark.slow
def test_a_probe_that_measured_at_the_end_is_gone_back_before(tmp_path, capsys):
    source, whole = run(tmp_path / "short", probes__features=150), run(tmp_path / "whole", 600, probes__features=150)
    status, err = went_on(source, capsys, "--steps=600", f"--workdir={tmp_path / 'long'}")
    assert status == 0
    assert "goes on from step 300" in err
    assert_same_run(tmp_path / "long", whole)


COSINE = {"schedule__name": "cosine"}
REFUSED = {
    "a schedule of the length": (COSINE, ["--steps=700"], "its schedule 'cosine' depends on the length of the run"),
    "no more": ({}, ["--steps=400"], "--steps=400 must be more than the 400 of the run"),
    "no number": ({}, ["--steps=+x"], "--steps=+x must be + and a number"),
    "a ragged end": ({"steps": 420, "keep_checkpoints": 1}, ["--steps=700"], "log_every=50 does not divide steps=420"),
    "another key": ({}, ["--steps=700", "--config.seed=3"], "so seed cannot change"),
    "a config too": ({}, ["--steps=700", "--config=configs/exp_lr.py"], "leave --config out"),
    "start over": ({}, ["--fresh"], "give one of them"),
    "an end kept alone": (
        {"probes__features": 150, "keep_checkpoints": 1},
        ["--steps=700"],
        "the probe features measured at its end, where a longer run does not",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_be_exact_is_refused_with_the_reason(name, tmp_path, capsys):
    overrides, words, reason = REFUSED[name]
    status, err = went_on(run(tmp_path / "short", **overrides), capsys, *words)
    assert status == 1
    assert reason in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["short"]


def test_lanes_of_several_lengths_are_refused_by_the_name_of_their_arms(tmp_path, capsys):
    lrjax.run(tiny(), tmp_path / "arms")
    assert "arms.small_rate, arms.time_matched set steps" in went_on(tmp_path / "arms", capsys, "--steps=900")[1]


def test_a_folder_without_a_run_and_steps_without_from_are_refused(tmp_path, capsys):
    assert "holds" in went_on(tmp_path, capsys)[1] or "missing" in went_on(tmp_path, capsys)[1]
    assert commands.main(["run", "configs/exp_lr.py", "--steps=3"]) == 1
    assert "--steps is for --from=RUN" in capsys.readouterr().err


@pytest.mark.slow
def test_from_alone_goes_on_with_a_run_that_was_stopped(tmp_path, capsys):
    with pytest.raises(lrjax.experiment.loop.stopping.Preempted):
        lrjax.run(tiny(ONE_LENGTH), tmp_path / "run", time_limit=0)
    assert went_on(tmp_path / "run", capsys)[0] == 0
    assert_same_run(tmp_path / "run", run(tmp_path / "whole"))


def test_a_run_of_a_paper_in_a_file_of_one_s_own_is_sent_to_its_own_command(tmp_path, capsys):
    source = run(tmp_path / "own", steps=50, log_every=50)
    config = (source / "config.json").read_text()
    (source / "config.json").write_text(config.replace('"benign_osc"', '"mine"'))
    status, err = went_on(source, capsys)
    assert status == 1
    assert "is a run of 'mine'" in err
    assert "give that again, with --config" in err
