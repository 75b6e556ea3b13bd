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
from datetime import datetime, timedelta
from pathlib import Path

try:
    import lance
    import lancedb
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.fs as fs
except ImportError as missing:
    sys.exit(f"{missing}. `make test` installs it; without make: pip install --requirement tests/python/requirements.txt")

from lake_gold import GOLD, Lake, columns_of, gold_faults
from lake_vectors import vector_faults

LAYERS = ["bronze", "silver", "gold", "features", "embeddings"]
KEY = b"lance-schema:unenforced-primary-key"
TIME = "timestamp[us, tz=UTC]"

BRONZE = {
    "_ingest_id": "string",
    "_source": "string",
    "_entity": "string",
    "_object": "string",
    "_revision": "int64",
    "_position": "string",
    "_op": "string",
    "_received_at": TIME,
    "_trace_id": "string",
    "_columns": "string",
    "_subject_keys": "string",
    "_payload": "string",
    "_payload_bytes": "binary",
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
        "payments": "list<struct<psp_ref: string, method: string, auth_code: string, amount_minor: int64>>",
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
    "stock_ledger": {
        "movement_id": "string",
        "location_id": "string",
        "sku": "string",
        "kind": "string",
        "quantity": "int64",
        "occurred_at": TIME,
        "source_system": "string",
        "source_id": "string",
        "ledger_seq": "int64",
        "recorded_from": TIME,
        "recorded_to": TIME,
    },
    "products_scd": {
        "product_sk": "string",
        "sku": "string",
        "valid_from": TIME,
        "valid_to": TIME,
        "recorded_from": TIME,
        "recorded_to": TIME,
        "is_current": "bool",
        "title": "string",
        "manufacturer_id": "string",
        "brand": "string",
        "category_id": "string",
        "category_path": "list<string>",
        "package_size": "string",
    },
    "identity_links": {
        "link_id": "string",
        "source_system": "string",
        "source_id": "string",
        "golden_id": "string",
        "recorded_from": TIME,
        "recorded_to": TIME,
    },
    "events_sessionized": {
        "event_id": "string",
        "event_type": "string",
        "occurred_at": TIME,
        "session_id": "string",
        "session_seq": "int64",
        "visitor_id": "string",
        "customer_id": "string",
        "golden_id": "string",
        "sku": "string",
        "quantity": "int64",
        "query": "string",
        "results": "int64",
        "order_id": "string",
        "order_uid": "string",
        "total_minor": "int64",
        "currency": "string",
        "line_count": "int64",
        "source_session_id": "string",
        "received_at": TIME,
    },
    "campaigns": {
        "campaign_id": "string",
        "campaign_type": "string",
        "starts_on": "date32[day]",
        "ends_on": "date32[day]",
        "received_at": TIME,
    },
    "campaign_members": {
        "campaign_id": "string",
        "card_number": "string",
        "golden_id": "string",
        "received_at": TIME,
    },
    "coupons": {"coupon_upc": "string", "sku": "string", "campaign_id": "string", "received_at": TIME},
    "redemptions": {
        "card_number": "string",
        "coupon_upc": "string",
        "campaign_id": "string",
        "redeemed_on": "date32[day]",
        "golden_id": "string",
        "received_at": TIME,
    },
    "demographics": {
        "card_number": "string",
        "golden_id": "string",
        "age": "string",
        "income": "string",
        "home_ownership": "string",
        "marital_status": "string",
        "household_size": "string",
        "household_comp": "string",
        "kids_count": "string",
        "received_at": TIME,
    },
}
SESSION_PAUSE = timedelta(minutes=30)


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
            dataset = open_table(arguments.root, layer, table)
            found[name] = sums_of(dataset)
            faults += [f"{name}: {fault}" for fault in faults_of(arguments.root, layer, table, dataset)]
        except Exception as error:  # Whatever a table raises is a fault of that table.
            faults.append(f"{name}: cannot be read: {error}")
    for layer in sorted({layer for layer, _ in tables(arguments.root)}):
        faults += database_faults(arguments.root, layer)
    try:
        faults += gold_faults(Lake(found, lambda name: open_table(arguments.root, *name.split("/"))))
    except Exception as error:
        faults.append(f"gold: cannot be compared: {error}")
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


def open_table(root: str, layer: str, table: str) -> lance.LanceDataset:
    return lance.dataset(f"{root}/{layer}/{table}.lance", storage_options=storage_options(root))


def storage_options(root: str) -> dict[str, str] | None:
    """In a store that is not AWS itself Lance wants to be told where that is."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    return {"aws_endpoint": endpoint, "allow_http": "true"} if endpoint and "://" in root else None


def database_faults(root: str, layer: str) -> list[str]:
    """A layer is a database of LanceDB, which finds in it the same tables with as many rows."""
    try:
        database = lancedb.connect(f"{root}/{layer}", storage_options=storage_options(root))
        found = {name: database.open_table(name).count_rows() for name in database.list_tables(limit=1000).tables}
        names = [name for of, name in tables(root) if of == layer]
        expected = {name: open_table(root, layer, name).count_rows() for name in names}
    except Exception as error:
        return [f"{layer}: cannot be read by LanceDB: {error}"]
    return [] if found == expected else [f"{layer}: LanceDB finds {found}, not {expected}"]


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


def faults_of(root: str, layer: str, table: str, dataset: lance.LanceDataset) -> list[str]:
    faults = format_faults(layer, dataset) + column_faults(layer, table, dataset.schema) + key_faults(dataset)
    if layer == "bronze":
        faults += payload_faults(dataset)
    if layer == "embeddings":
        faults += vector_faults(table, dataset)
    if "is_current" in dataset.schema.names:
        faults += period_faults(dataset)
    if table == "identity_links":
        faults += link_faults(dataset)
    if table == "orders_unified":
        faults += reference_faults(dataset) + derived_faults(dataset)
    if table == "inventory_snapshots":
        faults += ledger_faults(root, dataset)
    if table == "events_sessionized":
        faults += session_faults(dataset)
    return faults


def format_faults(layer: str, dataset: lance.LanceDataset) -> list[str]:
    faults = []
    if dataset.data_storage_version != "2.2":
        faults.append(f"its file version is {dataset.data_storage_version}, not 2.2")
    # Vectors are made anew as a whole, so that there is no change to tell of.
    if layer != "embeddings" and not dataset.has_stable_row_ids:
        faults.append("its row ids are not stable")
    return faults


def column_faults(layer: str, table: str, schema: pa.Schema) -> list[str]:
    """Columns that are missing, unknown or of another type than promised, and money without a currency."""
    columns = {field.name: spell(field.type) for field in schema}
    promised = columns
    if layer == "bronze":
        promised = BRONZE
    elif layer == "silver":
        promised = SILVER.get(table, columns)
    elif table in GOLD:
        promised = columns_of(table)
    names = sorted(columns.keys() | promised.keys())
    faults = [
        f"its column {name} is {columns.get(name, 'missing')}, not {promised.get(name, 'promised')}"
        for name in names
        if columns.get(name) != promised.get(name)
    ]
    money = [name for name in columns if name.endswith("_minor")]
    faults += [f"its column {name} is money, so int64" for name in money if columns[name] != "int64"]
    # A view of features counts in the one currency that its card names.
    if money and layer != "features" and columns.get("currency") != "string":
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
    """Every record has the digest that stands beside it."""
    altered = 0
    for batch in dataset.to_batches(columns=["_payload", "_payload_bytes", "_payload_sha256"]):
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        altered += sum(
            hashlib.sha256(payload.encode() if own is None else own).digest() != digest for payload, own, digest in rows
        )
    return [f"{altered} payloads are not what their digest says"] if altered else []


def period_faults(dataset: lance.LanceDataset) -> list[str]:
    """At every moment, what was recorded of a subject had no overlap and no gap; what stands has one current row."""
    # Whose periods they are comes first, after the row's own key.
    subject = dataset.schema.names[1]
    columns = ["valid_from", "valid_to", "recorded_from", "recorded_to", "is_current"]
    columns += [subject] + [name for name in dataset.schema.names if name == "version"]
    rows = dataset.to_table(columns=columns).sort_by([(subject, "ascending"), ("valid_from", "ascending")])
    subjects: dict[str, list[dict]] = {}
    for row in rows.to_pylist():
        subjects.setdefault(row[subject], []).append(row)
    return [f"{subject}: {fault}" for subject, rows in subjects.items() for fault in history_faults(rows)]


def history_faults(rows: list[dict]) -> list[str]:
    """What is wrong with all that was ever recorded of one subject, oldest first in valid time."""
    faults = set()
    if any(row["recorded_to"] is not None and row["recorded_to"] <= row["recorded_from"] for row in rows):
        faults.add("a row was closed before it was recorded")
    for moment in {row["recorded_from"] for row in rows}:
        then = [row for row in rows if row["recorded_from"] <= moment and not ended(row["recorded_to"], moment)]
        if [row["valid_to"] for row in then] != [row["valid_from"] for row in then[1:]] + [None]:
            faults.add("periods overlap or leave a gap")
        if [row.get("version", place) for place, row in enumerate(then, 1)] != list(range(1, len(then) + 1)):
            faults.add("the versions do not count up from 1")
    stands = [row for row in rows if row["recorded_to"] is None]
    current = [row for row in rows if row["is_current"]]
    if current != stands[-1:]:
        faults.add("the current row is not exactly the last one that stands")
    return sorted(faults)


def ended(end: datetime | None, moment: datetime) -> bool:
    return end is not None and end <= moment


def link_faults(dataset: lance.LanceDataset) -> list[str]:
    """A record is one person's at any time since it was first recorded, without overlap and without gap."""
    columns = ["source_system", "source_id", "recorded_from", "recorded_to"]
    rows = dataset.to_table(columns=columns).sort_by([(name, "ascending") for name in columns[:3]]).to_pylist()
    faults = []
    for row, after in zip(rows, rows[1:] + [{}], strict=True):
        record = [row["source_system"], row["source_id"]]
        is_last = record != [after.get("source_system"), after.get("source_id")]
        if row["recorded_to"] != (None if is_last else after["recorded_from"]):
            faults.append(f"{'/'.join(record)}: links overlap or leave a gap")
    return faults


def ledger_faults(root: str, dataset: lance.LanceDataset) -> list[str]:
    """What is on hand of every stock is its last count, and what moved after it."""
    if ("silver", "stock_ledger") not in tables(root):
        return ["there is no stock_ledger beside it"]
    columns = ["location_id", "sku", "kind", "quantity", "occurred_at", "ledger_seq"]
    ledger = open_table(root, "silver", "stock_ledger").to_table(columns=columns, filter="recorded_to IS NULL").to_pylist()
    stocks: dict[tuple[str, str], list[dict]] = {}
    for movement in ledger:
        stocks.setdefault((movement["location_id"], movement["sku"]), []).append(movement)
    faults = []
    for row in dataset.to_table(columns=["location_id", "sku", "on_hand"]).to_pylist():
        movements = stocks.get((row["location_id"], row["sku"]), [])
        counts = [movement for movement in movements if movement["kind"] == "count"]
        last = max(counts, key=lambda count: (count["occurred_at"], count["ledger_seq"]), default=None)
        moved = [m for m in movements if m["kind"] != "count" and (last is None or m["occurred_at"] > last["occurred_at"])]
        on_hand = (last["quantity"] if last else 0) + sum(movement["quantity"] for movement in moved)
        if on_hand != row["on_hand"]:
            faults.append(f"{row['location_id']}/{row['sku']}: {row['on_hand']} on hand, {on_hand} by the ledger")
    return faults


def session_faults(dataset: lance.LanceDataset) -> list[str]:
    """A session goes on as long as its visitor pauses for no more than half an hour, and is one customer's."""
    columns = ["visitor_id", "occurred_at", "event_id", "session_id", "session_seq", "customer_id", "golden_id"]
    rows = dataset.to_table(columns=columns).sort_by([(name, "ascending") for name in columns[:3]]).to_pylist()
    faults = []
    for before, row in zip([{}] + rows[:-1], rows, strict=True):
        goes_on = before.get("visitor_id") == row["visitor_id"]
        goes_on = goes_on and row["occurred_at"] - before["occurred_at"] <= SESSION_PAUSE
        same = ["session_id", "customer_id", "golden_id"]
        if goes_on and [row[name] for name in same] != [before[name] for name in same]:
            faults.append(f"{row['event_id']}: its session differs from the one that goes on")
        if not goes_on and row["session_id"] == before.get("session_id"):
            faults.append(f"{row['event_id']}: its session goes on after a pause")
        if row["session_seq"] != (before["session_seq"] + 1 if goes_on else 1):
            faults.append(f"{row['event_id']}: its place in the session is {row['session_seq']}")
    return faults


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
