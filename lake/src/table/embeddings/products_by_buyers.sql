-- Products by who buys them: products that the same customers buy lie near each other, whatever they are called. A
-- truncated singular value decomposition of the logarithms of how often each customer bought each product.
-- grain: one row per product that a known customer has bought
-- key: entity_id
-- owner: personalization
-- schedule: 0 * * * *
-- optional: silver.inventory_snapshots (sku TEXT, on_hand BIGINT)
-- column entity_id: The product's sku.
-- column title: What the product is called.
-- column department: The product's department, as in gold.dim_product.
-- column category: Its category, as there.
-- column brand: Class of the product's brand, such as National or Private.
-- column in_stock: Whether any of it is on hand anywhere; null where no stock of it is known.
-- column updated_at: When the product was last bought.
WITH bought AS (
    SELECT sku, max(ordered_at) AS updated_at
    FROM gold.fct_order_line
    WHERE golden_id <> 'unknown' AND amount_minor >= 0 AND status IS DISTINCT FROM 'cancelled'
    GROUP BY sku
),
stock AS (
    SELECT sku, bool_or(on_hand > 0) AS in_stock
    FROM silver.inventory_snapshots
    GROUP BY sku
)
SELECT
    bought.sku AS entity_id,
    title, department, category, brand, in_stock,
    bought.updated_at
FROM bought
LEFT JOIN gold.dim_product ON dim_product.sku = bought.sku
LEFT JOIN stock ON stock.sku = bought.sku
ORDER BY entity_id
