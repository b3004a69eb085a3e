"""A small sweep, the flags of each launcher, and how its own program would read the commands of the jobs."""

import re
import shlex

import yaml

CONFIG = "--config=tests/launch/sweep_config.py:tiny,scale=smoke"
FLAGS = {
    "local": [],
    "print": [],
    "offline": ["--bundle=bundle", "--has=jax,flax"],
    "slurm": ["--option=--partition=gpu", "--parallel=2", "--setup=module load python", "--hosts=2"],
    "tpu_vm": ["--tpu=pod", "--zone=us-central2-b"],
    "skypilot": ["--accelerators=A100:1", "--storage=gs://bucket"],
    "kubernetes": ["--image=lrjax:1", "--storage=claim", "--resource=nvidia.com/gpu=8", "--node_selector=pool=a100"],
}


def commands_in(target, text):
    """The commands of the jobs as the launcher's own program would read them."""
    if target in ("local", "print", "offline"):
        return [shlex.split(line) for line in text.splitlines() if not line.startswith("#")]
    if target == "slurm":
        found = re.findall(r"^\d+\) command=\((.*)\) ;;$", text, re.MULTILINE)
        return [shlex.split(command) for command in found]
    if target == "tpu_vm":
        calls = [shlex.split(line)[1] for line in text.splitlines() if line.startswith("run '")]
        return [shlex.split(call.split(" && ")[-1]) for call in calls]
    documents = list(yaml.safe_load_all(text))
    if target == "skypilot":
        return [shlex.split(document["run"]) for document in documents]
    pods = [document["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"] for document in documents]
    words = [pod["containers"][0]["command"] for pod in pods]
    return [command[command.index("python") :] for command in words]  # behind the shell that installs
