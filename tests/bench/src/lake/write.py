"""Lets pylance write a table, the second time to TABLE: python3 write.py LINES TABLE"""

import json
import sys
import time

import lance
import pyarrow as pa

source, target = sys.argv[1:]
lines = pa.ipc.open_file(pa.OSFile(source)).read_all()
for uri in (f"{target}.warm", target):
    start = time.perf_counter()
    lance.write_dataset(lines, uri, data_storage_version="2.2")
    seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds}))
