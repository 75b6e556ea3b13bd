-- The clickstream, each event once and with its session: what a visitor did until half an hour went by without anything.
-- A session is of the customer who was logged in last, also before the login; whose the ids of customers and orders are
-- tell the systems in which orders of the web are placed.
-- grain: one row per event
-- key: event_id
-- owner: web
-- optional: bronze.bronze_events__views (_object TEXT, _revision BIGINT, _position TEXT, _received_at TIMESTAMP, _payload TEXT, _payload_sha256 BYTEA)
-- optional: bronze.bronze_events__searches (_object TEXT, _revision BIGINT, _position TEXT, _received_at TIMESTAMP, _payload TEXT, _payload_sha256 BYTEA)
-- optional: bronze.bronze_events__baskets (_object TEXT, _revision BIGINT, _position TEXT, _received_at TIMESTAMP, _payload TEXT, _payload_sha256 BYTEA)
-- optional: bronze.bronze_events__purchases (_object TEXT, _revision BIGINT, _position TEXT, _received_at TIMESTAMP, _payload TEXT, _payload_sha256 BYTEA)
-- optional: silver.identity_links (golden_id TEXT, source_system TEXT, source_id TEXT, recorded_to TIMESTAMP)
-- column event_id: The event.
-- column event_type: What happened: view, search, basket or purchase.
-- column occurred_at: When it happened.
-- column session_id: The session: visitor and time of the first event. [pii=quasi]
-- column session_seq: The event's place in its session, from 1.
-- column visitor_id: The visitor's device. [pii=quasi]
-- column customer_id: The shop's customer of the session; null if nobody was logged in. [pii=direct]
-- column golden_id: Who that is; null if nobody knows. [pii=quasi] [volatile]
-- column sku: The product that was viewed or put into the basket.
-- column quantity: How much was put into the basket, in the product's sales unit.
-- column query: What was searched for. [pii=quasi]
-- column results: How much was found.
-- column order_id: The order in the shop. [pii=quasi]
-- column order_uid: The order; null until it is known. [pii=quasi] [volatile]
-- column total_minor: What was paid, in the currency's minor unit.
-- column currency: The currency of the amount.
-- column line_count: Lines of the order.
-- column source_session_id: The session as the source has it. [pii=quasi]
-- column received_at: When the event was first received as it is. [volatile]
WITH landed AS (
    SELECT 'view' AS event_type, _object, _revision, _position, _received_at, _payload, _payload_sha256
    FROM bronze.bronze_events__views
    UNION ALL
    SELECT 'search' AS event_type, _object, _revision, _position, _received_at, _payload, _payload_sha256
    FROM bronze.bronze_events__searches
    UNION ALL
    SELECT 'basket' AS event_type, _object, _revision, _position, _received_at, _payload, _payload_sha256
    FROM bronze.bronze_events__baskets
    UNION ALL
    SELECT 'purchase' AS event_type, _object, _revision, _position, _received_at, _payload, _payload_sha256
    FROM bronze.bronze_events__purchases
),
-- Windows end at the current row throughout, and what joins hold stands on the left: both are kept in memory as a whole.
newest AS (
    SELECT event_type AS newest_type, _object AS newest_object, max(_revision) AS newest_revision
    FROM landed
    GROUP BY event_type, _object
),
received AS (
    SELECT
        *,
        first_value(_received_at) OVER (
            PARTITION BY event_type, _payload_sha256 ORDER BY _received_at
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS received_at
    FROM landed
),
records AS (
    SELECT
        event_type,
        json_record(
            _payload,
            'event_id', 'occurred_at', 'session_id', 'device_id', 'customer_id',
            'product_id', 'quantity', 'query', 'results', 'order_id', 'total_minor', 'currency', 'lines'
        ) AS record,
        received_at, _received_at, _object, try_cast(_position AS BIGINT) AS line
    FROM newest
    JOIN received ON newest_type = event_type AND newest_object = _object AND newest_revision = _revision
),
fields AS (
    SELECT
        event_type,
        record['event_id'] AS event_id,
        try_cast(record['occurred_at'] AS TIMESTAMP(6)) AS occurred_at,
        record['session_id'] AS source_session_id,
        record['device_id'] AS visitor_id,
        record['customer_id'] AS customer_id,
        record['product_id'] AS sku,
        try_cast(record['quantity'] AS BIGINT) AS quantity,
        record['query'] AS query,
        try_cast(record['results'] AS BIGINT) AS results,
        record['order_id'] AS order_id,
        try_cast(record['total_minor'] AS BIGINT) AS total_minor,
        record['currency'] AS currency,
        try_cast(record['lines'] AS BIGINT) AS line_count,
        received_at, _received_at, _object, line
    FROM records
),
events AS (
    SELECT *
    FROM fields
    WHERE
        line IS NOT NULL AND event_id IS NOT NULL AND visitor_id IS NOT NULL AND source_session_id IS NOT NULL
        -- Beyond that it is what software writes that knows no time.
        AND CAST(occurred_at AS DATE) BETWEEN DATE '1900-01-01' AND DATE '2199-12-31'
        -- What is put aside where records are taken in is no event.
        AND CASE event_type
            WHEN 'view' THEN sku IS NOT NULL
            WHEN 'basket' THEN sku IS NOT NULL AND quantity IS NOT NULL
            WHEN 'search' THEN query IS NOT NULL AND results IS NOT NULL
            ELSE order_id IS NOT NULL AND total_minor IS NOT NULL AND currency IS NOT NULL AND line_count IS NOT NULL
        END
    -- What was received last counts.
    QUALIFY row_number() OVER (
        PARTITION BY event_id ORDER BY _received_at DESC, event_type DESC, _object DESC, line DESC
    ) = 1
),
paused AS (
    SELECT
        *,
        coalesce(
            occurred_at > INTERVAL '30 minutes'
                + lag(occurred_at) OVER (PARTITION BY visitor_id ORDER BY occurred_at, event_id),
            true
        ) AS begins
    FROM events
),
numbered AS (
    SELECT
        *,
        sum(CASE WHEN begins THEN 1 ELSE 0 END)
            OVER (PARTITION BY visitor_id ORDER BY occurred_at, event_id) AS session_no
    FROM paused
),
sessions AS (
    SELECT
        *,
        first_value(occurred_at) OVER session AS began_at,
        row_number() OVER session AS session_seq,
        -- The last login of the session, if it is still to come, and else if it has been.
        coalesce(
            first_value(customer_id) IGNORE NULLS OVER (
                PARTITION BY visitor_id, session_no ORDER BY occurred_at DESC, event_id DESC
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ),
            last_value(customer_id) IGNORE NULLS OVER session
        ) AS session_customer_id
    FROM numbered
    WINDOW session AS (
        PARTITION BY visitor_id, session_no ORDER BY occurred_at, event_id
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    )
),
-- The shops are the systems in which orders of the web are placed; an id that several of them use tells nothing.
shops AS (
    SELECT DISTINCT origin_system AS shop FROM silver.orders_unified WHERE channel = 'web'
),
order_references AS (
    SELECT order_uid, unnest(source_refs) AS reference FROM silver.orders_unified
),
shop_orders AS (
    SELECT reference['id'] AS shop_order_id, min(order_uid) AS order_uid
    FROM order_references
    JOIN shops ON shop = reference['system']
    GROUP BY reference['id']
    HAVING count(*) = 1
),
shop_customers AS (
    SELECT source_id AS shop_customer_id, min(golden_id) AS golden_id
    FROM silver.identity_links
    JOIN shops ON shop = source_system
    WHERE recorded_to IS NULL
    GROUP BY source_id
    HAVING count(*) = 1
)
SELECT
    event_id, event_type, occurred_at, concat(visitor_id, '/', CAST(began_at AS TEXT)) AS session_id,
    CAST(session_seq AS BIGINT) AS session_seq, visitor_id, session_customer_id AS customer_id, golden_id,
    sku, quantity, query, results, order_id, order_uid, total_minor, currency, line_count, source_session_id,
    received_at
FROM shop_orders
RIGHT JOIN (
    SELECT * FROM shop_customers RIGHT JOIN sessions ON shop_customer_id = session_customer_id
) AS customers_sessions ON shop_order_id = order_id
