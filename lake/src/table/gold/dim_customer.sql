-- Customers as they are now; how they were is in silver.users_scd. Whoever ordered before a profile was there is here by
-- id alone, and `unknown` stands for those whom nobody knows.
-- grain: one row per person, and one for nobody
-- key: golden_id
-- owner: analytics
-- optional: silver.orders_unified (golden_id TEXT)
-- optional: silver.events_sessionized (golden_id TEXT)
-- optional: silver.demographics (golden_id TEXT, card_number TEXT, age TEXT, income TEXT, home_ownership TEXT, marital_status TEXT, household_size TEXT, household_comp TEXT, kids_count TEXT)
-- column golden_id: The person. [pii=quasi] [volatile]
-- column is_known: Whether there is a profile.
-- column given_name: First name. [pii=direct]
-- column family_name: Last name. [pii=direct]
-- column email: E-mail address. [pii=direct]
-- column phone: Phone number. [pii=direct]
-- column street: Of the postal address: street and number. [pii=direct]
-- column city: Of the postal address: city. [pii=quasi]
-- column postcode: Of the postal address: postcode. [pii=quasi]
-- column country: Of the postal address: country. [pii=quasi]
-- column loyalty_cards: How many loyalty cards the person has.
-- column known_since: When the oldest profile became true, by the sources' own times.
-- column age: Age of the household's head, as a range. [pii=quasi]
-- column income: The household's yearly income, as a range. [pii=quasi]
-- column home_ownership: Whether the home is owned or rented. [pii=quasi]
-- column marital_status: Marital status. [pii=quasi]
-- column household_size: Persons in the household, as a range. [pii=quasi]
-- column household_comp: Who they are. [pii=quasi]
-- column kids_count: How many of them are children, as a range. [pii=quasi]
WITH profiles AS (
    SELECT
        golden_id, given_name, family_name, email, phone, addr, is_current,
        CAST(cardinality(loyalty_cards) AS BIGINT) AS loyalty_cards,
        min(valid_from) OVER (PARTITION BY golden_id) AS known_since
    FROM silver.users_scd
    WHERE recorded_to IS NULL
),
current_profiles AS (
    SELECT * FROM profiles WHERE is_current
),
-- Of a person with several cards the first that says anything.
households AS (
    SELECT *
    FROM silver.demographics
    WHERE golden_id IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY golden_id ORDER BY card_number) = 1
),
persons AS (
    SELECT golden_id FROM current_profiles
    UNION SELECT golden_id FROM silver.orders_unified WHERE golden_id IS NOT NULL
    UNION SELECT golden_id FROM silver.events_sessionized WHERE golden_id IS NOT NULL
    UNION SELECT 'unknown' AS golden_id
)
SELECT
    persons.golden_id,
    current_profiles.golden_id IS NOT NULL AS is_known,
    given_name, family_name, email, phone,
    addr['line'] AS street,
    addr['city'] AS city,
    addr['postcode'] AS postcode,
    addr['country'] AS country,
    coalesce(loyalty_cards, 0) AS loyalty_cards,
    known_since,
    age, income, home_ownership, marital_status, household_size, household_comp, kids_count
FROM persons
LEFT JOIN current_profiles ON current_profiles.golden_id = persons.golden_id
LEFT JOIN households ON households.golden_id = persons.golden_id
