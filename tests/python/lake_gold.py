"""What the gold layer promises: its columns, and that its tables agree with each other and with silver."""

from collections.abc import Callable, Collection

import lance
import pyarrow as pa
import pyarrow.compute as pc

TIME = "timestamp[us, tz=UTC]"
DATE = "date32[day]"

# The columns of each table, by their types.
GOLD = {
    "dim_customer": {
        "string": "golden_id given_name family_name email phone street city postcode country age income home_ownership"
        " marital_status household_size household_comp kids_count",
        "bool": "is_known",
        "int64": "loyalty_cards",
        TIME: "known_since",
    },
    "dim_product": {
        "string": "sku title manufacturer_id brand department category category_id package_size",
        "bool": "is_known",
    },
    "dim_location": {
        "string": "location_id",
        "bool": "is_known",
        DATE: "first_order_on last_order_on",
        "int64": "orders stocked_products",
    },
    "dim_date": {
        DATE: "business_date month_start week_start",
        "int64": "year quarter month day day_of_year iso_year iso_week weekday",
        "string": "month_name weekday_name",
        "bool": "is_weekend",
    },
    "dim_promotion": {
        "string": "promo_id campaign_type",
        DATE: "starts_on ends_on",
        "int64": "days coupons products members",
    },
    "fct_order_line": {
        "string": "order_uid golden_id channel origin_system location_id status currency sku",
        "int64": "line_no quantity amount_minor discount_minor",
        TIME: "ordered_at",
        DATE: "business_date",
    },
    "fct_inventory_daily": {
        "string": "sku location_id",
        DATE: "business_date",
        "int64": "opening received sold adjusted count_difference on_hand movements days unit_days stockout_days",
    },
    "fct_session": {
        "string": "session_id visitor_id golden_id currency",
        DATE: "business_date",
        TIME: "began_at ended_at",
        "int64": "seconds events views searches vain_searches baskets purchases products amount_minor",
    },
    "agg_customer_360": {
        "string": "golden_id currency top_department top_location_id",
        "bool": "is_known",
        DATE: "as_of first_order_on last_order_on",
        TIME: "known_since last_session_at",
        "int64": "loyalty_cards orders web_orders marketplace_orders pos_orders days_since_order amount_minor"
        " average_order_minor products departments sessions views searches baskets purchases redemptions",
    },
    "agg_sales_daily_channel": {
        DATE: "business_date",
        "string": "channel currency",
        "int64": "orders customers lines amount_minor discount_minor",
    },
    "agg_category_kpi": {
        DATE: "month_start",
        "string": "department category currency",
        "int64": "orders customers products lines amount_minor discount_minor share_ppm discount_ppm",
    },
    "agg_promo_lift": {
        "string": "promo_id currency",
        "int64": "redemptions coupons households customers redeemed_minor basket_minor days days_before amount_minor"
        " amount_before_minor expected_minor lift_minor lift_ppm",
    },
    "agg_rfm_clv": {
        "string": "golden_id currency",
        DATE: "as_of first_order_on last_order_on",
        "int64": "recency_days frequency monetary_minor r_score f_score m_score active_months tenure_months"
        " clv_year_minor",
    },
}

# Which columns of facts name a row of which dimension.
REFERENCES = [
    ("fct_order_line", "golden_id", "dim_customer"),
    ("fct_order_line", "sku", "dim_product"),
    ("fct_order_line", "location_id", "dim_location"),
    ("fct_order_line", "business_date", "dim_date"),
    ("fct_inventory_daily", "sku", "dim_product"),
    ("fct_inventory_daily", "location_id", "dim_location"),
    ("fct_inventory_daily", "business_date", "dim_date"),
    ("fct_session", "golden_id", "dim_customer"),
    ("fct_session", "business_date", "dim_date"),
    ("agg_customer_360", "golden_id", "dim_customer"),
    ("agg_promo_lift", "promo_id", "dim_promotion"),
    ("agg_rfm_clv", "golden_id", "dim_customer"),
]


def columns_of(table: str) -> dict[str, str]:
    """The columns that a table of the layer has, with their types."""
    return {name: kind for kind, names in GOLD[table].items() for name in names.split()}


class Lake:
    """The tables of a lake by layer and name; of a bitemporal one, what stands."""

    def __init__(self, names: Collection[str], opened: Callable[[str], lance.LanceDataset]) -> None:
        self.names = names
        self.opened = opened

    def has(self, *tables: str) -> bool:
        return all(table in self.names for table in tables)

    def rows(self, table: str, columns: list[str]) -> pa.Table:
        dataset = self.opened(table)
        stands = "recorded_to IS NULL" if "recorded_to" in dataset.schema.names else None
        return dataset.to_table(columns=columns, filter=stands)


def gold_faults(lake: Lake) -> list[str]:
    """Where the layer's tables disagree with each other, or with what they were computed from."""
    faults = [fault for reference in REFERENCES for fault in reference_faults(lake, *reference)]
    if lake.has("gold/fct_order_line", "silver/orders_unified"):
        faults += order_line_faults(lake)
    if lake.has("gold/fct_inventory_daily", "silver/inventory_snapshots"):
        faults += inventory_faults(lake)
    if lake.has("gold/fct_session", "silver/events_sessionized"):
        faults += session_faults(lake)
    if lake.has("gold/dim_date"):
        faults += calendar_faults(lake)
    return faults


def reference_faults(lake: Lake, fact: str, column: str, dimension: str) -> list[str]:
    """Whatever a fact is about is in its dimension."""
    if not lake.has(f"gold/{fact}", f"gold/{dimension}"):
        return []
    known = lake.rows(f"gold/{dimension}", [column])[column].combine_chunks()
    named = pc.unique(lake.rows(f"gold/{fact}", [column])[column])
    lost = pc.sum(pc.invert(pc.is_in(named, value_set=known))).as_py()
    return [f"gold/{fact}: {lost} values of {column} are not in {dimension}"] if lost else []


def order_line_faults(lake: Lake) -> list[str]:
    """Lines are those of the orders, day by day; aggregates are what the lines that were not cancelled come to."""
    orders = lake.rows("silver/orders_unified", ["business_date", "lines"])
    lists = orders["lines"].combine_chunks()
    days = orders["business_date"].combine_chunks().take(pc.list_parent_indices(lists))
    ordered = pa.table({"business_date": days, "amount_minor": lists.flatten().field("amount_minor")})
    columns = ["business_date", "amount_minor", "currency", "golden_id", "order_uid", "status"]
    lines = lake.rows("gold/fct_order_line", columns)
    faults = differing("gold/fct_order_line: lines", lines.num_rows, ordered.num_rows)
    wanted = by_day(ordered, "amount_minor")
    faults += differing("gold/fct_order_line: amounts by day", by_day(lines, "amount_minor"), wanted)
    sold = lines.filter(pc.fill_null(pc.not_equal(lines["status"], "cancelled"), True))
    if lake.has("gold/agg_sales_daily_channel"):
        sales = lake.rows("gold/agg_sales_daily_channel", ["business_date", "lines", "amount_minor"])
        faults += differing("gold/agg_sales_daily_channel: lines", pc.sum(sales["lines"]).as_py() or 0, sold.num_rows)
        found, wanted = by_day(sales, "amount_minor"), by_day(sold, "amount_minor")
        faults += differing("gold/agg_sales_daily_channel: amounts by day", found, wanted)
    total = pc.sum(sold["amount_minor"]).as_py() or 0
    if lake.has("gold/agg_category_kpi"):
        kpi = lake.rows("gold/agg_category_kpi", ["amount_minor"])
        faults += differing("gold/agg_category_kpi: amount", pc.sum(kpi["amount_minor"]).as_py() or 0, total)
    if lake.has("gold/agg_rfm_clv"):
        bought = sold.filter(pc.not_equal(sold["golden_id"], "unknown"))
        rfm = lake.rows("gold/agg_rfm_clv", ["golden_id", "currency", "monetary_minor", "frequency"]).to_pylist()
        found = {(row["golden_id"], row["currency"]): [row["monetary_minor"], row["frequency"]] for row in rfm}
        faults += differing("gold/agg_rfm_clv: amount and orders by customer", found, spending(bought))
    return faults


def spending(lines: pa.Table) -> dict[tuple[str, str], list[int]]:
    """What customers paid in each currency, and in how many orders: what comes to less than 0 is a return."""
    orders = lines.group_by(["golden_id", "currency", "order_uid"]).aggregate([("amount_minor", "sum")])
    spent: dict[tuple[str, str], list[int]] = {}
    for order in orders.to_pylist():
        sums = spent.setdefault((order["golden_id"], order["currency"]), [0, 0])
        sums[0] += order["amount_minor_sum"]
        sums[1] += order["amount_minor_sum"] >= 0
    return {customer: sums for customer, sums in spent.items() if sums[1]}


def by_day(rows: pa.Table, *sums: str) -> dict:
    """The sums of each day, by the day."""
    grouped = rows.group_by("business_date").aggregate([(name, "sum") for name in sums])
    columns = [grouped[name].to_pylist() for name in ["business_date"] + [f"{name}_sum" for name in sums]]
    return {day: totals for day, *totals in zip(*columns, strict=True)}


def inventory_faults(lake: Lake) -> list[str]:
    """A day begins as the one before it ended and adds up; the last one ends with what is there now."""
    rows = lake.rows("gold/fct_inventory_daily", list(columns_of("fct_inventory_daily")))
    rows = rows.sort_by([(name, "ascending") for name in ("sku", "location_id", "business_date")]).to_pylist()
    faults, last = [], {}
    for row in rows:
        stock = (row["sku"], row["location_id"])
        moved = row["received"] - row["sold"] + row["adjusted"] + row["count_difference"]
        if row["opening"] != last.get(stock, 0) or row["opening"] + moved != row["on_hand"] or row["days"] < 1:
            faults.append(f"gold/fct_inventory_daily: {'/'.join(stock)} does not add up on {row['business_date']}")
        last[stock] = row["on_hand"]
    now = lake.rows("silver/inventory_snapshots", ["sku", "location_id", "on_hand"]).to_pylist()
    now = {(row["sku"], row["location_id"]): row["on_hand"] for row in now}
    return faults + differing("gold/fct_inventory_daily: on hand at last", last, now)


def session_faults(lake: Lake) -> list[str]:
    """Each event of the clickstream is counted in one session."""
    events = lake.rows("silver/events_sessionized", ["event_type", "session_id"])
    sessions = lake.rows("gold/fct_session", ["events", "views", "searches", "baskets"])
    kinds = {pair["values"]: pair["counts"] for pair in pc.value_counts(events["event_type"]).to_pylist()}
    wanted = [events.num_rows, kinds.get("view", 0), kinds.get("search", 0), kinds.get("basket", 0)]
    found = [pc.sum(sessions[name]).as_py() or 0 for name in sessions.column_names]
    faults = differing("gold/fct_session: events, views, searches, baskets", found, wanted)
    return faults + differing(
        "gold/fct_session: sessions", sessions.num_rows, pc.count_distinct(events["session_id"]).as_py()
    )


def calendar_faults(lake: Lake) -> list[str]:
    """The calendar lacks no day between its first and its last, and counts them as Python does."""
    faults, before = [], None
    columns = ["business_date", "iso_year", "iso_week", "weekday", "day_of_year"]
    for row in lake.rows("gold/dim_date", columns).sort_by("business_date").to_pylist():
        day = row["business_date"]
        if before is not None and (day - before).days != 1:
            faults.append(f"gold/dim_date: days are missing before {day}")
        if (*day.isocalendar(), day.timetuple().tm_yday) != tuple(row.values())[1:]:
            faults.append(f"gold/dim_date: {day} is {row}")
        before = day
    return faults


def differing(what: str, found: object, wanted: object) -> list[str]:
    if found == wanted:
        return []
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = [key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)]
        return [f"{what}: {len(keys)} differ, such as {key}: {found.get(key)}, not {wanted.get(key)}" for key in keys[:1]]
    return [f"{what}: {found}, not {wanted}"]
