#!/usr/bin/env python3
"""Looks for a person in every file of a lake: decoded where values are compressed, in every version, tag and branch.

Example: erase_check.py data/lake ada@example.com Lovelace C-0042

Prints a line for each place. Exit code 1 if there is any.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

try:
    import lance
    import pyarrow as pa
    import pyarrow.parquet as pq
    from lance.file import LanceFileReader
    from pyarrow import fs
except ImportError as missing:
    sys.exit(f"{missing}. `make test` installs it; without make: pip install --requirement tests/python/requirements.txt")
from lake_check import storage_options


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="the lake's directory, or s3://bucket/prefix as the AWS_... variables open it")
    parser.add_argument("values", nargs="+", help="what to look for")
    arguments = parser.parse_args()
    values = [value.lower() for value in arguments.values]

    scheme = "s3://" if "://" in arguments.root else ""
    options = storage_options(arguments.root)
    place = arguments.root if scheme else Path(arguments.root).absolute().as_uri()
    files, base = fs.FileSystem.from_uri(place)
    entries = files.get_file_info(fs.FileSelector(base, recursive=True))
    paths = sorted(entry.path for entry in entries if entry.is_file and entry.size)
    tables = sorted({f"{path.split('.lance/')[0]}.lance" for path in paths if ".lance/" in path})

    found = []
    for path in paths:
        with files.open_input_file(path) as file:
            if holds(f"{scheme}{path}", file.read(), options, values):
                found.append(path)
    for table in tables:
        places = rows(f"{scheme}{table}", options, values)
        found += [place for place, text in places if any(value in text for value in values)]
    for place in found:
        print(f"FOUND {place}")
    return 1 if found else 0


def holds(file: str, content: bytes, options: dict[str, str] | None, values: list[str]) -> bool:
    """Whether a file holds a value, as it is or decoded."""
    plain = content.lower()
    if any(value.encode() in plain for value in values):
        return True
    if file.endswith((".lance", ".idx")):
        batches = LanceFileReader(file, storage_options=options).read_all().to_batches()
    elif file.endswith(".parquet"):
        batches = pq.ParquetFile(pa.BufferReader(content)).iter_batches()
    else:
        return False
    return any(value in str(batch.to_pylist()).lower() for batch in batches for value in values)


def rows(table: str, options: dict[str, str] | None, values: list[str]) -> Iterator[tuple[str, str]]:
    """The rows of every version that can be read, as text, and what text indices answer."""
    newest = lance.dataset(table, storage_options=options)
    references = [("version", version["version"]) for version in newest.versions()]
    references += [("tag", tag) for tag in newest.tags.list()]
    references += [("branch", (branch, None)) for branch in newest.branches.list()]
    for kind, reference in references:
        dataset = newest.checkout_version(reference)
        yield f"{table}, {kind} {reference}", str(dataset.to_table().to_pylist()).lower()
    for index in newest.describe_indices():
        if index.index_type == "Inverted":
            for value in values:
                query = {"columns": index.field_names, "query": value}
                # Only words that nobody else has tell whether somebody is there.
                if value.isalpha() and newest.to_table(full_text_query=query).num_rows:
                    yield f"{table}, index {index.name}", value


if __name__ == "__main__":
    sys.exit(main())
