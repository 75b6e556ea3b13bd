-- Orders as facts about their customers: what each came to, and from when on it was known.
-- An order that was placed before the first one was ever recorded, and that came within a day of that one, was known to
-- the retailer as it was placed; any other from when we last heard of it.
WITH birth AS (
    SELECT min(first_seen) AS birth
    FROM silver.orders_unified
),
lines AS (
    SELECT order_uid, unnest(lines) AS line
    FROM silver.orders_unified
),
totals AS (
    SELECT
        order_uid AS order_of_lines,
        count(*) AS lines,
        sum(line['quantity']) AS units,
        max(line['amount_minor']) AS largest_line_minor
    FROM lines
    GROUP BY order_uid
)
SELECT
    coalesce(golden_id, '') AS subject,
    order_uid,
    ordered_at,
    CASE WHEN ordered_at < birth AND last_event_time < birth + INTERVAL '1 day' THEN ordered_at
        ELSE greatest(ordered_at, last_event_time) END AS known_at,
    channel,
    status,
    coalesce(location_id, '') AS location_id,
    coalesce(golden_id, '') AS golden_id,
    golden_id IS NOT NULL AS is_customer_known,
    currency,
    coalesce(totals.lines, 0) AS lines,
    coalesce(units, 0) AS units,
    total_minor AS amount_minor,
    discount_minor,
    coalesce(largest_line_minor, 0) AS largest_line_minor
FROM birth
CROSS JOIN silver.orders_unified
LEFT JOIN totals ON order_of_lines = order_uid
WHERE ordered_at IS NOT NULL
ORDER BY subject, ordered_at, order_uid
