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
    import pyarrow.parquet as pq
    from lance.file import LanceFileReader
except ImportError as missing:
    sys.exit(f"{missing}. `make test` installs it; without make: pip install --requirement tests/python/requirements.txt")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the lake's directory")
    parser.add_argument("values", nargs="+", help="what to look for")
    arguments = parser.parse_args()
    values = [value.lower() for value in arguments.values]

    found = [file for file in files(arguments.root) if holds(file, values)]
    tables = (path for path in arguments.root.rglob("*.lance") if path.is_dir())
    found += [place for table in tables for place, text in rows(table, values) if any(value in text for value in values)]
    for place in found:
        print(f"FOUND {place}")
    return 1 if found else 0


def files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())


def holds(file: Path, values: list[str]) -> bool:
    """Whether a file holds a value, as it is or decoded."""
    plain = file.read_bytes().lower()
    if any(value.encode() in plain for value in values):
        return True
    if file.suffix in (".lance", ".idx"):
        batches = LanceFileReader(str(file)).read_all().to_batches()
    elif file.suffix == ".parquet":
        batches = pq.ParquetFile(file).iter_batches()
    else:
        return False
    return any(value in str(batch.to_pylist()).lower() for batch in batches for value in values)


def rows(table: Path, values: list[str]) -> Iterator[tuple[str, str]]:
    """The rows of every version that can be read, as text, and what text indices answer."""
    newest = lance.dataset(str(table))
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
