"""The options of models: a key that no builder reads is refused, and every experiment's settings pass."""

import importlib

import pytest

import lrjax
from lrjax import models
from lrjax.errors import LrjaxError
from lrjax.experiment.loop.sweep import expand
from lrjax.models.model import Builder, Model

PAPERS = ("benign_osc", "break_even", "exp_lr", "lr_decay")
EXPERIMENTS = [(paper, name) for paper in PAPERS for name in importlib.import_module(f"configs.{paper}").EXPERIMENTS]


@pytest.mark.parametrize("name", models.MODELS)
def test_unknown_option_is_refused_with_the_nearest_one(name):
    builder = models.MODELS[name]
    assert isinstance(builder, Builder)
    option = max(builder.options, key=len)
    with pytest.raises(LrjaxError, match=rf"model\.{option}s is no option of model '{name}': did you mean '{option}'"):
        models.build_model({"name": name, option + "s": 1}, 2)


def test_a_builder_that_declares_no_options_takes_all(monkeypatch):
    monkeypatch.setitem(models.MODELS, "mine", lambda settings, num_classes: Model(settings["start"], len))
    assert models.build_model({"name": "mine", "start": max}, 2).init is max


@pytest.mark.parametrize(("paper", "experiment"), EXPERIMENTS)
def test_settings_of_every_experiment_are_options_of_its_model(paper, experiment):
    for group in expand(lrjax.load_config(f"configs/{paper}.py:{experiment},scale=smoke")):
        for training in (True, False):
            assert isinstance(models.configured(group.static, 2, training=training), Model)
