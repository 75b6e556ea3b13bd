//! Letting others rely on what was made.

use std::collections::BTreeSet;

use super::{Outcome, Output, PROD, Run, Runner, is_of_run, make::Made};
use crate::{Error, TableName, dataset};

impl Runner {
    /// Lets others rely on a table: its version is kept, then named, and only then is it `prod`. So a process that dies
    /// leaves nothing as `prod` that no manifest names. Tables that are computed later are made of it.
    pub(super) async fn promise(&self, made: Made, run: &mut Run) -> Result<Output, Error> {
        let Made { mut table, output } = made;
        remember(&mut table, output.version, &run.remembered).await?;
        if output.outcome == Outcome::Published {
            run.manifest.note(output.clone());
            run.manifest.write(&self.store).await?;
        }
        table.tag(PROD, output.version).await?;
        if let Some(dataset) = table.dataset() {
            run.sources.insert(table.name().clone(), dataset.clone());
        }
        Ok(output)
    }

    /// Lets a version be read for as long as its run is remembered.
    pub(super) async fn keep(
        &self,
        name: &TableName,
        version: u64,
        remembered: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let mut table = self.store.open(name.clone()).await?;
        remember(&mut table, version, remembered).await
    }
}

/// Tags a version with the last of the runs that are `remembered`, and lets those of forgotten runs go.
async fn remember(
    table: &mut dataset::Table,
    version: u64,
    remembered: &BTreeSet<String>,
) -> Result<(), Error> {
    if let Some(run) = remembered.last() {
        table.tag(run, version).await?;
    }
    table.untag(|tag| is_of_run(tag) && !remembered.contains(tag)).await
}
