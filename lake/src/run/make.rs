//! Making one table: everything, the part that has changed, or the rows to add, whichever is least.

use std::{collections::HashMap, sync::Arc};

use lance::dataset::Dataset;
use sha2::{Digest as _, Sha256};
use types::Timestamp;

use super::{
    Known, Outcome, Output, Runner,
    part::{self, Part},
};
use crate::{
    Error, TableName,
    dataset::{self, Published, identity},
    digest::Digest,
    sql::Snapshot,
    table::{Derived, Growth},
};

/// A table that was made, and that nobody relies on yet.
pub(super) struct Made {
    pub(super) table: dataset::Table,
    pub(super) output: Output,
    /// When it is too late to begin to.
    pub(super) expires: Option<Timestamp>,
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
                dataset => dataset?,
            };
            output.inputs.insert(input.to_string(), dataset.version().version);
            inputs.share(input, dataset);
        }
        output.definition = definition(derived);
        let began_at = output.began_at;
        let is_same =
            |last: &Output, now: &Output| last.is_of(now) && inputs.datasets().all(|input| last.knew(input));
        if let Some(refused) = known.refused.as_ref().filter(|refused| is_same(refused, output)) {
            *output = Output { began_at, ..refused.clone() };
            return Ok(None);
        }
        let mut output = output.clone();
        let mut table = self.store.open(name.clone()).await?;
        let promised = self.input(name).await?;
        let is_at = |found: Option<&Dataset>, last: &Output| {
            found.is_some_and(|d| d.version().version == last.version)
        };
        // What nobody could rely on does not stand: a run was cut short, or could not put its tags.
        let stands = known.standing.as_ref();
        let stands = stands.filter(|&last| is_at(table.dataset(), last) && is_at(promised.as_ref(), last));
        if let Some(last) = stands.filter(|last| is_same(last, &output)) {
            let output = Output { outcome: Outcome::Unchanged, began_at, ..last.clone() };
            return Ok(Some(Made { table, output, expires: None }));
        }
        if let Some(newest) = table.dataset() {
            inputs.insert(name.clone(), newest.clone());
        }
        let (published, expires) =
            self.publish(derived, &inputs, &mut table, promised, stands, &mut output).await?;
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
        Ok(Some(Made { table, output, expires: expires.filter(|_| is_new) }))
    }

    /// Computes the rows to add to those that are `promised`, or the part that has changed, or else everything; and tells
    /// when it expires, if it does.
    async fn publish(
        &self,
        derived: &dyn Derived,
        inputs: &Snapshot,
        table: &mut dataset::Table,
        promised: Option<Dataset>,
        stands: Option<&Output>,
        output: &mut Output,
    ) -> Result<(Published, Option<Timestamp>), Error> {
        let card = derived.card();
        let properties = HashMap::from([("omnimesh.definition".to_owned(), output.definition.clone())]);
        if let Some(promised) = promised.map(Arc::new)
            && let Some(Growth { rows, expires }) = derived.extend(inputs, &promised, &self.runtime).await?
        {
            let told = stands.and_then(|last| Digest::known(last.rows, &last.content));
            let standing = match told {
                Some(digest) => digest,
                None => dataset::digest(table.name(), &promised).await?,
            };
            let turn = self.store.turn().await?;
            table.back_to(&turn, &promised).await?;
            let published = table.extend(&turn, rows, &card, properties, standing).await?;
            return Ok((published, Some(expires)));
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
                return Ok((published, None));
            }
        }
        let rows = derived.compute(inputs, &self.runtime).await?;
        let turn = self.store.turn().await?;
        let known = stands.map(|last| identity(&last.schema, &last.content));
        let published = table.replace(&turn, rows, &card, properties, known.as_deref()).await?;
        Ok((published, None))
    }
}

/// The digest of what a table is computed by.
pub(super) fn definition(derived: &dyn Derived) -> String {
    format!("{:032x}", crate::digest::half(&Sha256::digest(derived.definition())))
}
