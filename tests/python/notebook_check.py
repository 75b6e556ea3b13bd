#!/usr/bin/env python3
"""Runs a notebook's code, and compares the frame that it makes with one that is right.

Example: OMNIMESH_LAKE=data/lake notebook_check.py lake/notebooks/training_frame.ipynb expected.arrow

The Arrow IPC stream has the columns to compare, `order_uid` among them, which orders the rows. Exit code 1 if the frame
differs or a cell fails.
"""

import argparse
import json
import sys
from pathlib import Path

try:
    import pyarrow as pa
except ImportError as missing:
    sys.exit(f"{missing}. `make test` installs it; without make: pip install --requirement tests/python/requirements.txt")


def run(notebook: Path) -> dict:
    names = {"__name__": "__main__"}
    for number, cell in enumerate(json.loads(notebook.read_text())["cells"]):
        if cell["cell_type"] == "code":
            code = compile("".join(cell["source"]), f"{notebook.name}[{number}]", "exec")
            exec(code, names)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("expected", type=Path)
    arguments = parser.parse_args()
    expected = pa.ipc.open_stream(arguments.expected.read_bytes()).read_all().sort_by("order_uid")
    frame = run(arguments.notebook)["frame"].select(expected.column_names).sort_by("order_uid")
    wrong = [
        f"{row}: expected {right}"
        for row, right in zip(frame.to_pylist(), expected.to_pylist(), strict=True)
        if row != right
    ]
    print("\n".join(wrong[:10]))
    if wrong:
        sys.exit(f"{len(wrong)} of {expected.num_rows} rows are not as expected")


if __name__ == "__main__":
    main()
