#!/usr/bin/env python3
"""Opens every table of a lake as an ML engineer would, and checks that it keeps its promises.

Example: lake_check.py data/lake --expect '{"silver/orders_unified": {"rows": 155848, "lines": 1469307}}'
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import lance
import pyarrow as pa
import pyarrow.compute as pc

LAYERS = ["bronze", "silver", "gold", "features", "embeddings"]
KEY = b"lance-schema:unenforced-primary-key"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the lake's directory")
    parser.add_argument(
        "--expect",
        default="{}",
        help="JSON, or the path of a file with it: by `layer/table`, the number of `rows` and the sums by path, such as "
        "`total_minor`, `lines` (how many) and `lines.quantity`",
    )
    arguments = parser.parse_args()
    text = arguments.expect
    expected = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text())

    failures = []
    found = {}
    for path in sorted(path for layer in LAYERS for path in (arguments.root / layer).glob("*.lance")):
        name = f"{path.parent.name}/{path.stem}"
        try:
            found[name], faults = check(name, lance.dataset(str(path)))
        except Exception as error:  # Whatever a table raises is a failure of that table.
            found[name], faults = {}, [f"cannot be read: {error}"]
        failures += [f"{name}: {fault}" for fault in faults]
    for name, sums in expected.items():
        for path, value in sums.items():
            if found.get(name, {}).get(path) != value:
                failures.append(f"{name}: {path} is {found.get(name, {}).get(path)}, not {value}")

    if not found:
        failures.append(f"there is no table in {arguments.root}")
    report(found)
    for failure in failures:
        print(f"FAILED {failure}")
    return 1 if failures else 0


def check(name: str, dataset: lance.LanceDataset) -> tuple[dict[str, int], list[str]]:
    """The table's sums, and what is wrong with it."""
    faults = []
    if dataset.data_storage_version != "2.2":
        faults.append(f"its file version is {dataset.data_storage_version}, not 2.2")
    if not dataset.has_stable_row_ids:
        faults.append("its row ids are not stable")
    keys = [field for field in dataset.schema if field.metadata and field.metadata.get(KEY) == b"true"]
    if not keys:
        faults.append("it has no primary key")
    faults += [f"its key {field.name} may be null" for field in keys if field.nullable]

    sums = {"rows": dataset.count_rows()}
    names = [field.name for field in keys]
    distinct = dataset.to_table(columns=names).group_by(names).aggregate([]).num_rows if names else 0
    if names and distinct != sums["rows"]:
        faults.append(f"{sums['rows'] - distinct} rows repeat the key {', '.join(names)}")
    for field in dataset.schema:
        if pa.types.is_integer(field.type) or pa.types.is_list(field.type):
            for batch in dataset.to_batches(columns=[field.name]):
                add(sums, field.name, batch.column(0))
    if name.startswith("bronze/"):
        faults += payload_faults(dataset)
    if name == "silver/users_scd":
        faults += period_faults(dataset)
    return sums, faults


def add(sums: dict[str, int], path: str, values: pa.Array) -> None:
    """Adds whole numbers up, and counts the items of lists."""
    if pa.types.is_integer(values.type):
        sums[path] = sums.get(path, 0) + (pc.sum(values).as_py() or 0)
    elif pa.types.is_list(values.type):
        items = values.flatten()
        sums[path] = sums.get(path, 0) + len(items)
        if pa.types.is_struct(items.type):
            for field, column in zip(items.type, items.flatten(), strict=True):
                add(sums, f"{path}.{field.name}", column)


def payload_faults(dataset: lance.LanceDataset) -> list[str]:
    """Every payload has the digest that stands beside it."""
    altered = 0
    for batch in dataset.to_batches(columns=["_payload", "_payload_sha256"]):
        pairs = zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
        altered += sum(hashlib.sha256(payload.encode()).digest() != digest for payload, digest in pairs)
    return [f"{altered} payloads are not what their digest says"] if altered else []


def period_faults(dataset: lance.LanceDataset) -> list[str]:
    """Each customer has one current row, and periods without overlap or gap."""
    faults = []
    columns = ["golden_id", "version", "valid_from", "valid_to", "is_current"]
    rows = dataset.to_table(columns=columns).sort_by([("golden_id", "ascending"), ("valid_from", "ascending")])
    customers: dict[str, list[dict]] = {}
    for row in rows.to_pylist():
        customers.setdefault(row["golden_id"], []).append(row)
    for golden_id, periods in customers.items():
        if [row["is_current"] for row in periods] != [False] * (len(periods) - 1) + [True]:
            faults.append(f"{golden_id} has not exactly one current row, the last")
        ends = [row["valid_to"] for row in periods]
        if ends != [row["valid_from"] for row in periods[1:]] + [None]:
            faults.append(f"the periods of {golden_id} overlap or leave a gap")
        if [row["version"] for row in periods] != list(range(1, len(periods) + 1)):
            faults.append(f"the versions of {golden_id} do not count up from 1")
    return faults


def report(found: dict[str, dict[str, int]]) -> None:
    """Prints a line for each table."""
    width = max((len(name) for name in found), default=0)
    for name, sums in found.items():
        rest = "  ".join(f"{path}={value:,}" for path, value in sums.items() if path != "rows")
        print(f"{name:<{width}}  {sums.get('rows', 0):>12,} rows  {rest}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
