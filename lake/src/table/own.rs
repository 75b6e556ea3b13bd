//! Tables that the lake keeps about itself, in `_meta`.

use crate::{TableName, card::Card};

const EXPORTS: &str = "\
The last runs of the tables that are made of other tables, and those that made what stands.
grain: one row per run
key: run_id
owner: lake
freshness: written as a run ends
column run_id: The run; later runs have greater ids.
column started_at: When it began.
column finished_at: When it ended.
column state: Whether it has succeeded, or failed to compute a table.
column omnimesh_version: What computed it.
column format_version: The format of the tables' files.
column tables: How many tables it computed, or tried to.
column rows: Rows of these tables.
column inputs: The tables of events that it read, as JSON, each with its version and up to which event.
column outputs: What became of each table, and of which versions it was made, as JSON.
";

const ERASURES: &str = "\
Erasures of persons, each verified as far as it is known what is theirs; nothing in here tells who they were.
grain: one row per erasure
key: erasure_id
owner: lake
freshness: written as an erasure ends
column erasure_id: The erasure; later ones have greater ids.
column started_at: When it began.
column finished_at: When it ended.
column subject: Salted digest of the keys that were given.
column keys: How many keys the person was searched for by.
column keys_left_out: How many values were not: they are others' as well, or too short to be told from other values.
column rows: Rows that the tables have lost.
column tables: What each table has lost, as JSON.
column unclear: Where landed records hold what a key is, though nobody says that it names a person there: how many by
table, as JSON.
column files_removed: Files that were removed: mirrors, manifests that were set aside, records of runs.
column files_searched: Files that were looked into at the end, and held nothing.
";

/// What is said about one of them.
pub(crate) fn card(name: &TableName) -> Card {
    match name.as_str() {
        "exports" => Card::parse(EXPORTS),
        "erasures" => Card::parse(ERASURES),
        _ => Card::default(),
    }
}
