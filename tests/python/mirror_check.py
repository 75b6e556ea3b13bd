#!/usr/bin/env python3
"""Reads a table's Parquet as DuckDB, Polars and pyarrow do, and compares it with the table.

Example: mirror_check.py data/lake/gold/fct_order_line.lance prod data/lake/mirror/parquet/gold/fct_order_line/v=7
"""

import json
import sys
from pathlib import Path

try:
    import duckdb
    import lance
    import polars as pl
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError as missing:
    sys.exit(f"{missing}. `make test` installs it; without make: pip install --requirement tests/python/requirements.txt")


def main(table: str, tag: str, directory: Path) -> None:
    dataset = lance.dataset(table, version=tag)
    rows = dataset.to_table()
    numbers = [field.name for field in rows.schema if pa.types.is_integer(field.type)]
    sums = {name: pc.sum(rows[name]).as_py() for name in numbers}

    success = json.loads((directory / "_SUCCESS.json").read_text())
    assert (success["version"], success["tag"]) == (dataset.version, tag), success
    assert success["rows"] == rows.num_rows > 0, success
    assert sorted(success["parts"]) == sorted(path.name for path in directory.glob("*.parquet")), success

    parquet = pq.read_table(directory)
    assert parquet.select(rows.column_names).cast(rows.schema).equals(rows), "pyarrow reads other rows"

    glob = str(directory / "*.parquet")
    found = pl.read_parquet(glob)
    assert found.height == rows.num_rows
    assert {name: found[name].sum() for name in numbers} == {name: value or 0 for name, value in sums.items()}

    wanted = "".join(f', sum("{name}")' for name in numbers)
    count, *found = duckdb.sql(f"SELECT count(*){wanted} FROM read_parquet('{glob}')").fetchall()[0]
    assert count == rows.num_rows
    assert dict(zip(numbers, found, strict=True)) == sums


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
