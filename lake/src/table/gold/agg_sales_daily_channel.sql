-- What was sold on each day through each channel. Cancelled orders are left out; a return lowers the
-- amount, and is no order.
-- grain: one row per day, channel and currency
-- key: business_date, channel, currency
-- owner: analytics
-- parts: gold.fct_order_line by business_date
-- column business_date: The day in UTC.
-- column channel: Where the orders were placed: web, marketplace, pos.
-- column currency: The currency of the amounts.
-- column orders: Orders that were placed.
-- column customers: Different customers of these, among those whom somebody knows.
-- column lines: Lines of orders and returns.
-- column amount_minor: What was paid after discounts, in the currency's minor unit.
-- column discount_minor: What was taken off, in the currency's minor unit.
WITH orders AS (
    SELECT
        business_date, channel, currency, golden_id, order_uid,
        count(*) AS lines,
        sum(amount_minor) AS amount_minor,
        sum(discount_minor) AS discount_minor
    FROM gold.fct_order_line
    WHERE status IS DISTINCT FROM 'cancelled'
    GROUP BY business_date, channel, currency, golden_id, order_uid
)
SELECT
    business_date, channel, currency,
    count(*) FILTER (WHERE amount_minor >= 0) AS orders,
    count(DISTINCT CASE WHEN amount_minor >= 0 THEN nullif(golden_id, 'unknown') END) AS customers,
    sum(lines) AS lines,
    sum(amount_minor) AS amount_minor,
    sum(discount_minor) AS discount_minor
FROM orders
GROUP BY business_date, channel, currency
