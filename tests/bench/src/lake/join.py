"""Lets Polars and DuckDB join point in time, the second time counts: python3 join.py DIRECTORY

What they find is written beside what they are given: for each row of the spine the row of the features.
"""

import json
import sys
import time

import duckdb
import polars as pl
import pyarrow as pa

directory = sys.argv[1]


def read(name, number):
    table = pa.ipc.open_file(pa.OSFile(f"{directory}/{name}.arrow")).read_all()
    return table.append_column(number, pa.array(range(len(table)), pa.uint32()))


spine, features = read("spine", "number"), read("features", "row").drop_columns("known_at")


def polars():
    # Both come in the order of time, which spares Polars sorting them.
    left = pl.from_arrow(spine).with_columns(pl.col("time").set_sorted())
    right = pl.from_arrow(features).with_columns(pl.col("event_time").set_sorted())
    sides = {"left_on": "time", "right_on": "event_time", "by": "entity", "check_sortedness": False}
    return lambda: left.join_asof(right, **sides).select("number", "row")


def in_duckdb():
    database = duckdb.connect(config={"threads": 2})
    database.execute("SET preserve_insertion_order = false")
    for name, table in (("spine", spine), ("features", features)):
        database.register("given", table)
        database.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
    query = """
        SELECT number, row
        FROM spine ASOF LEFT JOIN features ON spine.entity = features.entity AND time >= event_time
    """
    return lambda: database.sql(query).to_arrow_table()


seconds = {}
for name, engine in (("polars", polars), ("duckdb", in_duckdb)):
    join = engine()
    for _ in range(2):
        start = time.perf_counter()
        found = join()
        seconds[name] = time.perf_counter() - start
    found = pl.DataFrame(found).sort("number").select("row").to_arrow()
    with pa.ipc.new_file(f"{directory}/{name}.arrow", found.schema) as file:
        file.write_table(found.combine_chunks())
print(json.dumps(seconds))
