//! What of a table has to be computed anew: only what an input's change feed tells to have changed, where it tells.

use arrow::array::RecordBatch;

use super::Output;
use crate::{
    Error, TableName, Version,
    dataset::{Store, changed_values},
    sql::Snapshot,
    table::{Derived, Parts},
};

/// The rows that are made of an input's rows with some values of a column.
pub(super) struct Part {
    pub(super) input: TableName,
    pub(super) values: RecordBatch,
}

/// The part of a table that has changed since it was computed as `last` says. None if something else has changed too, or
/// if the feed does not tell: then everything has to be computed.
pub(super) async fn changed(
    store: &Store,
    derived: &dyn Derived,
    inputs: &Snapshot,
    last: &Output,
    now: &Output,
) -> Result<Option<Part>, Error> {
    let Some(Parts { input, column }) = derived.parts()? else { return Ok(None) };
    let name = input.to_string();
    let is_alone = last.definition == now.definition
        && last.inputs.keys().eq(now.inputs.keys())
        && last
            .inputs
            .iter()
            .all(|(other, version)| *other == name || now.inputs.get(other) == Some(version));
    let Some(since) = last.inputs.get(&name).filter(|_| is_alone) else { return Ok(None) };
    let old = store.at(&input, &Version::Number(*since)).await?;
    let Some(old) = old.filter(|old| last.knew(old)) else { return Ok(None) };
    let values = changed_values(&input, &old, inputs.dataset(&input)?, &column).await?;
    Ok(values.map(|values| Part { input, values }))
}
