"""Queues: files of jobs, and the one that comes with lrjax, line by line."""

import json
import re

import pytest

import lrjax
from launch import jobs, queues
from lrjax.experiment.config.canonical import fingerprint, to_json
from lrjax.experiment.loop.dry_run import describe
from lrjax.experiment.loop.join import seeds_of
from lrjax.experiment.loop.sweep import expand

GPU = queues.read(queues.find("gpu"))
CLEAR = "configs/benign_osc.py:CLEAR,scale=smoke"
ORDER = ["break_even:E3", "exp_lr:E1", "lr_decay:L3", "lr_decay:L4", "exp_lr:E2", "lr_decay:L2", "benign_osc:E0"]
ORDER += ["break_even:E6", "break_even:E10", "lr_decay:L5", "lr_decay:L1", "break_even:E4", "lr_decay:L8"]


def config_of(line):
    return lrjax.load_config(line.spec, line.overrides)


def lanes_of(line):
    return [lane for group in expand(config_of(line)) for lane in group.lanes]


def test_the_queue_of_a_gpu_is_in_the_order_of_what_it_decides_with_three_seeds_of_each():
    names = [re.sub(r"configs/(\w+)\.py:(\w+),scale=medium", r"\1:\2", line.spec) for line in GPU]
    assert list(dict.fromkeys(names)) == ORDER
    for name in ORDER:
        lines = [line for line, own in zip(GPU, names, strict=True) if own == name]
        assert {lane.config.seed for line in lines for lane in lanes_of(line)} == {0, 1, 2}


def test_a_network_whose_checkpoint_is_too_large_to_travel_has_one_seed_a_job():
    large = [line for line in GPU if config_of(line).model.get("depth") == 28 or "E0" in line.spec]
    assert len(large) == 3 * len({line.spec for line in large}) == 12
    assert all(len({lane.config.seed for lane in lanes_of(line)}) == 1 for line in large)


def test_jobs_of_one_seed_differ_in_their_seeds_alone_so_that_they_can_be_joined():
    for spec in {line.spec for line in GPU}:
        seeds, rest = [], set()
        for config in [json.loads(to_json(config_of(line))) for line in GPU if line.spec == spec]:
            seeds += seeds_of(config)
            rest.add(fingerprint(config | {"sweep": config["sweep"] | {"seed": []}}))
        assert len(rest) == 1
        assert len(seeds) == len(set(seeds)) >= 3


def test_every_line_of_it_says_that_its_time_is_estimated():
    lines = [line for line in queues.find("gpu").read_text().splitlines() if line.startswith("configs/")]
    assert len(lines) == len(GPU)
    assert all(re.search(r"  # estimated: \d+( to \d+)? min$", line) for line in lines)


def test_images_decay_after_a_fifth_and_two_fifths_of_sixty_epochs():
    for line in (line for line in GPU if ":L2" in line.spec):
        lanes = {lane.arm: lane for lane in lanes_of(line)}
        assert {lane.config.steps for lane in lanes.values()} == {60 * 390}
        for arm, epoch in (("decay_1", 12), ("decay_2", 24)):
            assert lanes[arm].begin == epoch * 390
            assert lanes[arm].config.schedule.milestones == (epoch * 390,)


@pytest.mark.slow
@pytest.mark.parametrize("line", {line.spec: line for line in GPU}.values(), ids=lambda line: line.spec[8:])
def test_every_line_of_it_passes_a_dry_run_whatever_its_seed(line):
    assert "estimated FLOPs" in describe(config_of(line), compiled=False)


def test_a_queue_gives_its_jobs_in_order_once_with_the_keys_of_each_line_and_of_the_command(tmp_path, capsys):
    path = tmp_path / "mine.txt"
    path.write_text(
        f"# mine\n\n{CLEAR} --config.steps=400  # short\n{CLEAR}\n{CLEAR} --config.sweep.e='(1.1, 1.2)'\n{CLEAR}\n"
    )
    assert jobs.main([f"--queue={path}", "--target=print", "--config.seed=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["steps=400" in line for line in lines] == [True, False, False]
    assert ["'--config.sweep.e=(1.1, 1.2)'" in line for line in lines] == [False, False, True]
    assert all("--config.seed=3" in line and "--workdir=runs/mine-queue/benign_osc" in line for line in lines)
    assert jobs.main([f"--queue={path}", "--target=print", "--config.steps=300"]) == 0
    assert "steps=400" not in capsys.readouterr().out


def test_the_queue_that_comes_with_lrjax_is_found_by_its_name_and_its_path_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert queues.find("gpu") == queues.find("launch/queues/gpu.txt")
    (tmp_path / "gpu").write_text(CLEAR)
    assert queues.read(queues.find("gpu")) == [(CLEAR, {})]


BAD = {
    "no such queue": (None, "there is no such file; with lrjax come: gpu"),
    "nothing in it": (b"# all done\n", "has no job"),
    "no text": (b"\xff\xfe", "cannot read the queue"),
    "an open quote": (b"x.py --config.a='(1\n", ":1 cannot be read"),
    "a flag first": (b"\n--config=x.py\n", ":2 begins with '--config=x.py'"),
    "a flag of the program": (f"{CLEAR} --workdir=x".encode(), "cannot read '--workdir=x'"),
    "an unknown key": (f"{CLEAR} --config.sed=3".encode(), "did you mean 'seed'?"),
}


@pytest.mark.parametrize(("content", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_queue_ends_in_one_sentence(content, sentence, tmp_path, capsys):
    if content is not None:
        (tmp_path / "mine").write_bytes(content)
    assert jobs.main([f"--queue={tmp_path / 'mine'}", "--target=print"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1


def test_axes_of_a_queue_are_those_of_its_lines(capsys):
    assert jobs.main(["--queue=gpu", "--sweep.seed=(0, 1)", "--target=print"]) == 1
    assert "--queue takes no --sweep" in capsys.readouterr().err
