-- Which products a coupon of a campaign is for.
-- grain: one row per coupon, product and campaign
-- key: coupon_upc, sku, campaign_id
-- owner: marketing
-- column coupon_upc: The coupon's code.
-- column sku: A product that it is for.
-- column campaign_id: The campaign that hands it out.
-- column received_at: When this was first received. [volatile]
WITH landed AS (
    SELECT csv_record(_payload, 'coupon_upc', 'product_id', 'campaign_id') AS coupon, _received_at, _position
    FROM bronze.bronze_loyalty__coupons
    QUALIFY _revision = max(_revision) OVER (PARTITION BY _object)
)
SELECT
    coupon['coupon_upc'] AS coupon_upc,
    coupon['product_id'] AS sku,
    coupon['campaign_id'] AS campaign_id,
    min(_received_at) AS received_at
FROM landed
WHERE
    _position <> '' AND coupon['coupon_upc'] IS NOT NULL AND coupon['product_id'] IS NOT NULL
    AND coupon['campaign_id'] IS NOT NULL
GROUP BY coupon['coupon_upc'], coupon['product_id'], coupon['campaign_id']
