-- Products by the texts that describe them: products that mean alike lie near each other.
-- grain: one row per product that is described
-- key: entity_id
-- owner: personalization
-- schedule: 0 * * * *
-- optional: silver.inventory_snapshots (sku TEXT, on_hand BIGINT)
-- column entity_id: The product's sku.
-- column text: What the vector was made of: the title, then the categories from the nearest up, in lower case.
-- column department: The product's department, as in gold.dim_product.
-- column category: Its category, as there.
-- column brand: Class of the product's brand, such as National or Private.
-- column in_stock: Whether any of it is on hand anywhere; null where no stock of it is known.
-- column updated_at: When the product became so.
WITH described AS (
    SELECT
        sku, title, valid_from,
        -- Where a product's own title is the last node of its path, it need not be said twice.
        CASE
            WHEN regexp_replace(lower(title), '[^\p{Alphabetic}\p{M}\p{N}]', '-', 'g') = array_element(category_path, -1)
            THEN array_pop_back(category_path)
            ELSE category_path
        END AS nodes
    FROM silver.products_scd
    WHERE is_current
),
stock AS (
    SELECT sku, bool_or(on_hand > 0) AS in_stock
    FROM silver.inventory_snapshots
    GROUP BY sku
)
SELECT
    described.sku AS entity_id,
    concat_ws(', ', described.title, nullif(replace(array_to_string(array_reverse(nodes), ', '), '-', ' '), '')) AS text,
    department, category, brand, in_stock,
    valid_from AS updated_at
FROM described
LEFT JOIN gold.dim_product ON dim_product.sku = described.sku
LEFT JOIN stock ON stock.sku = described.sku
ORDER BY entity_id
