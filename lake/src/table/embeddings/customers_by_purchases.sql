-- Customers by what they buy: each lies where the products of `products__svd64` do that it buys, so customers are near
-- that buy alike, and products are near that a customer buys or may buy.
-- grain: one row per customer who has bought something
-- key: entity_id
-- owner: personalization
-- schedule: 0 * * * *
-- column entity_id: The customer's golden id. [pii=quasi]
-- column channel: The channel of most of the customer's orders: web, marketplace, pos.
-- column orders: The customer's orders.
-- column updated_at: When the customer last bought.
-- column vector: Where it lies: of length 1, so that the dot product of two is their cosine. [pii=quasi]
WITH by_channel AS (
    SELECT golden_id, channel, count(DISTINCT order_uid) AS orders, max(ordered_at) AS updated_at
    FROM gold.fct_order_line
    WHERE golden_id <> 'unknown' AND amount_minor >= 0 AND status IS DISTINCT FROM 'cancelled'
    GROUP BY golden_id, channel
)
SELECT
    golden_id AS entity_id,
    first_value(channel ORDER BY orders DESC, channel) AS channel,
    sum(orders) AS orders,
    max(updated_at) AS updated_at
FROM by_channel
GROUP BY golden_id
ORDER BY entity_id
