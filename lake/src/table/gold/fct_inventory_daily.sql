-- Stock by day: how each day on which something moved began, what moved, and how it ended. A day on which nothing moved
-- has no row: the stock is what the row before it left for so many `days`.
-- grain: one row per product, location and day with a movement
-- key: sku, location_id, business_date
-- owner: analytics
-- column sku: The product.
-- column location_id: Where it is.
-- column business_date: The day in UTC.
-- column opening: What was there as the day began, in the product's sales unit; 0 before the first movement.
-- column received: What was delivered.
-- column sold: What was sold.
-- column adjusted: What was added otherwise; less than 0 was taken away.
-- column count_difference: What counts found beyond what was thought to be there, less than 0 if something lacked; the
-- first count of a stock finds all of it.
-- column on_hand: What was there as the day ended: opening + received - sold + adjusted + count_difference.
-- column movements: Movements of the day, counts among them.
-- column days: For how many days that stood, this one included: up to the next row, or the last day of any stock.
-- column unit_days: on_hand x days: divided by the sum of `days` it is the average stock.
-- column stockout_days: The days among them that ended with nothing there.
WITH movements AS (
    SELECT
        sku, location_id, kind, quantity, ledger_seq, occurred_at,
        CAST(occurred_at AS DATE) AS business_date,
        CASE WHEN kind = 'count' THEN 1 ELSE 0 END AS counted
    FROM silver.stock_ledger
    WHERE recorded_to IS NULL
),
-- A count has seen whatever happened at its time; of two counts at one time the one that is known later corrects.
ordered AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY sku, location_id ORDER BY occurred_at, counted, ledger_seq) AS place
    FROM movements
),
since_count AS (
    SELECT
        *,
        sum(counted) OVER (PARTITION BY sku, location_id ORDER BY place ROWS UNBOUNDED PRECEDING) AS counts
    FROM ordered
),
standing AS (
    SELECT
        *,
        sum(quantity) OVER (PARTITION BY sku, location_id, counts ORDER BY place ROWS UNBOUNDED PRECEDING) AS on_hand,
        max(place) OVER (PARTITION BY sku, location_id, business_date) AS last_place
    FROM since_count
),
daily AS (
    SELECT
        sku, location_id, business_date,
        sum(CASE WHEN kind = 'delivery' THEN quantity ELSE 0 END) AS received,
        -sum(CASE WHEN kind = 'sale' THEN quantity ELSE 0 END) AS sold,
        sum(CASE WHEN kind IN ('count', 'delivery', 'sale') THEN 0 ELSE quantity END) AS adjusted,
        max(CASE WHEN place = last_place THEN on_hand END) AS on_hand,
        count(*) AS movements
    FROM standing
    GROUP BY sku, location_id, business_date
),
chained AS (
    SELECT
        *,
        lag(on_hand, 1, 0) OVER (PARTITION BY sku, location_id ORDER BY business_date) AS opening,
        coalesce(
            CAST(lead(business_date) OVER (PARTITION BY sku, location_id ORDER BY business_date) AS INT),
            CAST(max(business_date) OVER () AS INT) + 1
        ) - CAST(business_date AS INT) AS days
    FROM daily
)
SELECT
    sku, location_id, business_date, opening, received, sold, adjusted,
    on_hand - opening - received + sold - adjusted AS count_difference,
    on_hand, movements,
    CAST(days AS BIGINT) AS days,
    on_hand * days AS unit_days,
    CAST(CASE WHEN on_hand <= 0 THEN days ELSE 0 END AS BIGINT) AS stockout_days
FROM chained
