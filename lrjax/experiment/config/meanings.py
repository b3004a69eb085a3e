"""Keys by meaning: what other programs call `lr`, `wd` or `batch`, as the key that exists in an experiment."""

import difflib
from collections.abc import Iterable

from lrjax.errors import FEW

# Key -> other names of it, without _ and - and in small letters.
SYNONYMS = {
    "optimizer.learning_rate": "lr eta rate learningrate baselr peaklr initlr alpha stepsize",
    "optimizer.l2": "wd weightdecay decay l2 l2reg l2regularization regularization lambda lambd",
    "optimizer.momentum": "momentum mu mom beta",
    "optimizer.name": "optimizer optim opt algorithm solver",
    "optimizer.nesterov": "nesterov",
    "optimizer.b1": "beta1 b1 betas",
    "optimizer.b2": "beta2 b2",
    "batch_size": "batch bs batchsize bsz minibatch minibatchsize trainbatchsize",
    "micro_batch": "microbatch microbatchsize accumulation gradaccum gradientaccumulation accumulate",
    "steps": "epochs epoch numepochs nepochs maxepochs iterations iters numsteps maxsteps trainsteps nsteps niter step",
    "seed": "randomseed rngseed rng key prngkey prng",
    "sweep.seed": "seeds numseeds nseeds",
    "schedule.name": "schedule scheduler lrschedule lrscheduler schedulename decayschedule",
    "schedule.warmup": "warmup warmupsteps warmupepochs lrwarmup",
    "schedule.cooldown": "cooldown cooldownsteps",
    "schedule.milestones": "milestones boundaries decayat decaysteps steplr",
    "schedule.factor": "factor gamma decayfactor lrdecay decayrate",
    "model.name": "model arch architecture network net backbone",
    "model.width": "width hidden hiddensize hiddendim channels features",
    "model.depth": "depth layers numlayers nlayers",
    "data.name": "dataset data ds datasetname task",
    "data_dir": "datadir datapath dataroot root datafolder tfdsdatadir",
    "data.num_train": "numtrain ntrain trainsize trainsamples samples nsamples",
    "data.num_test": "numtest ntest testsize valsize evalsize",
    "data.classes": "classes labels",
    "augment": "augmentation aug dataaugmentation augmentations",
    "loss": "lossfn criterion lossname objective lossfunction",
    "label_noise": "labelnoise noise targetnoise",
    "averaging": "ema swa average polyak weightaveraging",
    "compute_dtype": "dtype precision bf16 bfloat16 fp16 float16 amp mixedprecision",
    "matmul_precision": "tf32 tensorfloat32 allowtf32 matmulprecision float32matmulprecision defaultmatmulprecision",
    "remat": "checkpointing gradientcheckpointing rematerialize",
    "log_every": "logevery loginterval logfreq printfreq logsteps logeverynsteps",
    "checkpoint_every": "checkpointevery saveevery saveinterval savesteps savefreq ckptevery checkpointinterval",
    "keep_checkpoints": "keepcheckpoints savetotallimit maxtokeep keep",
    "probes.accuracy": "evalevery evalinterval evalfreq evalsteps validateevery testevery accuracy",
    "data_devices": "devices gpus numgpus numdevices ngpus dataparallel",
    "lanes_per_device": "lanes parallel vmap",
    "threads": "numthreads nthreads cpus cores numworkers workers",
    "order": "shuffle shuffling sampling sampler",
    "divergence_loss": "divergence maxloss",
    "fine_tune.head_rate": "headlr headrate",
    "fine_tune.body_rate": "freeze bodylr frozen backbonelr",
}


def _bare(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


MEANT: dict[str, list[str]] = {}
for _key, _names in SYNONYMS.items():
    for _name in _names.split():
        MEANT.setdefault(_name, []).append(_key)


def suggestion(key: str, existing: Iterable[str]) -> str:
    """The end of a message about an unknown key: the key that exists and means it, or the nearest one, or the groups.

    Args:
        key: dotted, as the user wrote it.
        existing: the dotted keys that there are.

    Example:
        >>> existing = ["seed", "batch_size", "optimizer.learning_rate", "optimizer.l2", "rule.min_scale"]
        >>> [suggestion(key, existing) for key in ("optimizer.lr", "wd")]
        ["did you mean 'optimizer.learning_rate'?", "did you mean 'optimizer.l2'?"]
        >>> suggestion("sed", existing), suggestion("qqq", existing)
        ("did you mean 'seed'?", 'valid names: batch_size, optimizer.*, rule.*, seed')
    """
    known = sorted(existing)
    group, _, leaf = key.rpartition(".")
    bare, meant = _bare(leaf), MEANT.get(_bare(key), MEANT.get(_bare(leaf), []))
    same = [name for name in known if _bare(name.rpartition(".")[2]) == bare]
    close = [name for name in known if name in meant or (name.startswith("sweep.") and name[6:] in meant)]
    beside = [name for name in close if name.rpartition(".")[0] == group]
    chosen = beside or [name for name in same if _bare(name) == _bare(key)] or (close if bare in MEANT else []) or same
    if chosen:
        epochs = ", as in steps='3 epochs'" if chosen == ["steps"] and "epoch" in bare else ""
        return "did you mean " + " or ".join(map(repr, chosen[:3])) + epochs + "?"
    return _nearest(key, leaf, known)


def _nearest(key: str, leaf: str, known: list[str]) -> str:
    """By spelling: of the whole key, or of its last word."""

    def likeness(name: str) -> float:
        whole = difflib.SequenceMatcher(None, key, name).ratio()
        last = difflib.SequenceMatcher(None, leaf, name.rpartition(".")[2]).ratio()
        return max(whole, last if "." not in key else 0.0, 0.5 * (whole + last))

    best = max(known, key=likeness, default="")
    if best and likeness(best) >= 0.66 and _bare(leaf) not in MEANT:  # that one is meant otherwise, and not there
        return f"did you mean {best!r}?"
    if len(known) <= FEW and not any("." in name for name in known):
        return "valid names: " + ", ".join(known)
    names = dict.fromkeys(name if "." not in name else name.partition(".")[0] + ".*" for name in known)
    return "valid names: " + ", ".join(sorted(names))
