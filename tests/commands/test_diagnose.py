"""`lrjax diagnose MODULE:NAME --checkpoint=DIR`: what it hands to `lrjax.diagnose`, and what a wrong word gets."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import save_file

import lrjax
from lrjax import commands

MINE = """
import itertools

import jax
import jax.numpy as jnp
import optax


def loss_fn(params, batch):
    return jnp.mean((batch @ params["w"]) ** 2)


template = {"w": jax.ShapeDtypeStruct((3,), jnp.float32)}
mapping = {"loss_fn": loss_fn, "params": template, "batches": [jnp.ones((2, 3))]}
whole = mapping | {"optimizer": optax.adam(1e-3), "learning_rate": 1e-3, "num_steps": 100}
endless = mapping | {"batches": lambda: (jnp.full((2, 3), n) for n in itertools.count())}
typo = mapping | {"optimiser": None}
lacks = {"params": template}
no_batches = mapping | {"batches": []}
rate = mapping | {"learning_rate": "1e-3"}
steps = mapping | {"num_steps": 0}
kind = mapping | {"optimizer": 0.1}
batch = mapping | {"batches": jnp.ones(3)}
wide = mapping | {"params": {"w": jax.ShapeDtypeStruct((4,), jnp.float32)}}
momentum = mapping | {"optimizer": optax.sgd(0.1, momentum=0.9)}


def made():
    return whole


def broken():
    raise KeyError("gone")


class Thing:
    params, batches, optimizer = template, [1], optax.sgd(0.1)
    name = "other attributes are mine"

    def loss_fn(self, params, batch):
        return 0.0


thing = Thing()
"""
PARAMS = {"w": np.arange(3, dtype=np.float32)}
STATE = optax.adam(1e-3).init(jax.tree.map(jnp.asarray, PARAMS))


class Report:
    def __str__(self):
        return "a table, and advice"

    def to_dict(self):
        return {"gain_ratio": 0.5, "noise": None, "steps": [3]}

    def save(self, path):
        Path(path).write_text("<html>")


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Where the module and its checkpoints are; gathers what `lrjax.diagnose` is called with."""
    calls = []

    def diagnose(loss_fn, params, batches, optimizer=None, opt_state=None, **named):
        calls.append(((loss_fn, params, batches, optimizer, opt_state), named))
        return Report()

    monkeypatch.setattr(lrjax, "diagnose", diagnose, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "breaks.py").write_text("import gone_away\n")
    with ocp.CheckpointManager(tmp_path / "ckpt") as manager:
        for step in (3, 20):
            params = jax.tree.map(lambda leaf, step=step: leaf + step, PARAMS)
            trees = {"params": ocp.args.StandardSave(params), "opt_state": ocp.args.StandardSave(STATE)}
            manager.save(step, args=ocp.args.Composite(**trees))
    save_file(PARAMS, tmp_path / "model.safetensors")
    (tmp_path / "model.pt").write_bytes(b"\x80")
    return calls


def test_the_latest_step_is_handed_on_with_the_problem(told, capsys):
    assert commands.main(["diagnose", "mine:whole", "--checkpoint=ckpt"]) == 0
    assert capsys.readouterr().out == "a table, and advice\n"
    ((arguments, named),) = told
    mine = sys.modules["mine"]
    assert arguments[0] is mine.loss_fn
    assert arguments[1]["w"].tolist() == [20, 21, 22]
    assert [batch.tolist() for batch in arguments[2]] == [[[1, 1, 1]] * 2]
    assert arguments[3] is mine.whole["optimizer"]
    assert jax.tree.structure(arguments[4]) == jax.tree.structure(STATE)
    assert named == {"learning_rate": 1e-3, "num_steps": 100, "step": 20}


def test_a_step_a_page_and_json_are_as_asked_for(told, capsys, tmp_path):
    words = ["diagnose", "mine:made", "--checkpoint=ckpt", "--step=3", "--save=a.html", "--json=a.json"]
    assert commands.main(words) == 0
    assert capsys.readouterr().out == "a table, and advice\njson: a.json\nreport: a.html\n"
    assert told[0][1]["step"] == 3
    assert told[0][0][1]["w"].tolist() == [3, 4, 5]
    assert json.loads((tmp_path / "a.json").read_text()) == {"gain_ratio": 0.5, "noise": None, "steps": [3]}
    assert (tmp_path / "a.html").read_text() == "<html>"


def test_of_an_endless_iterator_a_bounded_list_is_taken(told):
    assert commands.main(["diagnose", "mine:endless", "--checkpoint=ckpt"]) == 0
    batches = told[0][0][2]
    assert (type(batches), len(batches), float(batches[5][0, 0])) == (list, 16, 5.0)


def test_an_object_and_safetensors_do_too(told, capsys):
    assert commands.main(["diagnose", "mine:thing", "--checkpoint=model.safetensors"]) == 0
    (_, params, batches, optimizer, state), named = told[0]
    assert (params["w"].tolist(), batches, named["step"]) == ([0, 1, 2], [1], None)
    assert not jax.tree.leaves(state)  # that of plain SGD is known without a checkpoint
    assert optimizer is not None
    assert capsys.readouterr().err == ""


def test_a_state_that_is_not_stored_is_said_to_be_unknown(told, capsys):
    assert commands.main(["diagnose", "mine:whole", "--checkpoint=model.safetensors"]) == 0
    note = "note: the state of the optimizer is unknown: model.safetensors has parameters alone\n"
    assert capsys.readouterr().err == note
    assert told[0][0][4] is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name what to diagnose: lrjax diagnose MODULE:NAME --checkpoint=DIR"),
        (["mine:whole"], "give --checkpoint=DIR, a folder of orbax or a .safetensors file"),
        (["mine:whole", "--checkpiont=ckpt"], "unrecognized arguments: --checkpiont=ckpt"),
        (["mine:whole", "--checkpoint=ckpt", "--step=last"], "--step=last must be a whole number"),
        (
            ["mine:whole", "--checkpoint=ckpt", "--save=no/a.html"],
            "cannot write --save=no/a.html; name a file in a folder",
        ),
        (["mine:whole", "--checkpoint=ckpt", "--json=ckpt"], "cannot write --json=ckpt; name a file in a folder"),
        (["mine", "--checkpoint=ckpt"], "'mine' names no object; write MODULE:NAME, such as my_module:problem"),
        (["mine.py:whole", "--checkpoint=ckpt"], "'mine.py' is a file; name it as Python imports it: mine:NAME"),
        (["mien:whole", "--checkpoint=ckpt"], "there is no module 'mien' in "),
        (
            ["breaks:whole", "--checkpoint=ckpt"],
            "breaks.py:1, in <module>: ModuleNotFoundError: No module named 'gone_away'",
        ),
        (["mine:hole", "--checkpoint=ckpt"], "mine has no 'hole'; did you mean 'whole'?"),
        (["mine:broken", "--checkpoint=ckpt"], "mine.py:33, in broken: KeyError: 'gone'"),
        (
            ["mine:typo", "--checkpoint=ckpt"],
            "mine:typo has the key 'optimiser', which is none of a problem; did you mean 'opt",
        ),
        (
            ["mine:lacks", "--checkpoint=ckpt"],
            "mine:lacks has no loss_fn, batches; give a mapping or an object with loss_fn",
        ),
        (
            ["mine:no_batches", "--checkpoint=ckpt"],
            "batches is empty; give a list of batches, or a function that returns",
        ),
        (
            ["mine:rate", "--checkpoint=ckpt"],
            "learning_rate of mine:rate must be a number or an optax schedule, not '1e-3'",
        ),
        (["mine:steps", "--checkpoint=ckpt"], "num_steps of mine:steps must be a whole number above 0, not 0"),
        (["mine:kind", "--checkpoint=ckpt"], "optimizer of mine:kind must be an optax.GradientTransformation, not 0.1"),
        (
            ["mine:batch", "--checkpoint=ckpt"],
            "batches of mine:batch must be a list, or a function that returns an iterator",
        ),
        (
            ["mine:whole", "--checkpoint=nowhere"],
            "there is no checkpoint nowhere; give the folder or the file that the",
        ),
        (["mine:whole", "--checkpoint=model.pt"], "model.pt is a pickle, which runs whatever it holds when it is read"),
        (
            ["mine:whole", "--checkpoint=model.safetensors", "--step=1"],
            "model.safetensors is a file and has no steps; leave",
        ),
        (["mine:whole", "--checkpoint=ckpt", "--step=4"], "step 4 is not stored in ckpt; stored are 3, 20"),
        (
            ["mine:wide", "--checkpoint=ckpt"],
            "params of ckpt/20 (at 'params'): 'w' is (3,), not (4,); make the model as",
        ),
        (
            ["mine:momentum", "--checkpoint=ckpt"],
            "opt_state of ckpt/20 (at 'opt_state'): it lacks '0/trace/w', it also has",
        ),
    ],
)
def test_a_wrong_word_or_problem_gets_one_sentence(words, sentence, told, capsys):
    assert commands.main(["diagnose", *words]) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {sentence}")
    assert (out, err.count("\n")) == ("", 1)
    assert not told
