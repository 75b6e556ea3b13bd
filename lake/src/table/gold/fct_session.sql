-- Visits to the web shop: what a visitor did until half an hour went by without anything.
-- grain: one row per session
-- key: session_id
-- owner: analytics
-- column session_id: The session: visitor and time of the first event. [pii=quasi]
-- column visitor_id: The visitor's device. [pii=quasi]
-- column golden_id: Who that was; `unknown` if nobody was logged in, or nobody knows. [pii=quasi] [volatile]
-- column business_date: The day in UTC on which it began.
-- column began_at: When its first event happened.
-- column ended_at: When its last event happened.
-- column seconds: Whole seconds between the two.
-- column events: Events of all kinds.
-- column views: Products that were looked at, each time.
-- column searches: Searches.
-- column vain_searches: Searches that found nothing.
-- column baskets: Products that were put into the basket, each time.
-- column purchases: Orders that were placed.
-- column products: Different products that were looked at or put into the basket.
-- column currency: The currency of what was paid; null if nothing was, or if it was paid in several.
-- column amount_minor: What was paid, in the currency's minor unit; null without a currency.
-- Grouped step by step: counting different values would keep all of them in memory.
WITH products AS (
    SELECT
        session_id, visitor_id, golden_id, sku,
        min(occurred_at) AS began_at,
        max(occurred_at) AS ended_at,
        count(*) AS events,
        count(*) FILTER (WHERE event_type = 'view') AS views,
        count(*) FILTER (WHERE event_type = 'search') AS searches,
        count(*) FILTER (WHERE event_type = 'search' AND results = 0) AS vain_searches,
        count(*) FILTER (WHERE event_type = 'basket') AS baskets,
        count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
        min(currency) AS first_currency,
        max(currency) AS last_currency,
        sum(total_minor) AS total_minor
    FROM silver.events_sessionized
    GROUP BY session_id, visitor_id, golden_id, sku
),
sessions AS (
    SELECT
        session_id, visitor_id,
        coalesce(golden_id, 'unknown') AS golden_id,
        min(began_at) AS began_at,
        max(ended_at) AS ended_at,
        sum(events) AS events,
        sum(views) AS views,
        sum(searches) AS searches,
        sum(vain_searches) AS vain_searches,
        sum(baskets) AS baskets,
        sum(purchases) AS purchases,
        count(sku) AS products,
        CASE WHEN min(first_currency) = max(last_currency) THEN min(first_currency) END AS currency,
        sum(total_minor) AS total_minor
    FROM products
    GROUP BY session_id, visitor_id, golden_id
)
SELECT
    session_id, visitor_id, golden_id,
    CAST(began_at AS DATE) AS business_date,
    began_at, ended_at,
    (CAST(ended_at AS BIGINT) - CAST(began_at AS BIGINT)) / 1000000 AS seconds,
    events, views, searches, vain_searches, baskets, purchases, products, currency,
    CASE WHEN currency IS NOT NULL THEN total_minor END AS amount_minor
FROM sessions
