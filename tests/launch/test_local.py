"""Jobs as processes: each done once, whatever is killed; and what a failure looks like."""

import os
import random
import signal
import threading

import pytest

from launch import local
from launch.local import Job, run

# Half of the work is done at the first start and not again; a job that dies does so once.
WORK = """
mkdir -p "$1" && echo start >> "$1/starts"
[ -n "$2" ] && [ "$2" = before ] && [ ! -e "$1/died" ] && : > "$1/died" && kill -9 $$
[ -e "$1/half" ] || { echo half >> "$1/parts" && : > "$1/half"; }
[ -n "$2" ] && [ "$2" = middle ] && [ ! -e "$1/died" ] && : > "$1/died" && kill -9 $$
[ -n "$2" ] && [ "$2" = asked ] && [ ! -e "$1/died" ] && : > "$1/died" && exit 75
echo rest >> "$1/parts" && printf '{"state": "done"}' > "$1/status.json"
"""


def job(root, name, script, *arguments):
    return Job(name, ("sh", "-c", script, "sh", str(root / name), *arguments), root / name, {})


def lines(path):
    return path.read_text().splitlines()


def test_of_200_jobs_with_a_tenth_killed_and_two_launchers_each_is_done_once(tmp_path):
    choice = random.Random(0)
    dying = {number: choice.choice(["before", "middle", "asked"]) for number in choice.sample(range(200), 20)}
    jobs = [job(tmp_path, f"job-{number}", WORK, dying.get(number, "")) for number in range(200)]
    said, ended = [], {}

    def launch(number):
        ended[number] = run(jobs, tmp_path / "logs", parallel=4, say=said.append)

    launchers = [threading.Thread(target=launch, args=(number,)) for number in range(2)]
    for launcher in launchers:
        launcher.start()
    for launcher in launchers:
        launcher.join()
    assert ended[0] == ended[1] == {one.name: "done" for one in jobs}
    for number, one in enumerate(jobs):
        assert lines(one.workdir / "parts") == ["half", "rest"], one.name
        assert len(lines(one.workdir / "starts")) == (2 if number in dying else 1), one.name
    assert sum("killed by signal 9" in line or "preempted" in line for line in said) == 20


def test_what_is_done_is_not_started(tmp_path):
    jobs = [job(tmp_path, name, WORK) for name in ("one", "two")]
    run(jobs[:1], tmp_path / "logs", say=lambda line: None)
    assert run(jobs, tmp_path / "logs", say=lambda line: None) == {"one": "done", "two": "done"}
    assert len(lines(tmp_path / "one" / "starts")) == 1


FAILURES = {
    "an error": ("echo error: no such data; exit 1", "failed: error: no such data", 1),
    "always killed": ("kill -9 $$", "failed: killed by signal 9 at each of 3 starts", 3),
    "always preempted": ("exit 75", "failed: preempted at each of 3 starts", 3),
    "nothing written": ("exit 0", "failed: it ended with status 0, but its status.json does not say done", 1),
    "no words": ("exit 2", "failed: it wrote nothing", 1),
}


@pytest.mark.parametrize(("script", "what", "starts"), FAILURES.values(), ids=FAILURES)
def test_a_failed_job_says_why_and_the_others_go_on(script, what, starts, tmp_path):
    jobs = [job(tmp_path, "bad", f"echo >> {tmp_path}/starts; " + script), job(tmp_path, "good", WORK)]
    found = run(jobs, tmp_path / "logs", attempts=3, say=lambda line: None)
    assert found["good"] == "done"
    if script != "exit 2":
        assert found["bad"] == what
    assert len(lines(tmp_path / "starts")) == starts


def test_a_job_that_another_process_has_open_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "IN_USE_S", 0.01)
    script = '[ -e "$1" ] || { mkdir "$1"; echo "error: another process is running in $1; wait for it"; exit 1; }\n'
    said = []
    found = run([job(tmp_path, "one", script + WORK)], tmp_path / "logs", attempts=1, say=said.append)
    assert found == {"one": "done"}
    assert any("another process runs it" in line for line in said)


def test_a_job_whose_launcher_was_killed_is_waited_for_and_not_started_twice(tmp_path):
    slow = job(tmp_path, "one", "sleep 1.5\n" + WORK)
    orphan = local._start(slow, _log(tmp_path, slow))  # the process alone, as after SIGKILL of its launcher
    said = []
    assert run([slow], tmp_path / "logs", say=said.append) == {"one": "done"}
    assert orphan is not None
    assert orphan.wait() == 0
    assert said == ["[1/1] one: done by another launcher"]
    assert len(lines(tmp_path / "one" / "starts")) == 1


def _log(root, one):
    (root / "logs").mkdir()
    return root / "logs" / f"{one.name}.log"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_asks_the_jobs_to_save_and_starts_no_more(number, tmp_path):
    ready = tmp_path / "ready"
    waits = f"trap 'echo saved > {tmp_path}/saved; exit 75' TERM; : > {ready}; while :; do sleep 0.05; done"
    jobs = [job(tmp_path, "one", waits), job(tmp_path, "two", WORK)]
    before = signal.getsignal(number)

    def when_ready():
        while not ready.exists():
            pass
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=when_ready)
    sender.start()
    found = run(jobs, tmp_path / "logs", say=lambda line: None)
    sender.join()
    assert found == {"one": "stopped", "two": "stopped"}
    assert (tmp_path / "saved").exists()
    assert not (tmp_path / "two").exists()
    assert signal.getsignal(number) is before
