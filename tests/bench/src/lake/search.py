"""Lets LanceDB search by an IVF_FLAT index, the best it has for so many vectors: python3 search.py DIRECTORY"""

import json
import sys
import time

import lancedb
import pyarrow as pa
from lancedb.index import IvfFlat

K, LISTS, PROBES = 10, 256, 8

directory = sys.argv[1]


def read(name):
    return pa.ipc.open_file(pa.OSFile(f"{directory}/{name}.arrow")).read_all()


database = lancedb.connect(f"{directory}/lancedb")
if "vectors" in database.list_tables().tables:
    table = database.open_table("vectors")
else:
    table = database.create_table("vectors", read("vectors"))
    table.create_index("vector", config=IvfFlat(distance_type="cosine", num_partitions=LISTS))
queries = read("queries")["vector"].combine_chunks()
queries = queries.flatten().to_numpy().reshape(len(queries), -1)


def search(query):
    search = table.search(query).distance_type("cosine").nprobes(PROBES).limit(K)
    return search.select(["entity_id", "_distance"]).to_arrow()["entity_id"].to_pylist()


for query in queries[:100]:
    search(query)
micros, found = [], []
for query in queries:
    start = time.perf_counter()
    found.append(search(query))
    micros.append((time.perf_counter() - start) * 1e6)
print(json.dumps([micros, found]))
