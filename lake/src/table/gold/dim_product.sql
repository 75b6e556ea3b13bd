-- Products as they are now; how they were is in silver.products_scd. A product that was sold, stored or looked at but is
-- in no catalogue is here by its number alone.
-- grain: one row per product
-- key: sku
-- owner: analytics
-- optional: silver.orders_unified (lines STRUCT<sku TEXT>[])
-- optional: silver.stock_ledger (sku TEXT)
-- optional: silver.events_sessionized (sku TEXT)
-- column sku: The product's stock-keeping unit.
-- column is_known: Whether it is in the catalogue.
-- column title: What it is called.
-- column manufacturer_id: Who makes it: the source's number.
-- column brand: Class of its brand, such as National or Private.
-- column department: The top of the tree of categories that it is in; `unknown` if nobody knows.
-- column category: The next level of that tree, with the top; the top where there is no next; `unknown` if nobody knows.
-- column category_id: The category that it is in, all the way down.
-- column package_size: Size of its package, as the source wrote it.
WITH catalogue AS (
    SELECT * FROM silver.products_scd WHERE is_current
),
seen AS (
    SELECT line['sku'] AS sku FROM (SELECT unnest(lines) AS line FROM silver.orders_unified)
    UNION SELECT sku FROM silver.stock_ledger
    UNION SELECT sku FROM silver.events_sessionized WHERE sku IS NOT NULL
    UNION SELECT sku FROM catalogue
)
SELECT
    seen.sku,
    catalogue.sku IS NOT NULL AS is_known,
    title, manufacturer_id, brand,
    coalesce(category_path[1], 'unknown') AS department,
    coalesce(nullif(array_to_string(category_path[1:2], '.'), ''), 'unknown') AS category,
    category_id, package_size
FROM seen
LEFT JOIN catalogue ON catalogue.sku = seen.sku
