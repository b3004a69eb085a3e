"""Manifests of folders of archives: what a bundle and what results say of themselves, checked before any of it is used.

Standard library only: a node reads one before anything is installed.
"""

from pathlib import Path
from typing import Any

from lrjax.errors import LrjaxError
from lrjax.experiment.rundir.archives import AGAIN
from lrjax.experiment.rundir.files import damaged, is_plain, read_json
from lrjax.version import __version__


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest: "archives", a list of records, and "jobs", name -> what there is to say of a job.

    Raises:
        LrjaxError: there is none, or it is damaged.
    """
    try:
        manifest = read_json(path, dict, AGAIN)
    except FileNotFoundError as error:
        raise LrjaxError(f"there is no {path}; name the folder that has it") from error
    archives, jobs = manifest.get("archives"), manifest.get("jobs")
    known = isinstance(archives, list) and all(_is_record(record) for record in archives)
    known = known and isinstance(jobs, dict) and all(is_plain(n) and isinstance(job, dict) for n, job in jobs.items())
    if not known:
        version = manifest.get("version")
        other = f"; it is of lrjax {version}, and this is {__version__}" * (
            is_plain(version) and version != __version__
        )
        damaged(path, f"it is not what a manifest holds{other}", AGAIN)
    return manifest


def _is_record(record: Any) -> bool:
    def size(value: Any) -> bool:
        return type(value) is int and value >= 0

    known = isinstance(record, dict) and is_plain(record.get("name")) and size(record.get("content"))
    return (
        known
        and isinstance(record.get("parts"), list)
        and all(
            isinstance(part, dict)
            and is_plain(part.get("name"))
            and size(part.get("bytes"))
            and isinstance(part.get("sha256"), str)
            for part in record["parts"]
        )
    )
