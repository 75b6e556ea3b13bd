-- Every line of every order, with when, where, by whom and how it was bought.
-- grain: one row per line of an order
-- key: order_uid, line_no
-- owner: analytics
-- parts: silver.orders_unified by order_uid
-- column order_uid: The order. [pii=quasi] [volatile]
-- column line_no: The line's place in the order, from 1.
-- column golden_id: Who bought; `unknown` if nobody knows. [pii=quasi] [volatile]
-- column channel: Where the order was placed: web, marketplace, pos.
-- column origin_system: The system in which the order was placed.
-- column ordered_at: When the order was placed.
-- column business_date: The day in UTC on which it was placed.
-- column location_id: Where it was sold or fulfilled; `unknown` if nobody knows.
-- column status: The order's status.
-- column currency: The currency of the amounts.
-- column sku: What was bought.
-- column quantity: How much, in the product's sales unit; may be 0, and less than 0 was returned.
-- column amount_minor: What was paid for the line after discounts, in the currency's minor unit; less than 0 was paid
-- back. An order whose lines come to less than 0 is a return.
-- column discount_minor: What was taken off, in the currency's minor unit.
WITH lines AS (
    SELECT
        order_uid, golden_id, channel, origin_system, ordered_at, business_date, location_id, status, currency,
        unnest(lines) AS line,
        unnest(generate_series(1, CAST(cardinality(lines) AS BIGINT))) AS line_no
    FROM silver.orders_unified
)
SELECT
    order_uid, line_no, coalesce(golden_id, 'unknown') AS golden_id, channel, origin_system, ordered_at,
    business_date, coalesce(location_id, 'unknown') AS location_id, status, currency,
    line['sku'] AS sku,
    line['quantity'] AS quantity,
    line['amount_minor'] AS amount_minor,
    line['discount_minor'] AS discount_minor
FROM lines
