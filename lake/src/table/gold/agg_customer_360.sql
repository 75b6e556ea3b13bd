-- All that is known of each customer's doings, in one row. Cancelled orders are left out; now is the last day on which
-- anything was sold. Who the customer is, is in dim_customer.
-- grain: one row per customer
-- key: golden_id
-- owner: analytics
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
-- column amount_minor: What was paid in that currency, in its minor unit.
-- column discount_minor: What was taken off in that currency, in its minor unit.
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
WITH lines AS (
    SELECT line.*, department
    FROM gold.fct_order_line AS line
    JOIN gold.dim_product AS product ON product.sku = line.sku
    WHERE status IS DISTINCT FROM 'cancelled'
),
today AS (
    SELECT max(business_date) AS as_of FROM lines
),
bought AS (
    SELECT
        golden_id,
        count(DISTINCT order_uid) AS orders,
        count(DISTINCT order_uid) FILTER (WHERE channel = 'web') AS web_orders,
        count(DISTINCT order_uid) FILTER (WHERE channel = 'marketplace') AS marketplace_orders,
        count(DISTINCT order_uid) FILTER (WHERE channel = 'pos') AS pos_orders,
        min(business_date) AS first_order_on,
        max(business_date) AS last_order_on,
        count(DISTINCT sku) AS products,
        count(DISTINCT department) AS departments
    FROM lines
    GROUP BY golden_id
),
spent AS (
    SELECT
        golden_id, currency,
        sum(amount_minor) AS amount_minor,
        sum(discount_minor) AS discount_minor,
        sum(amount_minor) / count(DISTINCT order_uid) AS average_order_minor
    FROM lines
    GROUP BY golden_id, currency
    QUALIFY row_number() OVER (PARTITION BY golden_id ORDER BY count(DISTINCT order_uid) DESC, currency) = 1
),
top_departments AS (
    SELECT golden_id, department AS top_department
    FROM lines
    GROUP BY golden_id, department
    QUALIFY row_number() OVER (PARTITION BY golden_id ORDER BY count(*) DESC, department) = 1
),
top_locations AS (
    SELECT golden_id, location_id AS top_location_id
    FROM lines
    GROUP BY golden_id, location_id
    QUALIFY row_number() OVER (PARTITION BY golden_id ORDER BY count(DISTINCT order_uid) DESC, location_id) = 1
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
    currency, amount_minor, discount_minor, average_order_minor,
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
LEFT JOIN spent ON spent.golden_id = customer.golden_id
LEFT JOIN top_departments ON top_departments.golden_id = customer.golden_id
LEFT JOIN top_locations ON top_locations.golden_id = customer.golden_id
LEFT JOIN visits ON visits.golden_id = customer.golden_id
LEFT JOIN coupons ON coupons.golden_id = customer.golden_id
WHERE customer.golden_id <> 'unknown'
