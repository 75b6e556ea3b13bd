-- What each category sold in each month. Cancelled orders are left out; what was returned lowers
-- the amount, and counts as no order.
-- grain: one row per month, category and currency
-- key: month_start, category, currency
-- owner: analytics
-- schedule: */15 * * * *
-- column month_start: The month, by its first day in UTC.
-- column department: The top of the tree of categories that the category is in; `unknown` if nobody knows.
-- column category: The category: two levels of that tree; `unknown` if nobody knows.
-- column currency: The currency of the amounts.
-- column orders: Orders with a product of the category.
-- column customers: Different customers of these, among those whom somebody knows.
-- column products: Different products that were sold.
-- column lines: Lines of orders and returns.
-- column amount_minor: What was paid after discounts, in the currency's minor unit.
-- column discount_minor: What was taken off, in the currency's minor unit.
-- column share_ppm: The category's part of all that was paid in the month, in millionths, rounded down.
-- column discount_ppm: What was taken off, as a part of the price before, in millionths, rounded down.
WITH lines AS (
    SELECT
        CAST(date_trunc('month', business_date) AS DATE) AS month_start,
        department, category, currency, golden_id, order_uid, line.sku, amount_minor, discount_minor
    FROM gold.dim_product AS product
    JOIN gold.fct_order_line AS line ON line.sku = product.sku
    WHERE status IS DISTINCT FROM 'cancelled'
),
-- Grouped step by step: counting different values would keep all of them in memory.
orders AS (
    SELECT
        month_start, department, category, currency, golden_id, order_uid,
        count(*) AS lines,
        sum(amount_minor) AS amount_minor,
        sum(discount_minor) AS discount_minor
    FROM lines
    GROUP BY month_start, department, category, currency, golden_id, order_uid
),
customers AS (
    SELECT
        month_start, department, category, currency, golden_id,
        count(*) FILTER (WHERE amount_minor >= 0) AS orders,
        sum(lines) AS lines,
        sum(amount_minor) AS amount_minor,
        sum(discount_minor) AS discount_minor
    FROM orders
    GROUP BY month_start, department, category, currency, golden_id
),
sold AS (
    SELECT
        month_start, department, category, currency,
        sum(orders) AS orders,
        count(*) FILTER (WHERE golden_id <> 'unknown' AND orders > 0) AS customers,
        sum(lines) AS lines,
        sum(amount_minor) AS amount_minor,
        sum(discount_minor) AS discount_minor
    FROM customers
    GROUP BY month_start, department, category, currency
),
products AS (
    SELECT month_start, category, currency, sku, max(amount_minor) AS most_minor
    FROM lines
    GROUP BY month_start, category, currency, sku
),
assortments AS (
    SELECT month_start, category, currency, count(*) FILTER (WHERE most_minor >= 0) AS products
    FROM products
    GROUP BY month_start, category, currency
)
SELECT
    sold.month_start, department, sold.category, sold.currency, orders, customers, products, lines, amount_minor,
    discount_minor,
    -- Millions of what fits into a BIGINT may not.
    try_cast(
        CAST(amount_minor AS DECIMAL(38, 0)) * 1000000
            / nullif(sum(amount_minor) OVER (PARTITION BY sold.month_start, sold.currency), 0)
        AS BIGINT
    ) AS share_ppm,
    try_cast(
        CAST(discount_minor AS DECIMAL(38, 0)) * 1000000 / nullif(amount_minor + discount_minor, 0) AS BIGINT
    ) AS discount_ppm
FROM sold
JOIN assortments
    ON assortments.month_start = sold.month_start AND assortments.category = sold.category
    AND assortments.currency = sold.currency
