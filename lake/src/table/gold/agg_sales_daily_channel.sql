-- What was sold on each day through each channel. Cancelled orders are left out.
-- grain: one row per day, channel and currency
-- key: business_date, channel, currency
-- owner: analytics
-- parts: gold.fct_order_line by business_date
-- column business_date: The day in UTC.
-- column channel: Where the orders were placed: web, marketplace, pos.
-- column currency: The currency of the amounts.
-- column orders: Orders that were placed.
-- column customers: Different customers among those whom somebody knows.
-- column lines: Lines of these orders.
-- column amount_minor: What was paid after discounts, in the currency's minor unit.
-- column discount_minor: What was taken off, in the currency's minor unit.
SELECT
    business_date, channel, currency,
    count(DISTINCT order_uid) AS orders,
    count(DISTINCT nullif(golden_id, 'unknown')) AS customers,
    count(*) AS lines,
    sum(amount_minor) AS amount_minor,
    sum(discount_minor) AS discount_minor
FROM gold.fct_order_line
WHERE status IS DISTINCT FROM 'cancelled'
GROUP BY business_date, channel, currency
