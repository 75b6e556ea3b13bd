//! Letting others rely on what was made.

use std::collections::BTreeSet;

use types::Timestamp;

use super::{Output, PROD, Run, Runner, is_of_run, make::Made};
use crate::{Error, TableName, dataset};

impl Runner {
    /// Lets others rely on a table: its version is named, then kept, and only then is it `prod`. So a process that dies
    /// leaves no tag on what no manifest names. Tables that are computed later are made of it.
    pub(super) async fn promise(&self, made: Made, run: &mut Run) -> Result<Output, Error> {
        let Made { mut table, output, expires } = made;
        run.manifest.note(output.clone());
        run.manifest.write(&self.store).await?;
        remember(&mut table, output.version, &run.remembered).await?;
        if expires.is_some_and(|expires| expires <= Timestamp::now()) {
            return Err(Error::Late { table: table.name().clone() });
        }
        table.tag(PROD, output.version).await?;
        if table.has_lost() {
            self.store.mended(table.name()).await?;
        }
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
