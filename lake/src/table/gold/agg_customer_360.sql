-- All that is known of each customer's doings, in one row. Cancelled orders are left out; a return lowers what was
-- paid, and is no order; now is the last day on which anything was sold. Who the customer is, is in dim_customer.
-- grain: one row per customer
-- key: golden_id
-- owner: analytics
-- schedule: */15 * * * *
-- optional: gold.fct_session (golden_id TEXT, began_at TIMESTAMP, views BIGINT, searches BIGINT, baskets BIGINT, purchases BIGINT)
-- optional: silver.redemptions (golden_id TEXT)
-- column golden_id: The person. [pii=quasi] [volatile]
-- column is_known: Whether there is a profile.
-- column loyalty_cards: How many loyalty cards the person has.
-- column known_since: When the oldest profile became true, by the sources' own times.
-- column as_of: The last day on which anything was sold to anybody.
-- column orders: Orders.
-- column web_orders: Orders in the web shop.
-- column marketplace_orders: Orders at a marketplace.
-- column pos_orders: Orders at a till.
-- column first_order_on: The day in UTC of the first order.
-- column last_order_on: The day of the last one.
-- column days_since_order: Days from the last order to `as_of`.
-- column currency: The currency in which the customer orders most often; of several the first by name.
-- column amount_minor: What was paid in that currency less what was paid back, in its minor unit.
-- column average_order_minor: What was paid for an order in that currency on average, rounded down.
-- column products: Different products that were bought.
-- column departments: Different departments that these are of.
-- column top_department: The department with most lines of orders; of several the first by name.
-- column top_location_id: Where the customer orders most often; of several the first by name.
-- column sessions: Visits to the web shop.
-- column last_session_at: When the last one began.
-- column views: Products that were looked at there.
-- column searches: Searches there.
-- column baskets: Products that were put into the basket there.
-- column purchases: Orders that were placed in these visits.
-- column redemptions: Coupons that were redeemed.
WITH spent AS (
    SELECT
        golden_id, as_of, first_order_on, last_order_on, frequency, currency, monetary_minor,
        row_number() OVER (PARTITION BY golden_id ORDER BY frequency DESC, currency) AS place
    FROM gold.agg_rfm_clv
),
bought AS (
    SELECT
        golden_id,
        sum(frequency) AS orders,
        min(first_order_on) AS first_order_on,
        max(last_order_on) AS last_order_on,
        max(CASE WHEN place = 1 THEN currency END) AS currency,
        max(CASE WHEN place = 1 THEN monetary_minor END) AS amount_minor,
        max(CASE WHEN place = 1 THEN monetary_minor / frequency END) AS average_order_minor
    FROM spent
    GROUP BY golden_id
),
today AS (
    SELECT max(as_of) AS as_of FROM spent
),
-- Grouped step by step: counting different values would keep all of them in memory.
orders AS (
    SELECT golden_id, location_id, channel, order_uid
    FROM gold.fct_order_line
    WHERE golden_id <> 'unknown' AND status IS DISTINCT FROM 'cancelled'
    GROUP BY golden_id, location_id, channel, order_uid
    HAVING sum(amount_minor) >= 0
),
locations AS (
    SELECT
        golden_id, location_id,
        count(*) AS orders,
        count(*) FILTER (WHERE channel = 'web') AS web_orders,
        count(*) FILTER (WHERE channel = 'marketplace') AS marketplace_orders,
        count(*) FILTER (WHERE channel = 'pos') AS pos_orders
    FROM orders
    GROUP BY golden_id, location_id
),
places AS (
    SELECT *, row_number() OVER (PARTITION BY golden_id ORDER BY orders DESC, location_id) AS place FROM locations
),
channels AS (
    SELECT
        golden_id,
        sum(web_orders) AS web_orders,
        sum(marketplace_orders) AS marketplace_orders,
        sum(pos_orders) AS pos_orders,
        max(CASE WHEN place = 1 THEN location_id END) AS top_location_id
    FROM places
    GROUP BY golden_id
),
products AS (
    SELECT golden_id, sku, count(*) AS lines
    FROM gold.fct_order_line
    WHERE golden_id <> 'unknown' AND amount_minor >= 0 AND status IS DISTINCT FROM 'cancelled'
    GROUP BY golden_id, sku
),
departments AS (
    SELECT golden_id, department, count(*) AS products, sum(lines) AS lines
    FROM gold.dim_product
    JOIN products ON products.sku = dim_product.sku
    GROUP BY golden_id, department
),
tastes AS (
    SELECT *, row_number() OVER (PARTITION BY golden_id ORDER BY lines DESC, department) AS place FROM departments
),
assortments AS (
    SELECT
        golden_id,
        sum(products) AS products,
        count(*) AS departments,
        max(CASE WHEN place = 1 THEN department END) AS top_department
    FROM tastes
    GROUP BY golden_id
),
visits AS (
    SELECT
        golden_id,
        count(*) AS sessions,
        max(began_at) AS last_session_at,
        sum(views) AS views,
        sum(searches) AS searches,
        sum(baskets) AS baskets,
        sum(purchases) AS purchases
    FROM gold.fct_session
    GROUP BY golden_id
),
coupons AS (
    SELECT golden_id, count(*) AS redemptions FROM silver.redemptions GROUP BY golden_id
)
SELECT
    customer.golden_id, is_known, loyalty_cards, known_since, as_of,
    coalesce(orders, 0) AS orders,
    coalesce(web_orders, 0) AS web_orders,
    coalesce(marketplace_orders, 0) AS marketplace_orders,
    coalesce(pos_orders, 0) AS pos_orders,
    first_order_on, last_order_on,
    CAST(CAST(as_of AS INT) - CAST(last_order_on AS INT) AS BIGINT) AS days_since_order,
    currency, amount_minor, average_order_minor,
    coalesce(products, 0) AS products,
    coalesce(departments, 0) AS departments,
    top_department, top_location_id,
    coalesce(sessions, 0) AS sessions,
    last_session_at,
    coalesce(views, 0) AS views,
    coalesce(searches, 0) AS searches,
    coalesce(baskets, 0) AS baskets,
    coalesce(purchases, 0) AS purchases,
    coalesce(redemptions, 0) AS redemptions
FROM gold.dim_customer AS customer
CROSS JOIN today
LEFT JOIN bought ON bought.golden_id = customer.golden_id
LEFT JOIN channels ON channels.golden_id = customer.golden_id
LEFT JOIN assortments ON assortments.golden_id = customer.golden_id
LEFT JOIN visits ON visits.golden_id = customer.golden_id
LEFT JOIN coupons ON coupons.golden_id = customer.golden_id
WHERE customer.golden_id <> 'unknown'
