"""Makes what both sides are given, of the demo's lake: python3 inputs.py LAKE DIRECTORY"""

import sys

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Rows of a batch, which is also what the exporter commits at once.
ROWS = 50_000
QUERIES, K, SEED = 1_000, 10, 17
# How far a query is from the vector that it was made of: nobody asks for what is already there.
DISTANCE = 0.1

lake, directory = sys.argv[1:]


def write(name, table):
    with pa.ipc.new_file(f"{directory}/{name}.arrow", table.schema) as file:
        file.write_table(table.combine_chunks(), max_chunksize=ROWS)


def spine(lines):
    """Who bought when, in the order of time, asked about the moment before: the order itself is not known yet."""
    times = pc.subtract(lines["ordered_at"], pa.scalar(1_000_000, pa.duration("us")))
    return pa.table({"entity": lines["golden_id"], "time": times}).sort_by("time")


def features(lines):
    """A row for each order, as known at once; of those that an entity placed at the same time there is one."""
    orders = lines.group_by(["golden_id", "ordered_at"]).aggregate([])
    orders = orders.sort_by([("ordered_at", "ascending"), ("golden_id", "ascending")])
    entity, time = orders["golden_id"], orders["ordered_at"]
    return pa.table({"entity": entity, "event_time": time, "known_at": time})


def vectors():
    table = lance.dataset(f"{lake}/embeddings/products__wl256.lance", version="prod").to_table()
    return table.select(["entity_id", "vector"])


def queries(vectors):
    """Vectors near some of the table's, each with how near the last of its nearest is, by comparing with all."""
    every = vectors["vector"].combine_chunks().flatten().to_numpy().reshape(len(vectors), -1)
    random = np.random.default_rng(SEED)
    asked = every[random.integers(len(every), size=QUERIES)]
    spread = DISTANCE * (3 / every.shape[1]) ** 0.5
    asked = asked + random.uniform(-spread, spread, asked.shape).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    last = [np.partition(every @ query, -K)[-K] for query in asked]
    asked = pa.FixedSizeListArray.from_arrays(pa.array(asked.ravel()), every.shape[1])
    return pa.table({"vector": asked, "similarity": pa.array(last, pa.float32())})


lines = lance.dataset(f"{lake}/gold/fct_order_line.lance").to_table()
write("lines", lines)
write("spine", spine(lines))
write("features", features(lines))
embedded = vectors()
write("vectors", embedded)
write("queries", queries(embedded))
