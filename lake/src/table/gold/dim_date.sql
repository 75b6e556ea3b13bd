-- The calendar, from the first day of the first year in which anything happened to the last day of the last; from 1900
-- to 2199, because a campaign without an end may end in 9999.
-- grain: one row per day
-- key: business_date
-- owner: analytics
-- optional: silver.stock_ledger (occurred_at TIMESTAMP, recorded_to TIMESTAMP)
-- optional: silver.events_sessionized (occurred_at TIMESTAMP)
-- optional: silver.campaigns (starts_on DATE, ends_on DATE)
-- column business_date: The day in UTC.
-- column year: Its year.
-- column quarter: Its quarter, from 1 to 4.
-- column month: Its month, from 1 to 12.
-- column month_name: The month's English name.
-- column day: Its day of the month, from 1.
-- column day_of_year: Its day of the year, from 1.
-- column iso_year: The year of its week, by ISO 8601.
-- column iso_week: Its week, by ISO 8601, from 1 to 53.
-- column weekday: Its day of the week, by ISO 8601: 1 is Monday, 7 is Sunday.
-- column weekday_name: The weekday's English name.
-- column is_weekend: Whether it is a Saturday or a Sunday.
-- column month_start: The first day of its month.
-- column week_start: The Monday of its week.
WITH told AS (
    SELECT business_date AS first_day, business_date AS last_day FROM silver.orders_unified
    UNION ALL
    SELECT CAST(occurred_at AS DATE), CAST(occurred_at AS DATE) FROM silver.stock_ledger WHERE recorded_to IS NULL
    UNION ALL SELECT CAST(occurred_at AS DATE), CAST(occurred_at AS DATE) FROM silver.events_sessionized
    UNION ALL SELECT starts_on, ends_on FROM silver.campaigns
),
known AS (
    SELECT greatest(first_day, DATE '1900-01-01') AS first_day, least(last_day, DATE '2199-12-31') AS last_day
    FROM told
    WHERE first_day <= DATE '2199-12-31' AND last_day >= DATE '1900-01-01'
),
span AS (
    SELECT
        CAST(date_trunc('year', min(first_day)) AS DATE) AS first_day,
        CAST(date_trunc('year', max(last_day)) + INTERVAL '1 year' - INTERVAL '1 day' AS DATE) AS last_day
    FROM known
),
days AS (
    SELECT CAST(unnest(generate_series(first_day, last_day, INTERVAL '1 day')) AS DATE) AS business_date FROM span
),
parts AS (
    SELECT
        *,
        CAST(date_part('isodow', business_date) AS BIGINT) AS weekday,
        CAST(date_trunc('week', business_date) AS DATE) AS week_start
    FROM days
)
SELECT
    business_date,
    CAST(date_part('year', business_date) AS BIGINT) AS year,
    CAST(date_part('quarter', business_date) AS BIGINT) AS quarter,
    CAST(date_part('month', business_date) AS BIGINT) AS month,
    to_char(business_date, '%B') AS month_name,
    CAST(date_part('day', business_date) AS BIGINT) AS day,
    CAST(date_part('doy', business_date) AS BIGINT) AS day_of_year,
    -- A week is of the year that its Thursday is in.
    CAST(date_part('year', week_start + INTERVAL '3 days') AS BIGINT) AS iso_year,
    CAST(date_part('week', business_date) AS BIGINT) AS iso_week,
    weekday,
    to_char(business_date, '%A') AS weekday_name,
    weekday >= 6 AS is_weekend,
    CAST(date_trunc('month', business_date) AS DATE) AS month_start,
    week_start
FROM parts
