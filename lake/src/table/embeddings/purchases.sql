-- Who bought what, and how often, in the order of the customers.
SELECT golden_id AS customer, sku AS product, count(*) AS lines
FROM gold.fct_order_line
WHERE golden_id <> 'unknown' AND amount_minor >= 0 AND status IS DISTINCT FROM 'cancelled'
GROUP BY golden_id, sku
ORDER BY customer, product
