#!/usr/bin/env python3
"""Opens every table of a lake as an ML engineer would, and checks that it keeps its promises.

Example: lake_check.py data/lake --summary summary.json

Prints what each table holds, then a line for each broken promise. Exit code 1 if there is any.
"""

import argparse
import hashlib
import json
import os
import sys
from datetime import datetime
from pathlib import Path

try:
    import lance
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.fs as fs
except ImportError as missing:
    sys.exit(f"{missing}. `make test` installs it; without make: pip install --requirement tests/python/requirements.txt")

LAYERS = ["bronze", "silver", "gold", "features", "embeddings"]
KEY = b"lance-schema:unenforced-primary-key"
TIME = "timestamp[us, tz=UTC]"

BRONZE = {
    "_ingest_id": "string",
    "_source": "string",
    "_entity": "string",
    "_object": "string",
    "_position": "string",
    "_op": "string",
    "_received_at": TIME,
    "_trace_id": "string",
    "_payload": "string",
    "_payload_sha256": "fixed_size_binary[32]",
}
SILVER = {
    "users_scd": {
        "user_sk": "string",
        "golden_id": "string",
        "version": "int64",
        "valid_from": TIME,
        "valid_to": TIME,
        "recorded_from": TIME,
        "recorded_to": TIME,
        "is_current": "bool",
        "given_name": "string",
        "family_name": "string",
        "email": "string",
        "phone": "string",
        "addr": "struct<line: string, city: string, postcode: string, country: string>",
        "loyalty_cards": "list<string>",
        "attr_source": f"list<struct<column: string, system: string, id: string, updated_at: {TIME}, rule: string>>",
        "source_refs": "list<struct<system: string, id: string>>",
        "identity_version": "int64",
        "hash_diff": "string",
    },
    "orders_unified": {
        "order_uid": "string",
        "golden_id": "string",
        "channel": "string",
        "origin_system": "string",
        "ordered_at": TIME,
        "business_date": "date32[day]",
        "location_id": "string",
        "status": "string",
        "currency": "string",
        "subtotal_minor": "int64",
        "discount_minor": "int64",
        "total_minor": "int64",
        "paid_minor": "int64",
        "source_refs": "list<struct<system: string, id: string, version: int64, role: string>>",
        "match_rule": "string",
        "lines": "list<struct<sku: string, quantity: int64, amount_minor: int64, discount_minor: int64>>",
        "payments": "list<struct<psp_ref: string, method: string, amount_minor: int64>>",
        "first_seen": TIME,
        "last_event_time": TIME,
        "lineage_id": "string",
    },
    "inventory_snapshots": {
        "sku": "string",
        "location_id": "string",
        "as_of": TIME,
        "on_hand": "int64",
        "last_count_at": TIME,
        "ledger_seq": "int64",
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="the lake's directory, or s3://bucket/prefix as the AWS_... variables open it")
    parser.add_argument("--summary", type=Path, help="what the lake must hold: a JSON file of what lake::summary returns")
    arguments = parser.parse_args()

    found: dict[str, dict[str, int]] = {}
    faults: list[str] = []
    for layer, table in tables(arguments.root):
        name = f"{layer}/{table}"
        found[name] = {}
        try:
            dataset = lance.dataset(f"{arguments.root}/{name}.lance", storage_options=storage_options(arguments.root))
            found[name] = sums_of(dataset)
            faults += [f"{name}: {fault}" for fault in faults_of(layer, table, dataset)]
        except Exception as error:  # Whatever a table raises is a fault of that table.
            faults.append(f"{name}: cannot be read: {error}")
    if not found:
        faults.append(f"there is no table in {arguments.root}")
    if arguments.summary:
        faults += differences(found, json.loads(arguments.summary.read_text()))

    report(found)
    for fault in faults:
        print(f"FAILED {fault}")
    return 1 if faults else 0


def tables(root: str) -> list[tuple[str, str]]:
    """The layer and name of every table."""
    files, base = fs.FileSystem.from_uri(root if "://" in root else Path(root).absolute().as_uri())
    places = [
        (layer, Path(entry.path))
        for layer in LAYERS
        for entry in files.get_file_info(fs.FileSelector(f"{base}/{layer}", allow_not_found=True))
    ]
    return sorted((layer, path.stem) for layer, path in places if path.suffix == ".lance")


def storage_options(root: str) -> dict[str, str] | None:
    """How Lance reaches a store that is not AWS itself."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint or "://" not in root:
        return None
    return {"aws_endpoint": endpoint, "allow_http": "true"}


def sums_of(dataset: lance.LanceDataset) -> dict[str, int]:
    """The number of rows and the sums by path, by the rules of lake::summary: of a bitemporal table, what stands."""
    stands = "recorded_to IS NULL" if "recorded_to" in dataset.schema.names else None
    sums = {"rows": dataset.count_rows(filter=stands)}
    counted = (pa.types.is_int64, pa.types.is_boolean, pa.types.is_list, pa.types.is_struct)
    columns = [field.name for field in dataset.schema if any(kind(field.type) for kind in counted)]
    for batch in dataset.to_batches(columns=columns, filter=stands) if columns else ():
        for name, column in zip(columns, batch.columns, strict=True):
            add(sums, name, column)
    return sums


def add(sums: dict[str, int], path: str, values: pa.Array) -> None:
    """Adds whole numbers up, and counts what is true and the items of lists."""
    if pa.types.is_int64(values.type) or pa.types.is_boolean(values.type):
        total = sums.get(path, 0) + (pc.sum(values).as_py() or 0)
        # Versions that are times add up to more than 64 bits hold; pyarrow and lake::summary wrap around.
        sums[path] = (total + 2**63) % 2**64 - 2**63
    elif pa.types.is_list(values.type):
        items = values.flatten()
        sums[path] = sums.get(path, 0) + len(items)
        if pa.types.is_struct(items.type):
            add(sums, path, items)
    elif pa.types.is_struct(values.type):
        for field, column in zip(values.type, values.flatten(), strict=True):
            add(sums, f"{path}.{field.name}", column)


def differences(found: dict[str, dict[str, int]], summary: list[dict]) -> list[str]:
    """Where a lake and its summary disagree; the summary leaves out columns that two runs may fill differently."""
    expected = {f"{table['layer']}/{table['table']}": {"rows": table["rows"], **table["sums"]} for table in summary}
    faults = [f"{name}: is not in the summary" for name in found.keys() - expected.keys()]
    for name, sums in expected.items():
        for path, value in sums.items():
            if found.get(name, {}).get(path) != value:
                faults.append(f"{name}: {path} is {found.get(name, {}).get(path)}, not {value}")
    return sorted(faults)


def faults_of(layer: str, table: str, dataset: lance.LanceDataset) -> list[str]:
    faults = format_faults(dataset) + column_faults(layer, table, dataset.schema) + key_faults(dataset)
    if layer == "bronze":
        faults += payload_faults(dataset)
    if table == "users_scd":
        faults += period_faults(dataset)
    if table == "orders_unified":
        faults += reference_faults(dataset) + derived_faults(dataset)
    return faults


def format_faults(dataset: lance.LanceDataset) -> list[str]:
    faults = []
    if dataset.data_storage_version != "2.2":
        faults.append(f"its file version is {dataset.data_storage_version}, not 2.2")
    if not dataset.has_stable_row_ids:
        faults.append("its row ids are not stable")
    return faults


def column_faults(layer: str, table: str, schema: pa.Schema) -> list[str]:
    """Columns that are missing, unknown or of another type than promised, and money without a currency."""
    columns = {field.name: spell(field.type) for field in schema}
    promised = BRONZE if layer == "bronze" else SILVER.get(table, columns) if layer == "silver" else columns
    names = sorted(columns.keys() | promised.keys())
    faults = [
        f"its column {name} is {columns.get(name, 'missing')}, not {promised.get(name, 'promised')}"
        for name in names
        if columns.get(name) != promised.get(name)
    ]
    money = [name for name in columns if name.endswith("_minor")]
    faults += [f"its column {name} is money, so int64" for name in money if columns[name] != "int64"]
    if money and columns.get("currency") != "string":
        faults.append("it has money without a currency")
    return faults


def spell(kind: pa.DataType) -> str:
    """A type as one writes it: without the names of lists' items and without what may be null."""
    if pa.types.is_list(kind):
        return f"list<{spell(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{field.name}: {spell(field.type)}' for field in kind)}>"
    return str(kind)


def key_faults(dataset: lance.LanceDataset) -> list[str]:
    """Every table has a primary key, without nulls and without repetition."""
    keys = [field for field in dataset.schema if field.metadata and field.metadata.get(KEY) == b"true"]
    if not keys:
        return ["it has no primary key"]
    faults = [f"its key {field.name} may be null" for field in keys if field.nullable]
    names = [field.name for field in keys]
    rows = dataset.to_table(columns=names)
    repeated = rows.num_rows - rows.group_by(names).aggregate([]).num_rows
    if repeated:
        faults.append(f"{repeated} rows repeat the key {', '.join(names)}")
    return faults


def payload_faults(dataset: lance.LanceDataset) -> list[str]:
    """Every payload has the digest that stands beside it."""
    altered = 0
    for batch in dataset.to_batches(columns=["_payload", "_payload_sha256"]):
        pairs = zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
        altered += sum(hashlib.sha256(payload.encode()).digest() != digest for payload, digest in pairs)
    return [f"{altered} payloads are not what their digest says"] if altered else []


def period_faults(dataset: lance.LanceDataset) -> list[str]:
    """At every moment, what was recorded of a customer had no overlap and no gap; what stands has one current row."""
    columns = ["golden_id", "version", "valid_from", "valid_to", "recorded_from", "recorded_to", "is_current"]
    rows = dataset.to_table(columns=columns).sort_by([("golden_id", "ascending"), ("valid_from", "ascending")])
    customers: dict[str, list[dict]] = {}
    for row in rows.to_pylist():
        customers.setdefault(row["golden_id"], []).append(row)
    return [f"{golden_id}: {fault}" for golden_id, rows in customers.items() for fault in history_faults(rows)]


def history_faults(rows: list[dict]) -> list[str]:
    """What is wrong with all that was ever recorded of one customer, oldest first in valid time."""
    faults = set()
    if any(row["recorded_to"] is not None and row["recorded_to"] <= row["recorded_from"] for row in rows):
        faults.add("a row was closed before it was recorded")
    for moment in {row["recorded_from"] for row in rows}:
        then = [row for row in rows if row["recorded_from"] <= moment and not ended(row["recorded_to"], moment)]
        if [row["valid_to"] for row in then] != [row["valid_from"] for row in then[1:]] + [None]:
            faults.add("periods overlap or leave a gap")
        if [row["version"] for row in then] != list(range(1, len(then) + 1)):
            faults.add("the versions do not count up from 1")
    stands = [row for row in rows if row["recorded_to"] is None]
    current = [row for row in rows if row["is_current"]]
    if current != stands[-1:]:
        faults.add("the current row is not exactly the last one that stands")
    return sorted(faults)


def ended(end: datetime | None, moment: datetime) -> bool:
    return end is not None and end <= moment


def reference_faults(dataset: lance.LanceDataset) -> list[str]:
    """Every order was seen by a system, and no system's order is a part of two."""
    references = dataset.to_table(columns=["source_refs"]).column(0)
    faults = []
    unseen = pc.sum(pc.equal(pc.list_value_length(references), 0)).as_py()
    if unseen:
        faults.append(f"{unseen} orders have no source")
    items = pa.concat_arrays([chunk.flatten() for chunk in references.chunks])
    keys = pa.table({"system": items.field("system"), "id": items.field("id")})
    shared = keys.num_rows - keys.group_by(["system", "id"]).aggregate([]).num_rows
    if shared:
        faults.append(f"{shared} source references are in more than one order")
    return faults


def derived_faults(dataset: lance.LanceDataset) -> list[str]:
    """What an order's row repeats in other words says the same."""
    columns = ["subtotal_minor", "discount_minor", "total_minor", "ordered_at", "business_date"]
    rows = dataset.to_table(columns=columns)
    total = pc.subtract(rows["subtotal_minor"], rows["discount_minor"])
    agreements = {
        "subtotal less discount is not the total": pc.equal(total, rows["total_minor"]),
        "the business date is not the day of the order": pc.equal(
            pc.cast(rows["ordered_at"], pa.date32()), rows["business_date"]
        ),
    }
    broken = {fault: pc.sum(pc.invert(agrees)).as_py() for fault, agrees in agreements.items()}
    return [f"{rows} times {fault}" for fault, rows in broken.items() if rows]


def report(found: dict[str, dict[str, int]]) -> None:
    """Prints a line for each table."""
    width = max((len(name) for name in found), default=0)
    for name, sums in found.items():
        rest = "  ".join(f"{path}={value:,}" for path, value in sums.items() if path != "rows")
        print(f"{name:<{width}}  {sums.get('rows', 0):>12,} rows  {rest}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
