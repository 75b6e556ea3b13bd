-- The loyalty programme's campaigns: what is promoted to whom is in coupons and campaign_members.
-- grain: one row per campaign
-- key: campaign_id
-- owner: marketing
-- column campaign_id: The campaign.
-- column campaign_type: Its kind, in the programme's words.
-- column starts_on: Its first day.
-- column ends_on: Its last day.
-- column received_at: When this was received. [volatile]
WITH landed AS (
    SELECT
        csv_record(_payload, 'campaign_id', 'campaign_type', 'start_date', 'end_date') AS campaign,
        _received_at, _object, try_cast(_position AS BIGINT) AS line
    FROM bronze.bronze_loyalty__campaign_descriptions
    QUALIFY _revision = max(_revision) OVER (PARTITION BY _object)
),
described AS (
    SELECT
        campaign['campaign_id'] AS campaign_id,
        campaign['campaign_type'] AS campaign_type,
        try_cast(campaign['start_date'] AS DATE) AS starts_on,
        try_cast(campaign['end_date'] AS DATE) AS ends_on,
        _received_at, _object, line
    FROM landed
)
SELECT campaign_id, campaign_type, starts_on, ends_on, _received_at AS received_at
FROM described
WHERE
    line IS NOT NULL AND campaign_id IS NOT NULL AND campaign_type IS NOT NULL
    AND starts_on IS NOT NULL AND ends_on IS NOT NULL
-- What was received last counts.
QUALIFY row_number() OVER (PARTITION BY campaign_id ORDER BY _received_at DESC, _object DESC, line DESC) = 1
