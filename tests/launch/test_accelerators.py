"""What each launcher installs before a job: JAX for the accelerator that an option names, and nothing of another name."""

import shlex
import tomllib

import pytest
import yaml

from launch import clusters, jobs
from tests.launch.launching import CONFIG, FLAGS
from tests.runs import REPOSITORY


def installing(target, text):
    """What a target runs before each job."""
    if target == "skypilot":
        return {document["setup"].strip() for document in yaml.safe_load_all(text)}
    if target == "tpu_vm":
        calls = [shlex.split(line)[1] for line in text.splitlines() if line.startswith("run '")]
        return {call.split(" && ")[-2] for call in calls}
    pods = [
        document["spec"]["replicatedJobs"][0]["template"]["spec"]["template"] for document in yaml.safe_load_all(text)
    ]
    commands = [pod["spec"]["containers"][0]["command"] for pod in pods]
    return {command[2].removesuffix(' && exec "$@"') if command[0] == "sh" else "" for command in commands}


PIP = "python -m pip install --quiet 'jax[{}]>=0.10,<0.13'"


@pytest.mark.parametrize(
    ("target", "flags", "before"),
    [
        ("skypilot", ["--accelerators=A100:1"], 'pip install -e ".[cuda12]"'),
        ("skypilot", ["--accelerators=H100:8", "--extra=cuda13"], 'pip install -e ".[cuda13]"'),
        ("skypilot", ["--accelerators=tpu-v5e-8"], 'pip install -e ".[tpu]"'),
        ("skypilot", ["--extra=none"], "pip install -e ."),
        ("skypilot", ["--setup=./mine.sh"], "./mine.sh"),
        ("tpu_vm", [], PIP.format("tpu")),
        ("kubernetes", ["--resource=nvidia.com/gpu=1"], PIP.format("cuda12")),
        ("kubernetes", ["--resource=nvidia.com/gpu=1", "--extra=cuda13"], PIP.format("cuda13")),
        ("kubernetes", ["--setup=true"], "true"),
    ],
)
def test_the_extra_of_the_accelerator_that_an_option_names_is_installed(launch, target, flags, before):
    assert installing(target, launch(target, "--dry_run", *flags)[1]) == {before}


@pytest.mark.parametrize(
    ("resource", "before"),
    [("google.com/tpu=4", PIP.format("tpu")), ("cpu=8", ""), ("nvidia.com/gpu=8", PIP.format("cuda12"))],
)
def test_a_pod_installs_for_the_resource_that_it_asks_for(planned, resource, before):
    flags = [
        "--target=kubernetes",
        "--image=lrjax:1",
        "--storage=claim",
        f"--resource={resource}",
        "--workdir=/runs/mine",
    ]
    parsed, _, _ = jobs.parse([CONFIG, *flags])
    (text,) = clusters.submission("kubernetes", planned, parsed, dry_run=True).files.values()
    assert installing("kubernetes", text) == {before}


def test_what_is_installed_is_in_the_range_that_the_project_takes():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for extra in set(clusters.EXTRAS) - {"none"}:
        (wanted,) = project["optional-dependencies"][extra]
        assert wanted.split(";")[0] == clusters.JAX.format(extra=extra)


SKYPILOT = [CONFIG, "--target=skypilot", *FLAGS["skypilot"], "--workdir=/runs/mine", "--dry_run"]


@pytest.mark.parametrize("text", [None, '[project]\nname = "mine"\n', "[project", "x = 1"])
def test_skypilot_installs_no_folder_but_a_checkout_of_lrjax(text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if text:
        (tmp_path / "pyproject.toml").write_text(text)
    command = [SKYPILOT[0].replace("tests", f"{REPOSITORY}/tests"), *SKYPILOT[1:]]
    assert jobs.main(command) == 1
    assert "and it is no checkout of lrjax; start it in one, or give --setup" in capsys.readouterr().err
    assert jobs.main([*command, "--setup=pip install /wheels/lrjax.whl"]) == 0
    assert "pip install -e" not in capsys.readouterr().out
