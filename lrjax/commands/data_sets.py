"""`lrjax data list` shows the prepared data sets of a folder; `lrjax data prepare cifar10` makes one, without TensorFlow."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from lrjax.errors import check, nearest, refuse

PREPARED = ("cifar10",)
# What experiments of the configs read, and where one gets it.
USED = {
    "cifar10": "lrjax data prepare cifar10",
    "imdb_reviews": "prepared by tensorflow_datasets, in array_record format",
    "tiny_imagenet32": "Tiny ImageNet at 32x32: a folder of images of your own; a run without it says how",
}


def main(arguments: Sequence[str], *, alone: bool) -> int:
    """Lists or prepares."""
    parser = argparse.ArgumentParser(prog="lrjax data", description=__doc__, allow_abbrev=False)
    parser.error = refuse
    parser.add_argument("action", nargs="?", help="list or prepare")
    parser.add_argument("name", nargs="?", help="of the data set to prepare: cifar10")
    parser.add_argument("--source", help="the authors' archive, cifar-10-binary.tar.gz or -python; default: fetch it")
    parser.add_argument("--data_dir", help="folder of the data sets; default: $TFDS_DATA_DIR, ~/tensorflow_datasets")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    flags = parser.parse_args(arguments)
    check(flags.action in ("list", "prepare"), "write lrjax data list, or lrjax data prepare cifar10")
    from lrjax.data.cifar_archive import data_folder, prepare

    folder = data_folder(flags.data_dir)
    if flags.action == "list":
        check(flags.name is None, "lrjax data list takes no name; --data_dir says where to look")
        print(listing(folder))
        return 0
    check(flags.name is not None, "name the data set: lrjax data prepare cifar10")
    check(flags.name in PREPARED, f"lrjax prepares no {flags.name!r}; {nearest(flags.name, PREPARED)}")
    made = prepare(folder, Path(flags.source).expanduser() if flags.source else None)
    print(f"{made} is ready; runs find it by --config.data_dir={folder}, or by TFDS_DATA_DIR={folder}")
    return 0


def listing(folder: Path) -> str:
    """The data sets of a folder, and those that experiments read and that are not there."""
    rows, names = [], set()
    for path in sorted(folder.glob("*/*/dataset_info.json")) + sorted(folder.glob("*/*/*/dataset_info.json")):
        try:
            info = json.loads(path.read_text())
            sizes = {split["name"]: sum(map(int, split["shardLengths"])) for split in info["splits"]}
            form = info.get("fileFormat", "tfrecord")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            rows.append(f"  {path.parent.relative_to(folder)}: its dataset_info.json is damaged")
            continue
        usable = "" if form == "array_record" else f" (in {form} format, which lrjax does not read)"
        names |= {path.relative_to(folder).parts[0]} if not usable else set()
        counts = ", ".join(f"{count:,} {name}" for name, count in sizes.items())
        rows.append(f"  {path.parent.relative_to(folder)}: {counts}{usable}")
    missing = [f"  {name}: {how}" for name, how in USED.items() if name not in names]
    return "\n".join(
        [f"data sets in {folder}:", *(rows or ["  none"]), *(["not there:", *missing] if missing else [])]
        + ["Synthetic data (signal_noise, ps10, halfspace) needs no files."]
    )
