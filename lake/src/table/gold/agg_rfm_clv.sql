-- How lately, how often and for how much each customer buys, and what that may come to in a year. Cancelled orders are
-- left out; a return lowers what was paid, and is no order; now is the last day on which anything was sold.
-- grain: one row per customer and currency
-- key: golden_id, currency
-- owner: analytics
-- schedule: */15 * * * *
-- column golden_id: The person. [pii=quasi] [volatile]
-- column currency: The currency of the amounts.
-- column as_of: The last day on which anything was sold to anybody.
-- column first_order_on: The day in UTC of the customer's first order.
-- column last_order_on: The day of the last one.
-- column recency_days: Days from the last order to `as_of`.
-- column frequency: Orders.
-- column monetary_minor: What was paid for them less what was paid back, in the currency's minor unit.
-- column r_score: Fifth of the currency's customers by recency: 5 are those who bought last. Who buys just as lately,
-- often and much may be in either of two neighbouring fifths.
-- column f_score: Fifth by frequency: 5 are those who bought most often.
-- column m_score: Fifth by what was paid: 5 are those who paid most.
-- column active_months: Months of the calendar with an order.
-- column tenure_months: Months of the calendar from the first order to `as_of`, both included.
-- column clv_year_minor: What is to be expected of the next twelve months if they go on as the tenure did: paid per active
-- month x expected active months, which are 12 x active_months / tenure_months. Rounded down.
WITH orders AS (
    SELECT
        golden_id, currency, order_uid, sum(amount_minor) AS amount_minor,
        CASE WHEN sum(amount_minor) >= 0 THEN business_date END AS ordered_on
    FROM gold.fct_order_line
    WHERE golden_id <> 'unknown' AND status IS DISTINCT FROM 'cancelled'
    GROUP BY golden_id, currency, order_uid, business_date
),
today AS (
    SELECT max(business_date) AS as_of
    FROM gold.fct_order_line
    WHERE amount_minor >= 0 AND status IS DISTINCT FROM 'cancelled'
),
customers AS (
    SELECT
        golden_id, currency, as_of,
        min(ordered_on) AS first_order_on,
        max(ordered_on) AS last_order_on,
        CAST(CAST(as_of AS INT) - CAST(max(ordered_on) AS INT) AS BIGINT) AS recency_days,
        count(ordered_on) AS frequency,
        CAST(sum(amount_minor) AS BIGINT) AS monetary_minor,
        count(DISTINCT date_trunc('month', ordered_on)) AS active_months,
        CAST(
            (date_part('year', as_of) - date_part('year', min(ordered_on))) * 12
            + date_part('month', as_of) - date_part('month', min(ordered_on)) + 1
            AS BIGINT
        ) AS tenure_months
    FROM orders
    CROSS JOIN today
    GROUP BY golden_id, currency, as_of
    HAVING count(ordered_on) > 0
)
SELECT
    golden_id, currency, as_of, first_order_on, last_order_on, recency_days, frequency, monetary_minor,
    -- Whoever is alike in all of this is told apart by nothing but an id.
    CAST(ntile(5) OVER (
        PARTITION BY currency
        ORDER BY recency_days DESC, frequency, monetary_minor, first_order_on, active_months, golden_id
    ) AS BIGINT) AS r_score,
    CAST(ntile(5) OVER (
        PARTITION BY currency
        ORDER BY frequency, recency_days DESC, monetary_minor, first_order_on, active_months, golden_id
    ) AS BIGINT) AS f_score,
    CAST(ntile(5) OVER (
        PARTITION BY currency
        ORDER BY monetary_minor, recency_days DESC, frequency, first_order_on, active_months, golden_id
    ) AS BIGINT) AS m_score,
    active_months, tenure_months,
    monetary_minor * 12 / tenure_months AS clv_year_minor
FROM customers
