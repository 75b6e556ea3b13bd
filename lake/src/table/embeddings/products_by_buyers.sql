-- Products by who buys them: products that the same customers buy lie near each other, whatever they are called. A
-- truncated singular value decomposition of the logarithms of how often each customer bought each product.
-- grain: one row per product that a known customer has bought
-- key: entity_id
-- owner: personalization
-- column entity_id: The product's sku.
-- column title: What the product is called.
-- column department: The top of the product's category path.
-- column category: The node below it.
-- column brand: Class of the product's brand, such as National or Private.
-- column updated_at: When the product was last bought.
WITH bought AS (
    SELECT sku, max(ordered_at) AS updated_at
    FROM gold.fct_order_line
    WHERE golden_id <> 'unknown' AND amount_minor >= 0 AND status IS DISTINCT FROM 'cancelled'
    GROUP BY sku
)
SELECT
    bought.sku AS entity_id,
    products.title,
    array_element(products.category_path, 1) AS department,
    array_element(products.category_path, 2) AS category,
    products.brand,
    bought.updated_at
FROM bought
LEFT JOIN silver.products_scd AS products ON products.sku = bought.sku AND products.is_current
ORDER BY entity_id
