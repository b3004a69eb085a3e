"""Works through the queue of this bundle on a machine without internet: `python run.py --help`. Needs Python 3.11 or newer."""

import hashlib
import json
import sys
from pathlib import Path

BUNDLE = Path(__file__).resolve().parent

if __name__ == "__main__":
    source = BUNDLE / "source.zip"
    try:
        wanted = json.loads((BUNDLE / "bundle.json").read_text())["source"]
        whole = hashlib.sha256(source.read_bytes()).hexdigest() == wanted
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole or sys.version_info < (3, 11):
        why = (
            "bundle.json or source.zip is missing or damaged; copy it again"
            if not whole
            else "Python is older than 3.11"
        )
        sys.exit(f"error: {why}")
    sys.path.insert(0, str(source))
    try:
        from launch.unpack import main
    except ImportError:  # made by an installed lrjax
        from lrjax._launch.unpack import main  # pyright: ignore[reportMissingImports]
    sys.exit(main(BUNDLE, sys.argv[1:]))
