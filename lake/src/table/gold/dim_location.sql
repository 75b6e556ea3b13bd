-- Where things are sold and stored, and `unknown` for orders that do not say where.
-- grain: one row per location
-- key: location_id
-- owner: analytics
-- optional: silver.stock_ledger (sku TEXT, location_id TEXT)
-- column location_id: The location.
-- column is_known: Whether it is one: false for `unknown` alone.
-- column first_order_on: The day in UTC of the first order that was sold or fulfilled there, neither cancelled nor a
-- return; null if none was.
-- column last_order_on: The day of the last one.
-- column orders: Such orders.
-- column stocked_products: Products whose stock there is known.
WITH orders AS (
    SELECT
        coalesce(location_id, 'unknown') AS location_id,
        CASE WHEN total_minor >= 0 AND status IS DISTINCT FROM 'cancelled' THEN business_date END AS sold_on
    FROM silver.orders_unified
),
sold AS (
    SELECT location_id, min(sold_on) AS first_order_on, max(sold_on) AS last_order_on, count(sold_on) AS orders
    FROM orders
    GROUP BY location_id
),
stocked AS (
    SELECT location_id, count(DISTINCT sku) AS products FROM silver.stock_ledger GROUP BY location_id
),
locations AS (
    SELECT location_id FROM sold
    UNION SELECT location_id FROM stocked
    UNION SELECT 'unknown' AS location_id
)
SELECT
    locations.location_id,
    locations.location_id <> 'unknown' AS is_known,
    first_order_on, last_order_on,
    coalesce(orders, 0) AS orders,
    coalesce(products, 0) AS stocked_products
FROM locations
LEFT JOIN sold ON sold.location_id = locations.location_id
LEFT JOIN stocked ON stocked.location_id = locations.location_id
