-- What each category sold in each month. Cancelled orders are left out.
-- grain: one row per month, category and currency
-- key: month_start, category, currency
-- owner: analytics
-- column month_start: The month, by its first day in UTC.
-- column department: The top of the tree of categories that the category is in; `unknown` if nobody knows.
-- column category: The category: two levels of that tree; `unknown` if nobody knows.
-- column currency: The currency of the amounts.
-- column orders: Orders with a product of the category.
-- column customers: Different customers of these, among those whom somebody knows.
-- column products: Different products that were sold.
-- column lines: Lines of orders.
-- column amount_minor: What was paid after discounts, in the currency's minor unit.
-- column discount_minor: What was taken off, in the currency's minor unit.
-- column share_ppm: The category's part of all that was paid in the month, in millionths, rounded down.
-- column discount_ppm: What was taken off, as a part of the price before, in millionths, rounded down.
WITH sold AS (
    SELECT
        CAST(date_trunc('month', business_date) AS DATE) AS month_start,
        department, category, currency,
        count(DISTINCT order_uid) AS orders,
        count(DISTINCT nullif(golden_id, 'unknown')) AS customers,
        count(DISTINCT line.sku) AS products,
        count(*) AS lines,
        sum(amount_minor) AS amount_minor,
        sum(discount_minor) AS discount_minor
    FROM gold.fct_order_line AS line
    JOIN gold.dim_product AS product ON product.sku = line.sku
    WHERE status IS DISTINCT FROM 'cancelled'
    GROUP BY date_trunc('month', business_date), department, category, currency
)
SELECT
    *,
    amount_minor * 1000000 / nullif(sum(amount_minor) OVER (PARTITION BY month_start, currency), 0) AS share_ppm,
    discount_minor * 1000000 / nullif(amount_minor + discount_minor, 0) AS discount_ppm
FROM sold
