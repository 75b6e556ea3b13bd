"""Reads every table of a lake as an ML engineer would, and prints what it holds as JSON.

Usage: read_lake.py LAKE [TABLE...]     (TABLE as in silver/orders_unified; without any, all of them)

For each table: its rows, its version, its columns with their types, and a digest of its rows that does not
depend on their order. A table that cannot be read is an error on standard error, and exit code 1.
"""

import hashlib
import json
import sys
from pathlib import Path

try:
    import lance
except ImportError as missing:
    sys.exit(f"{missing}. The tests' Python tools are installed by `make test`.")

LAYERS = ("bronze", "silver", "gold", "features", "embeddings")
MODULUS = 1 << 256


def digest_of(dataset: lance.LanceDataset) -> str:
    """The sum of the rows' digests: equal for equal rows in any order, each counted as often as it is there."""
    total = 0
    for batch in dataset.to_batches():
        for row in batch.to_pylist():
            encoded = json.dumps(row, sort_keys=True, default=str).encode()
            total += int.from_bytes(hashlib.sha256(encoded).digest(), "big")
    return f"{total % MODULUS:064x}"


def describe(path: Path) -> dict:
    dataset = lance.dataset(str(path))
    return {
        "rows": dataset.count_rows(),
        "version": dataset.version,
        "columns": {field.name: str(field.type) for field in dataset.schema},
        "digest": digest_of(dataset),
    }


def tables_of(lake: Path) -> list[str]:
    return sorted(
        f"{layer}/{path.stem}" for layer in LAYERS for path in (lake / layer).glob("*.lance") if path.is_dir()
    )


def main(lake: Path, tables: list[str]) -> int:
    described, unreadable = {}, []
    for table in tables or tables_of(lake):
        try:
            described[table] = describe(lake / f"{table}.lance")
        except (OSError, ValueError) as error:
            unreadable.append(f"{table}: {error}")
    json.dump(described, sys.stdout, indent=2)
    print()
    for fault in unreadable:
        print(fault, file=sys.stderr)
    return 1 if unreadable else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
