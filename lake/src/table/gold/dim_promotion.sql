-- The loyalty programme's campaigns, and how large each is.
-- grain: one row per campaign
-- key: promo_id
-- owner: analytics
-- optional: silver.coupons (coupon_upc TEXT, sku TEXT, campaign_id TEXT)
-- optional: silver.campaign_members (campaign_id TEXT, card_number TEXT)
-- column promo_id: The campaign.
-- column campaign_type: Its kind, in the programme's words.
-- column starts_on: Its first day.
-- column ends_on: Its last day.
-- column days: How many days it lasts, both included.
-- column coupons: Coupons that it hands out.
-- column products: Products that these are for.
-- column members: Loyalty cards that it is sent to.
WITH offers AS (
    SELECT campaign_id, count(DISTINCT coupon_upc) AS coupons, count(DISTINCT sku) AS products
    FROM silver.coupons
    GROUP BY campaign_id
),
audiences AS (
    SELECT campaign_id, count(*) AS members FROM silver.campaign_members GROUP BY campaign_id
)
SELECT
    campaigns.campaign_id AS promo_id,
    campaign_type, starts_on, ends_on,
    CAST(CAST(ends_on AS INT) - CAST(starts_on AS INT) + 1 AS BIGINT) AS days,
    coalesce(coupons, 0) AS coupons,
    coalesce(products, 0) AS products,
    coalesce(members, 0) AS members
FROM silver.campaigns
LEFT JOIN offers ON offers.campaign_id = campaigns.campaign_id
LEFT JOIN audiences ON audiences.campaign_id = campaigns.campaign_id
