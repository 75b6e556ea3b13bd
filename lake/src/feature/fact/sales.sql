-- Lines of orders that stand as facts about products, and from when on they were known, as in orders.sql.
WITH birth AS (
    SELECT min(first_seen) AS birth
    FROM silver.orders_unified
),
lines AS (
    SELECT
        order_uid, ordered_at, last_event_time, channel, location_id, golden_id, currency,
        unnest(lines) AS line
    FROM silver.orders_unified
    WHERE ordered_at IS NOT NULL AND status IS DISTINCT FROM 'cancelled'
)
SELECT
    line['sku'] AS subject,
    order_uid,
    ordered_at,
    CASE WHEN ordered_at < birth AND last_event_time < birth + INTERVAL '1 day' THEN ordered_at
        ELSE greatest(ordered_at, last_event_time) END AS known_at,
    channel,
    coalesce(location_id, '') AS location_id,
    coalesce(golden_id, '') AS golden_id,
    golden_id IS NOT NULL AS is_customer_known,
    currency,
    CAST(1 AS BIGINT) AS lines,
    line['quantity'] AS units,
    line['amount_minor'] AS amount_minor,
    line['discount_minor'] AS discount_minor,
    line['amount_minor'] AS largest_line_minor
FROM birth
CROSS JOIN lines
ORDER BY subject, ordered_at, order_uid
