-- Sales as facts about products: what an order had of one, and from when on it was known, as in purchases.sql.
WITH lines AS (
    SELECT order_uid, unnest(lines) AS line
    FROM silver.orders_unified
),
sold AS (
    SELECT
        line['sku'] AS sku,
        order_uid,
        count(*) AS lines,
        sum(line['quantity']) AS units,
        sum(line['amount_minor']) AS amount_minor,
        sum(line['discount_minor']) AS discount_minor,
        max(line['amount_minor']) AS largest_line_minor
    FROM lines
    GROUP BY sku, order_uid
),
birth AS (
    SELECT min(first_seen) AS birth
    FROM silver.orders_unified
)
SELECT
    sku AS subject,
    sold.order_uid,
    ordered_at,
    CASE WHEN ordered_at >= birth AND last_event_time > ordered_at THEN last_event_time ELSE ordered_at END AS known_at,
    channel,
    coalesce(location_id, '') AS location_id,
    coalesce(golden_id, '') AS golden_id,
    golden_id IS NOT NULL AS is_customer_known,
    currency,
    sold.lines,
    units,
    sold.amount_minor,
    sold.discount_minor,
    largest_line_minor
FROM sold
JOIN silver.orders_unified AS orders ON orders.order_uid = sold.order_uid
CROSS JOIN birth
WHERE ordered_at IS NOT NULL
ORDER BY subject, ordered_at, sold.order_uid
