//! Operators' words on pairs of records.

use storage::{
    insert_many,
    sqlx::{AnyConnection, Row},
};
use types::SourceRef;

use super::{Store, rows_of, source};
use crate::{Error, domain::Verdicts};

const SELECT: &str = "SELECT system, id, other_system, other_id, together FROM verdicts";

impl Store {
    /// Adds every verdict on one of `sources` to `verdicts`.
    pub(crate) async fn verdicts(
        &self,
        connection: &mut AnyConnection,
        sources: impl IntoIterator<Item = &SourceRef>,
        verdicts: &mut Verdicts,
    ) -> Result<(), Error> {
        for row in rows_of(connection, SELECT, ["system", "id"], sources).await? {
            let (one, other) =
                (source(row.try_get(0)?, row.try_get(1)?)?, source(row.try_get(2)?, row.try_get(3)?)?);
            verdicts.insert(one, other, row.try_get::<i64, _>(4)? == 1);
        }
        Ok(())
    }

    /// Keeps one verdict on each pair of records, in the place of what was said before.
    pub(crate) async fn save_verdicts(
        &self,
        connection: &mut AnyConnection,
        pairs: &[(&SourceRef, &SourceRef)],
        together: bool,
    ) -> Result<(), Error> {
        let both_ways: Vec<_> = pairs.iter().flat_map(|&(one, other)| [(one, other), (other, one)]).collect();
        insert_many(
            connection,
            "INSERT INTO verdicts (system, id, other_system, other_id, together) VALUES",
            "ON CONFLICT (system, id, other_system, other_id) DO UPDATE SET together = excluded.together",
            &both_ways,
            |row, (one, other)| {
                row.bind(one.system.as_str()).bind(one.id.as_str());
                row.bind(other.system.as_str()).bind(other.id.as_str()).bind(i64::from(together));
            },
        )
        .await?;
        Ok(())
    }
}
