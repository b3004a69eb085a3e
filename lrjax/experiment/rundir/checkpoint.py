"""Checkpoints, from which a killed run resumes bit for bit. The only file that imports orbax."""

import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from lrjax.errors import LrjaxError, by_path
from lrjax.experiment.rundir.files import read_json, refuse_link
from lrjax.experiment.rundir.pieces import valid
from lrjax.experiment.rundir.records import read_meta, sealed


def _alone() -> ocp.options.MultiprocessingOptions:
    """Process 0 writes (see `lrjax.devices.hosts`), and each process reads by itself; orbax would let all wait for all."""
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})


def _checksum(state: Any) -> int:
    crc = 0
    for path, leaf in sorted(by_path(state).items()):
        crc = zlib.crc32(path.encode() + np.ascontiguousarray(leaf).tobytes(), crc)
    return crc


_META: dict[str, Callable[[Any], bool]] = {
    "step": lambda value: type(value) is int and value >= 0,
    "offset": lambda value: type(value) is int and value >= 0,
    "finished": lambda value: isinstance(value, bool),
    "lanes": lambda value: isinstance(value, list) and all(isinstance(lane, dict) for lane in value),
    "pieces": lambda value: valid(value) is not None,
}


def _checked(state: Any, meta: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    state = jax.tree.map(np.asarray, state)
    if _checksum(state) != meta["checksum"]:
        raise ValueError("its checksum does not match")
    if "seal" in meta and meta != sealed(meta):
        raise ValueError("its record is not the one that was written")
    for key, fits in _META.items():
        if key in meta and not fits(meta[key]):
            raise ValueError(f"its record has the {key} {str(meta[key])[:40]!r}")
    return state, dict(meta)


def fitted(state: Any, template: Any) -> Any | None:
    """A state of nested dicts and lists in the containers of the template; None where shapes or dtypes differ.

    Example:
        >>> fitted({"w": np.ones(2)}, {"w": np.zeros(2)})
        {'w': array([1., 1.])}
    """
    stored, wanted = by_path(state), by_path(template)
    fits = stored.keys() == wanted.keys() and all(
        (stored[path].shape, stored[path].dtype) == (np.shape(leaf), np.asarray(leaf).dtype)
        for path, leaf in wanted.items()
    )
    return jax.tree.unflatten(jax.tree.structure(template), [stored[path] for path in wanted]) if fits else None


class Checkpoints:
    """The newest checkpoints of one block of lanes, or all of them.

    Saving is atomic; two or more are kept, so that a damaged one falls back to the one before.

    Args:
        folder: made if missing.
        keep: how many stay on disk, the newest ones; "all" for every one, so that they can be measured afterwards.

    Example:
        >>> import tempfile, numpy as np
        >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()) / "block-000")
        >>> checkpoints.save(4, {"w": np.ones(2)}, {"offset": 10})
        >>> state, meta = checkpoints.restore({"w": np.zeros(2)})
        >>> state["w"].tolist(), meta["step"], meta["offset"]
        ([1.0, 1.0], 4, 10)
    """

    def __init__(self, folder: Path, keep: int | str = 2):
        self._named = folder
        self.folder, self._keep = folder.resolve(), None if keep == "all" else int(keep)
        self._manager: ocp.CheckpointManager | None = None

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            for path in (self._named, self._named.parent):
                refuse_link(path)
            self.folder.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep,
                enable_async_checkpointing=False,
                create=False,
                multiprocessing_options=_alone(),
            )
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=("state", "meta"))
        return self._manager

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Writes numpy arrays and a small JSON record; a checkpoint of the same step is replaced.

        Raises:
            LrjaxError: the disk is full or not writable; the checkpoints before are untouched.
        """
        meta = sealed({**meta, "step": step, "checksum": _checksum(state)})
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        try:
            if step in self._open().all_steps():
                self._open().delete(step)
            self._open().save(step, args=items)
        except Exception as error:
            raise LrjaxError(
                f"could not write the checkpoint of step {step} to {self.folder} ({_first_line(error)}); free disk space or "
                "correct the permissions and run the same command again, which resumes from the checkpoint before"
            ) from error

    def _read(self, step: int, template: Any) -> tuple[Any, dict[str, Any]]:
        restore = ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
        found = self._open().restore(step, args=restore)
        state, meta = _checked(found["state"], found["meta"])
        if template is None:
            return state, meta
        state = fitted(state, template)
        if state is None:
            raise LrjaxError(f"the state in {self.folder} is not one of this version's; run with --fresh to start over")
        return state, meta

    def restore(self, template: Any = None) -> tuple[Any, dict[str, Any]] | None:
        """The newest whole checkpoint as (state, meta), or None where there is none.

        A damaged one is reported on stderr, removed, and the one before is taken.

        Args:
            template: a state of the same shapes and dtypes; without one, nested dicts and lists come back.

        Raises:
            LrjaxError: the newest whole checkpoint has other shapes than the template.
        """
        if not self.folder.is_dir():
            return None
        for step in sorted(self._open().all_steps(), reverse=True):
            try:
                return self._read(step, template)
            except LrjaxError:
                raise  # whole, but not ours: never removed
            except Exception as error:  # orbax, tensorstore and json each have their own; any of them means damaged
                print(
                    f"checkpoint {self.folder.name}/{step} is damaged ({_first_line(error)}); falling back to the one before",
                    file=sys.stderr,
                )
                self.close()
                shutil.rmtree(self.folder / str(step))
        return None

    def close(self) -> None:
        """Frees orbax's threads."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def finished(folder: Path) -> dict[str, Any] | None:
    """The record of a block that has reached its end and whose last checkpoint is whole; else None."""
    if not any(meta.get("finished") for meta in read_meta(folder)):
        return None
    checkpoints = Checkpoints(folder)
    restored = checkpoints.restore()
    checkpoints.close()
    return restored[1] if restored is not None and restored[1].get("finished") else None


def stored_steps(folder: Path) -> list[int]:
    """The steps of a block's checkpoints, ascending; opens none of them."""
    return sorted(
        int(path.parents[1].name) for path in folder.glob("*/meta/metadata") if path.parents[1].name.isdigit()
    )


def read(folder: Path, step: int) -> tuple[Any, dict[str, Any]]:
    """One checkpoint as (state, meta), the state as nested dicts and lists; nothing on disk changes.

    Raises:
        LrjaxError: it is damaged.
    """
    place = folder.resolve() / str(step)
    try:
        # Not a manager: it would say that it may not write.
        with ocp.StandardCheckpointer(multiprocessing_options=_alone()) as checkpointer:
            state = checkpointer.restore(place / "state")
        return _checked(state, read_json(place / "meta" / "metadata", dict))
    except Exception as error:  # as in `restore`: each library has its own
        raise LrjaxError(
            f"checkpoint {folder.name}/{step} is damaged ({_first_line(error)}); leave step {step} out, or run with --fresh"
        ) from error


def is_tree(folder: Path) -> bool:
    """Whether orbax has written a tree of arrays there, in whatever program: by `StandardSave`, `PyTreeSave` or their like."""
    return (folder / "_METADATA").is_file()


def read_tree(folder: Path) -> Any:
    """A tree that orbax has written, in whatever program, as nested dicts and lists of numpy arrays.

    Its devices need not be here. Typed random keys come as their data, strings and None as they are.

    Args:
        folder: see `is_tree`; nothing in it changes.

    Raises:
        LrjaxError: it is damaged.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "params"
        >>> with ocp.StandardCheckpointer() as checkpointer:
        ...     checkpointer.save(folder, {"w": np.ones(2)})
        >>> read_tree(folder)
        {'w': array([1., 1.])}
    """
    place: Any = folder.resolve()
    handler = ocp.PyTreeCheckpointHandler()  # no checkpointer: it would warn of records that a single tree has not
    try:
        with _other_reads_unheard():
            as_arrays = jax.tree.map(_as_array, handler.metadata(place).tree)
            return handler.restore(place, args=ocp.args.PyTreeRestore(restore_args=as_arrays))
    except Exception as error:  # as in `restore`: each library has its own
        raise LrjaxError(f"the checkpoint {folder} is damaged ({_first_line(error)}); give another one") from error
    finally:
        handler.close()


@contextmanager
def _other_reads_unheard() -> Iterator[None]:
    """Where one array cannot be read, orbax closes its event loop under the reads of the others, and each prints a trace."""
    before = sys.unraisablehook

    def heard(told: "sys.UnraisableHookArgs") -> None:
        if str(told.exc_value) != "Event loop is closed":
            before(told)

    sys.unraisablehook = heard
    try:
        yield
    except BaseException:
        time.sleep(0.1)  # they end at once
        raise
    finally:
        sys.unraisablehook = before


def _as_array(stored: Any) -> ocp.RestoreArgs:
    array = getattr(stored, "shape", None) is not None
    return ocp.RestoreArgs(restore_type=np.ndarray if array else None)
