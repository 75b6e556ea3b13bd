-- What the loyalty programme knows of the households behind its cards.
-- grain: one row per loyalty card
-- key: card_number
-- owner: marketing
-- optional: silver.identity_links (golden_id TEXT, source_system TEXT, source_id TEXT, recorded_to TIMESTAMP)
-- column card_number: The loyalty card. [pii=direct]
-- column golden_id: Whose the card is; null if nobody knows. [pii=quasi] [volatile]
-- column age: Age, as a range. [pii=quasi]
-- column income: Yearly income, as a range. [pii=quasi]
-- column home_ownership: Whether the home is owned or rented. [pii=quasi]
-- column marital_status: Marital status. [pii=quasi]
-- column household_size: Persons in the household, as a range. [pii=quasi]
-- column household_comp: Who they are. [pii=quasi]
-- column kids_count: How many of them are children, as a range. [pii=quasi]
-- column received_at: When this was received. [volatile]
WITH landed AS (
    SELECT
        csv_record(
            _payload,
            'card_number', 'age', 'income', 'home_ownership', 'marital_status', 'household_size', 'household_comp',
            'kids_count'
        ) AS household,
        _source, _received_at, _object, try_cast(_position AS BIGINT) AS line
    FROM bronze.bronze_loyalty__demographics
    QUALIFY _revision = max(_revision) OVER (PARTITION BY _object)
),
newest AS (
    SELECT household, _source, _received_at
    FROM landed
    WHERE line IS NOT NULL AND household['card_number'] IS NOT NULL
    -- What was received last counts.
    QUALIFY row_number() OVER (
        PARTITION BY household['card_number'] ORDER BY _received_at DESC, _object DESC, line DESC
    ) = 1
)
SELECT
    household['card_number'] AS card_number,
    golden_id,
    household['age'] AS age,
    household['income'] AS income,
    household['home_ownership'] AS home_ownership,
    household['marital_status'] AS marital_status,
    household['household_size'] AS household_size,
    household['household_comp'] AS household_comp,
    household['kids_count'] AS kids_count,
    _received_at AS received_at
FROM newest
LEFT JOIN silver.identity_links
    ON source_system = _source AND source_id = household['card_number'] AND recorded_to IS NULL
