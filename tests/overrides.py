"""Random configs with overrides: what would run is what was asked, lane by lane, or the refusal is one sentence.

python -m tests.overrides --cases 200 [--seed 0]
"""

import argparse
import json
import random
import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

import lrjax.probes
from lrjax import data
from lrjax.errors import LrjaxError
from lrjax.experiment.config.canonical import flatten, to_json
from lrjax.experiment.config.durations import DURATIONS, phases, to_steps
from lrjax.experiment.config.load import load_config, read_spec
from lrjax.experiment.config.reach import exceptions
from lrjax.experiment.loop import sweep
from lrjax.experiment.rundir.lanes import lane_config

FILES = ("benign_osc", "break_even", "exp_lr", "lr_decay")
OFTEN = (
    *("seed", "steps", "e", "optimizer.learning_rate", "optimizer.l2", "optimizer.momentum", "batch_size", "data.kn"),
    *("divergence_loss", "label_noise", "schedule.factor", "schedule.name", "averaging_decay", "model.width"),
)
WORDS = {"schedule.name": ("constant", "cosine"), "order": ("iid", "cyclic"), "averaging": ("ema", "uniform")}
NEVER = ("paper", "experiment", "scale", "data_dir", "sweep", "arms", "spectra", "start")


def value_of(key, before, chance):
    """Another value for a key: mostly right, now and then wrong; None where there is no telling."""
    if key in WORDS:
        return chance.choice(WORDS[key])
    if isinstance(before, bool):
        return not before
    if key == "seed":
        return chance.choice([0, 1, 3, 7, 2**32 - 1, -1])
    if key in DURATIONS and isinstance(before, (int, str)):
        return chance.choice(
            [before, 240, 480, 40, "2 epochs", 0, 10**12] if key == "steps" else [before, 10, "1 epochs"]
        )
    if isinstance(before, int):
        return chance.choice([before, before + 1, 2 * before, max(1, before // 2), -1])
    if isinstance(before, float):
        return chance.choice([before, 2 * before, before / 2, 1, 0.3, -0.1, 1e-3])
    if before is None and (key in OFTEN or key.startswith("optimizer.")):
        return chance.choice([0.3, 0.1, 1])
    return None


def case_of(number, seed=0):
    """(spec, overrides) of a random case."""
    chance = random.Random(f"{seed}/{number}")
    name = f"configs/{chance.choice(FILES)}.py"
    experiment = chance.choice(sorted(read_spec(name)[0].EXPERIMENTS))
    spec = f"{name}:{experiment},scale={chance.choice(('smoke', 'smoke', 'small'))}"
    config = load_config(spec)
    base = {key: value for key, value in flatten(config).items() if key.split(".")[0] not in NEVER}
    owned = sorted({key.removeprefix("sweep.") for arm in config.arms.values() for key in flatten(arm)} & set(base))
    often = [key for key in (*OFTEN, *owned, *owned) if key in base]
    overrides = {}
    for _ in range(chance.choice((1, 1, 2, 3))):
        key = chance.choice(often if chance.random() < 0.85 else sorted(base))
        places = (
            ["", "", "sweep."]
            + [f"arms.{arm}." for arm in config.arms][:3]
            + [f"arms.{a}.sweep." for a in config.arms][:1]
        )
        place = chance.choice(places)
        drawn = [value_of(key, base[key], chance) for _ in range(3 if place.endswith("sweep.") else 1)]
        if any(value is None for value in drawn):
            continue
        if place.endswith("sweep."):
            overrides[place + key] = tuple(drawn if chance.random() < 0.3 else dict.fromkeys(drawn))
        else:
            overrides[place + key] = drawn[0]
    if len(config.arms) > 1 and chance.random() < 0.15:
        overrides[f"arms.{chance.choice(sorted(config.arms))}"] = None
    return spec, overrides


def means(lane, key, asked):
    """Whether a lane's resolved value is what was asked for."""
    got: Any = flatten(lane.config).get(key)
    config = lane.config
    size = data.DATASETS[config.data.name].num_train(config)
    epoch = max(1, size // config.batch_size)
    if key.startswith("probes."):
        return got == phases(asked, epoch, key)
    if key in DURATIONS:
        return got == to_steps(asked, epoch, key)
    if key == "batch_size" and asked == "full":
        return got == size
    return got == asked or (isinstance(asked, (int, float)) and abs(got - asked) <= 1e-12 * abs(asked))


def asked_of(lane, key, overrides):
    """The values that the user gave for a key of a lane's arm: those for the arm first, and an axis before a value."""
    places = (f"arms.{lane.arm}.sweep.", f"arms.{lane.arm}.", "sweep.", "")
    place = next((place for place in places if overrides.get(place + key) is not None), None)
    if place is None:
        return None
    value = overrides[place + key]
    return value if place.endswith("sweep.") else (value,)


def settings(config):
    """Dotted key -> value as JSON; probes are stored as they were written."""
    flat = flatten(json.loads(to_json(config)))
    return {key: value for key, value in flat.items() if not key.startswith("probes.")}


def keys_of(overrides):
    for dotted, value in overrides.items():
        parts = dotted.split(".")
        if value is not None:
            parts = parts[2:] if parts[0] == "arms" else parts
            yield ".".join(parts[1:] if parts[0] == "sweep" else parts)


def faults(spec, overrides):
    """(how it went, what is wrong with that) of a case: "ran" or "refused", and a list of sentences."""
    try:
        config = load_config(spec, overrides)
        lanes = sorted((lane for group in sweep.expand(config) for lane in group.lanes), key=lambda lane: lane.index)
    except LrjaxError as error:
        return "refused", [] if str(error) and "\n" not in str(error) else [f"no sentence: {error}"]
    except Exception as error:
        return "broke", [f"{type(error).__name__}: {error}"]
    notes, found = " ".join(exceptions(config, overrides)), []
    for key in dict.fromkeys(keys_of(overrides)):
        arms = {}
        for lane in lanes:
            asked = asked_of(lane, key, overrides)
            if asked is None:
                continue
            own = [value for value in asked if means(lane, key, value)]
            told = f"sweep.{key} is not for" in notes and f"{lane.arm} (" in notes
            if not own and not told:
                found.append(f"lane {lane.index} ({lane.arm}) has {key}={flatten(lane.config).get(key)!r}, not {asked}")
            arms.setdefault(lane.arm, (asked, set(), told))[1].update(map(repr, own))
        for arm, (asked, ran, told) in arms.items():
            if not told and ran != set(map(repr, asked)):
                found.append(f"arm {arm} ran {key} at {sorted(ran)}, not at {asked}")
    gone = [dotted.split(".")[1] for dotted, value in overrides.items() if value is None and dotted.count(".") == 1]
    found += [f"arm {lane.arm} was taken out and runs" for lane in lanes if lane.arm in gone]
    run: Any = SimpleNamespace(config=json.loads(to_json(config)))  # as the run directory has it
    for lane in lanes:
        told, ran = settings(lane_config(run, json.loads(json.dumps(lane.record())))), settings(lane.config)
        differ = [key for key in told | ran if told.get(key) != ran.get(key)]
        found += [
            f"the record of lane {lane.index} has {key}={told.get(key)!r}, not {ran.get(key)!r}" for key in differ
        ]
    return "ran", found


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m tests.overrides", description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args(arguments)
    assert lrjax.probes.PROBES
    ways, wrong = Counter(), 0
    for number in range(flags.cases):
        spec, overrides = case_of(number, flags.seed)
        way, found = faults(spec, overrides)
        ways[way] += 1
        wrong += bool(found)
        for sentence in found:
            print(f"case {number}: {spec} {overrides}: {sentence}")
    print(f"{flags.cases} cases: {ways['ran']} as asked, {ways['refused']} refused, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
