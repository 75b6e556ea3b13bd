"""Asks a lake by SQL through Arrow Flight SQL, as BI tools do, and judges the answers.

    flight_check.py URI (query|totals|rows|time) [HEADER=VALUE ...]
"""

import sys
import threading
import time

from adbc_driver_flightsql import DatabaseOptions, dbapi
from adbc_driver_manager import AdbcStatusCode

ENDLESS = "SELECT max(value % 7) FROM generate_series(1, 1000000000000)"


def connect(uri, headers, **more):
    """A connection on which every call carries the headers."""
    prefix = DatabaseOptions.RPC_CALL_HEADER_PREFIX.value
    options = {prefix + name: value for name, value in (headers | more).items()}
    return dbapi.connect(uri, db_kwargs=options, autocommit=True)


def rows(connection, sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def refusal(connection, sql, parameters=None):
    """What the lake says against a query."""
    try:
        answer = rows(connection, sql, parameters)
    except dbapi.Error as error:
        return error
    raise AssertionError(f"{sql} is answered: {answer[:3]}")


def query(uri, headers):
    with connect(uri, headers) as connection:
        [(orders, total)] = rows(
            connection, "SELECT count(*), sum(total_minor) FROM silver.orders_unified"
        )
        assert orders > 0 and total > 0, (orders, total)
        [(lines,)] = rows(connection, "SELECT count(*) FROM fct_order_line")
        assert lines > orders, "gold is where names without a layer lead"

        # What is streamed is what is counted.
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM silver.orders_unified")
            table = cursor.fetch_arrow_table()
        assert table.num_rows == orders
        assert sum(table["total_minor"].to_pylist()) == total

        [(order,)] = rows(connection, "SELECT max(order_uid) FROM silver.orders_unified")
        by_name = "SELECT count(*) FROM silver.orders_unified WHERE order_uid = ? AND total_minor >= ?"
        assert rows(connection, by_name, (order, -1)) == [(1,)]
        assert rows(connection, by_name, (order, 10**12)) == [(0,)]
        assert rows(connection, "SELECT concat($1, $1)", ("ab",)) == [("abab",)]

        listed = connection.adbc_get_objects(depth="columns").read_all().to_pylist()
        [catalog] = listed
        assert catalog["catalog_name"] == "lake"
        tables = {
            (schema["db_schema_name"], table["table_name"]): [
                column["column_name"] for column in table["table_columns"]
            ]
            for schema in catalog["catalog_db_schemas"]
            for table in schema["db_schema_tables"]
        }
        assert "order_uid" in tables["silver", "orders_unified"], tables
        assert not any(layer == "bronze" for layer, _ in tables), "what landed is not for BI"
        assert connection.adbc_get_table_types() == ["TABLE"]
        assert connection.adbc_get_info()["vendor_name"] == "Omnimesh"
        shown = rows(connection, "SHOW TABLES")
        assert ("lake", "silver", "orders_unified", "BASE TABLE") in shown, shown
        assert rows(connection, "EXPLAIN SELECT 1")
        assert rows(connection, "DESCRIBE silver.orders_unified")

        for sql, hint in [
            ("SELECT nothing FROM silver.orders_unified", "nothing"),
            ("SELECT 1 FROM gold.dim_nothing", "dim_nothing"),
            ("SELECT 1 FROM bronze.bronze_shop__orders", "bronze"),
            ("SELECT * FROM '/etc/passwd'", "passwd"),
            ("DELETE FROM silver.orders_unified", "DML"),
            ("CREATE TABLE x AS SELECT 1", "DDL"),
            ("SELECT count(*) FROM silver.orders_unified WHERE order_uid = ?", "parameter"),
            ("SELECT 1 / 0", "zero"),
        ]:
            error = refusal(connection, sql)
            assert error.status_code == AdbcStatusCode.INVALID_ARGUMENT, error
            assert hint in str(error) and "\n" not in str(error), error
        cancel(connection)
        assert rows(connection, "SELECT 1") == [(1,)], "the lake goes on"

    with connect(uri, headers, **{"omnimesh-tag": "prod"}) as connection:
        assert rows(connection, "SELECT count(*) FROM gold.fct_order_line") == [(lines,)]
    with connect(uri, headers, **{"omnimesh-tag": "never"}) as connection:
        error = refusal(connection, "SELECT count(*) FROM gold.fct_order_line")
        assert error.status_code == AdbcStatusCode.NOT_FOUND and "never" in str(error), error


def totals(uri, headers):
    with connect(uri, headers) as connection:
        sql = "SELECT count(*), sum(cardinality(lines)), sum(total_minor) FROM silver.orders_unified"
        [found] = rows(connection, sql)
        print(*found)


def cancel(connection):
    """A query that would not end in our time ends as soon as it is cancelled."""
    with connection.cursor() as cursor:
        cursor.execute(ENDLESS)
        asking = threading.Event()
        said = []

        def fetch():
            asking.set()
            try:
                said.append(cursor.fetchall())
            except dbapi.Error as error:
                said.append(error)

        thread = threading.Thread(target=fetch)
        thread.start()
        asking.wait()
        began = time.monotonic()
        # A cancel that comes before the fetch waits is lost in the driver.
        while thread.is_alive() and time.monotonic() < began + 30:
            cursor.adbc_cancel()
            thread.join(0.1)
        assert not thread.is_alive(), "the query goes on"
        assert isinstance(said[0], dbapi.Error), said
        assert said[0].status_code == AdbcStatusCode.CANCELLED, said[0]


def limits(uri, headers):
    with connect(uri, headers) as connection:
        assert len(rows(connection, "SELECT * FROM generate_series(1, 1000)")) == 1000
        error = refusal(connection, "SELECT * FROM generate_series(1, 1001)")
        assert "more than 1000 rows" in str(error) and "LIMIT" in str(error), error
        # What a join looks up stays in memory.
        wide = "(SELECT repeat('x', 1000) || value AS text FROM generate_series(1, 100000))"
        error = refusal(connection, f"SELECT count(*) FROM {wide} a JOIN {wide} b ON a.text = b.text")
        assert "more memory" in str(error), error


def late(uri, headers):
    with connect(uri, headers) as connection:
        error = refusal(connection, ENDLESS)
        assert "longer than 1 seconds" in str(error), error
        assert error.status_code == AdbcStatusCode.TIMEOUT, error


if __name__ == "__main__":
    _, uri, check, *headers = sys.argv
    headers = dict(header.split("=", 1) for header in headers)
    {"query": query, "totals": totals, "rows": limits, "time": late}[check](uri, headers)
