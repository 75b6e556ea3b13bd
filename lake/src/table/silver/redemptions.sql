-- Coupons that were redeemed. A card redeems a coupon of a campaign once a day.
-- grain: one row per loyalty card, coupon, campaign and day
-- key: card_number, coupon_upc, campaign_id, redeemed_on
-- owner: marketing
-- optional: silver.identity_links (golden_id TEXT, source_system TEXT, source_id TEXT, recorded_to TIMESTAMP)
-- column card_number: The loyalty card. [pii=direct]
-- column coupon_upc: The coupon's code.
-- column campaign_id: The campaign that handed it out.
-- column redeemed_on: The day.
-- column golden_id: Whose the card is; null if nobody knows. [pii=quasi] [volatile]
-- column received_at: When this was first received. [volatile]
WITH landed AS (
    SELECT
        csv_record(_payload, 'card_number', 'coupon_upc', 'campaign_id', 'redemption_date') AS redemption,
        _source, _received_at, _position
    FROM bronze.bronze_loyalty__redemptions
    QUALIFY _revision = max(_revision) OVER (PARTITION BY _object)
),
redeemed AS (
    SELECT
        redemption['card_number'] AS card_number,
        redemption['coupon_upc'] AS coupon_upc,
        redemption['campaign_id'] AS campaign_id,
        try_cast(redemption['redemption_date'] AS DATE) AS redeemed_on,
        _source, _received_at
    FROM landed
    WHERE _position <> ''
)
SELECT card_number, coupon_upc, campaign_id, redeemed_on, golden_id, min(_received_at) AS received_at
FROM redeemed
LEFT JOIN silver.identity_links
    ON source_system = _source AND source_id = card_number AND recorded_to IS NULL
WHERE card_number IS NOT NULL AND coupon_upc IS NOT NULL AND campaign_id IS NOT NULL AND redeemed_on IS NOT NULL
GROUP BY card_number, coupon_upc, campaign_id, redeemed_on, golden_id
