-- What campaigns of the loyalty programme came to: what was redeemed, and whether those who redeemed bought more than
-- before. Their spending in the campaign's days is held against their daily average in as many days before it, as far as
-- sales are known that far back. That shows no cause: whoever redeems may have meant to buy anyway. Days of sales are in
-- UTC and those of the programme are its own, so that an evening's sale may be of the day after.
-- grain: one row per campaign and currency
-- key: promo_id, currency
-- owner: analytics
-- schedule: */15 * * * *
-- column promo_id: The campaign.
-- column currency: The currency of the amounts; XXX if nothing was bought, or nobody redeemed.
-- column redemptions: Times that a coupon was redeemed; the same in each of the campaign's currencies.
-- column coupons: Different coupons among them.
-- column households: Loyalty cards that redeemed any.
-- column customers: Persons behind these cards, as far as somebody knows.
-- column redeemed_minor: What these paid on the days of their redemptions for products that the coupon is for; on the day
-- after, where it was nothing on the day itself.
-- column basket_minor: What they paid for the whole orders that these products were in.
-- column days: Days of the campaign on which sales are known.
-- column days_before: Of as many days before it, those on which sales are known.
-- column amount_minor: What these customers paid in the campaign's days, in the currency's minor unit.
-- column amount_before_minor: What they paid in the days before.
-- column expected_minor: What they would have paid as before: amount_before_minor x days / days_before, rounded down; null
-- where no day before is known.
-- column lift_minor: What they paid beyond that; less than 0 if it was less.
-- column lift_ppm: The same as a part of what was expected, in millionths; null if nothing was.
WITH lines AS (
    SELECT * FROM gold.fct_order_line WHERE golden_id <> 'unknown' AND status IS DISTINCT FROM 'cancelled'
),
span AS (
    SELECT CAST(min(business_date) AS INT) AS first_day, CAST(max(business_date) AS INT) AS last_day
    FROM gold.fct_order_line
),
-- Days as numbers: the campaign's, and as many before it.
periods AS (
    SELECT
        promo_id,
        CAST(starts_on AS INT) AS starts_on,
        CAST(ends_on AS INT) AS ends_on,
        CAST(starts_on AS INT) - (CAST(ends_on AS INT) - CAST(starts_on AS INT) + 1) AS begins_before
    FROM gold.dim_promotion
),
known_periods AS (
    SELECT
        *,
        greatest(least(ends_on, last_day) - greatest(starts_on, first_day) + 1, 0) AS days,
        greatest(least(starts_on - 1, last_day) - greatest(begins_before, first_day) + 1, 0) AS days_before
    FROM periods
    CROSS JOIN span
),
redeemed AS (
    SELECT
        campaign_id AS promo_id,
        count(*) AS redemptions,
        count(DISTINCT coupon_upc) AS coupons,
        count(DISTINCT card_number) AS households,
        count(DISTINCT golden_id) AS customers
    FROM silver.redemptions
    GROUP BY campaign_id
),
redeemers AS (
    SELECT DISTINCT campaign_id AS promo_id, golden_id FROM silver.redemptions WHERE golden_id IS NOT NULL
),
spent AS (
    SELECT
        redeemers.promo_id, currency,
        coalesce(sum(amount_minor) FILTER (WHERE CAST(business_date AS INT) >= starts_on), 0) AS amount_minor,
        coalesce(sum(amount_minor) FILTER (WHERE CAST(business_date AS INT) < starts_on), 0) AS amount_before_minor
    FROM redeemers
    JOIN periods ON periods.promo_id = redeemers.promo_id
    JOIN lines ON lines.golden_id = redeemers.golden_id
    WHERE CAST(business_date AS INT) BETWEEN begins_before AND ends_on
    GROUP BY redeemers.promo_id, currency
),
-- What was bought from the day of a redemption on, and of that what the coupon is for.
redemption_lines AS (
    SELECT
        redemptions.golden_id, campaign_id, coupon_upc, redeemed_on,
        business_date, currency, order_uid, line_no, sku, amount_minor
    FROM silver.redemptions
    JOIN lines
        ON lines.golden_id = redemptions.golden_id
        AND CAST(business_date AS INT) - CAST(redeemed_on AS INT) BETWEEN 0 AND 1
),
coupon_lines AS (
    SELECT redeemed.*
    FROM redemption_lines AS redeemed
    JOIN silver.coupons
        ON coupons.campaign_id = redeemed.campaign_id AND coupons.coupon_upc = redeemed.coupon_upc
        AND coupons.sku = redeemed.sku
),
first_lines AS (
    SELECT *
    FROM coupon_lines
    QUALIFY
        business_date = min(business_date) OVER (PARTITION BY golden_id, campaign_id, coupon_upc, redeemed_on)
),
-- A line counts once, however many coupons were for it.
redeemed_lines AS (
    SELECT DISTINCT campaign_id AS promo_id, currency, order_uid, line_no, amount_minor FROM first_lines
),
redeemed_orders AS (
    SELECT DISTINCT promo_id, currency, order_uid FROM redeemed_lines
),
revenue AS (
    SELECT promo_id, currency, sum(amount_minor) AS redeemed_minor FROM redeemed_lines GROUP BY promo_id, currency
),
baskets AS (
    SELECT promo_id, lines.currency, sum(amount_minor) AS basket_minor
    FROM redeemed_orders
    JOIN lines ON lines.order_uid = redeemed_orders.order_uid
    GROUP BY promo_id, lines.currency
),
campaigns AS (
    SELECT
        known_periods.promo_id,
        coalesce(spent.currency, 'XXX') AS currency,
        coalesce(redemptions, 0) AS redemptions,
        coalesce(coupons, 0) AS coupons,
        coalesce(households, 0) AS households,
        coalesce(customers, 0) AS customers,
        coalesce(redeemed_minor, 0) AS redeemed_minor,
        coalesce(basket_minor, 0) AS basket_minor,
        CAST(days AS BIGINT) AS days,
        CAST(days_before AS BIGINT) AS days_before,
        coalesce(amount_minor, 0) AS amount_minor,
        coalesce(amount_before_minor, 0) AS amount_before_minor
    FROM known_periods
    LEFT JOIN redeemed ON redeemed.promo_id = known_periods.promo_id
    LEFT JOIN spent ON spent.promo_id = known_periods.promo_id
    LEFT JOIN revenue ON revenue.promo_id = spent.promo_id AND revenue.currency = spent.currency
    LEFT JOIN baskets ON baskets.promo_id = spent.promo_id AND baskets.currency = spent.currency
),
expected AS (
    -- The product may be too large for a BIGINT, as may the millions below.
    SELECT
        *,
        try_cast(CAST(amount_before_minor AS DECIMAL(38, 0)) * days / nullif(days_before, 0) AS BIGINT) AS expected_minor
    FROM campaigns
)
SELECT
    *,
    amount_minor - expected_minor AS lift_minor,
    try_cast(
        CAST(amount_minor - expected_minor AS DECIMAL(38, 0)) * 1000000 / nullif(expected_minor, 0) AS BIGINT
    ) AS lift_ppm
FROM expected
