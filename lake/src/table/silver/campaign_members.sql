-- The loyalty cards that a campaign is sent to.
-- grain: one row per campaign and loyalty card
-- key: campaign_id, card_number
-- owner: marketing
-- optional: silver.identity_links (golden_id TEXT, source_system TEXT, source_id TEXT, recorded_to TIMESTAMP)
-- column campaign_id: The campaign.
-- column card_number: The loyalty card. [pii=direct]
-- column golden_id: Whose the card is; null if nobody knows. [pii=quasi] [volatile]
-- column received_at: When this was first received. [volatile]
WITH landed AS (
    SELECT csv_record(_payload, 'campaign_id', 'card_number') AS member, _source, _received_at, _position
    FROM bronze.bronze_loyalty__campaigns
    QUALIFY _revision = max(_revision) OVER (PARTITION BY _object)
),
members AS (
    SELECT member['campaign_id'] AS campaign_id, member['card_number'] AS card_number, _source, _received_at
    FROM landed
    WHERE _position <> ''
)
SELECT campaign_id, card_number, golden_id, min(_received_at) AS received_at
FROM members
LEFT JOIN silver.identity_links
    ON source_system = _source AND source_id = card_number AND recorded_to IS NULL
WHERE campaign_id IS NOT NULL AND card_number IS NOT NULL
GROUP BY campaign_id, card_number, golden_id
