//! Making one table: everything, the part that has changed, or the rows to add, whichever is least.

use std::{collections::HashMap, sync::Arc};

use sha2::{Digest as _, Sha256};

use super::{
    Known, Outcome, Output, Runner,
    part::{self, Part},
};
use crate::{
    Error, TableName,
    dataset::{self, Published, identity},
    digest::Digest,
    sql::Snapshot,
    table::Derived,
};

/// A table that was made, and that nobody relies on yet.
pub(super) struct Made {
    pub(super) table: dataset::Table,
    pub(super) output: Output,
}

impl Runner {
    /// Makes a table of `sources`; none if it was refused when it was made of the same. `output` says what it is, or
    /// was to be, made of.
    pub(super) async fn make(
        &self,
        derived: &dyn Derived,
        name: &TableName,
        known: &Known,
        sources: &Snapshot,
        output: &mut Output,
    ) -> Result<Option<Made>, Error> {
        let mut inputs = Snapshot::default();
        output.inputs.clear();
        for input in derived.inputs()? {
            let dataset = match sources.dataset(&input) {
                Err(Error::Missing { .. }) if derived.can_lack(&input)? => continue,
                dataset => Arc::clone(dataset?),
            };
            output.inputs.insert(input.to_string(), dataset.version().version);
            inputs.share(input, &dataset);
        }
        output.definition = definition(derived);
        let began_at = output.began_at;
        if let Some(refused) = known.refused.as_ref().filter(|refused| refused.is_of(output)) {
            *output = Output { began_at, ..refused.clone() };
            return Ok(None);
        }
        let mut output = output.clone();
        let mut table = self.store.open(name.clone()).await?;
        let is_newest = |last: &&Output| table.dataset().is_some_and(|d| d.version().version == last.version);
        let stands = known.standing.as_ref().filter(is_newest);
        if let Some(last) = stands.filter(|last| last.is_of(&output)) {
            let output = Output { outcome: Outcome::Unchanged, began_at, ..last.clone() };
            return Ok(Some(Made { table, output }));
        }
        if let Some(stands) = table.dataset() {
            inputs.insert(name.clone(), stands.clone());
        }
        let published = self.publish(derived, &inputs, &mut table, stands, &mut output).await?;
        let is_new = published.is_new;
        if is_new {
            let mut card = derived.card();
            card.more.extend(derived.ready(&mut table).await?);
            table.describe(&card).await?;
        }
        output.took(published);
        if let Some(dataset) = table.dataset().filter(|_| is_new) {
            output.version = dataset.version().version;
        }
        output.lineage = derived.lineage(&inputs, &self.runtime).await?;
        Ok(Some(Made { table, output }))
    }

    /// Computes the rows to add to those that stand, or the part that has changed, or else everything.
    async fn publish(
        &self,
        derived: &dyn Derived,
        inputs: &Snapshot,
        table: &mut dataset::Table,
        stands: Option<&Output>,
        output: &mut Output,
    ) -> Result<Published, Error> {
        let card = derived.card();
        let properties = HashMap::from([("omnimesh.definition".to_owned(), output.definition.clone())]);
        if let Some(standing) = table.dataset().cloned() {
            let standing = Arc::new(standing);
            if let Some(rows) = derived.extend(inputs, &standing, &self.runtime).await? {
                let told = stands.and_then(|last| Digest::known(last.rows, &last.content));
                let standing = match told {
                    Some(digest) => digest,
                    None => dataset::digest(&derived.name()?, &standing).await?,
                };
                let turn = self.store.turn().await?;
                return table.extend(&turn, rows, &card, properties, standing).await;
            }
        }
        if let Some(last) = stands
            && let Some(Part { input, values }) =
                part::changed(&self.store, derived, inputs, last, output).await?
        {
            let rows = derived.compute(&inputs.narrowed(&input, &values), &self.runtime).await?;
            let turn = self.store.turn().await?;
            let last = last.published();
            let published = table.replace_part(&turn, rows, &values, &card, properties.clone(), last).await?;
            if let Some(published) = published {
                output.changed_values = Some(values.num_rows() as u64);
                return Ok(published);
            }
        }
        let rows = derived.compute(inputs, &self.runtime).await?;
        let turn = self.store.turn().await?;
        let known = stands.map(|last| identity(&last.schema, &last.content));
        table.replace(&turn, rows, &card, properties, known.as_deref()).await
    }
}

/// The digest of what a table is computed by.
pub(super) fn definition(derived: &dyn Derived) -> String {
    format!("{:032x}", crate::digest::half(&Sha256::digest(derived.definition())))
}
