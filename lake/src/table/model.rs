//! A table that is a query: a `.sql` file that begins with its card as comments.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    common::TableReference,
    execution::{SendableRecordBatchStream, runtime_env::RuntimeEnv},
    prelude::SessionContext,
};

use super::{Derived, TableName};
use crate::{
    Error, Layer,
    card::Card,
    sql::{Lineage, Snapshot, lineage},
};

/// A table that is a query.
pub(crate) struct Model {
    pub(crate) layer: Layer,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// The model in `table/<layer>/<name>.sql`.
macro_rules! model {
    ($layer:ident, $directory:literal, $name:literal) => {
        &$crate::table::model::Model {
            layer: $crate::Layer::$layer,
            name: $name,
            sql: include_str!(concat!("table/", $directory, "/", $name, ".sql")),
        }
    };
}
pub(crate) use model;

impl Model {
    /// Tables as the query names them.
    fn references(&self) -> Result<Vec<TableReference>, Error> {
        let state = SessionContext::new().state();
        let statement = state.sql_to_statement(self.sql, &datafusion::config::Dialect::Generic)?;
        Ok(state.resolve_table_references(&statement)?)
    }
}

#[async_trait]
impl Derived for Model {
    fn name(&self) -> Result<TableName, Error> {
        TableName::new(self.layer, self.name)
    }

    fn inputs(&self) -> Result<Vec<TableName>, Error> {
        let named = self.references()?.into_iter();
        named
            .map(|reference| {
                let layer = reference
                    .schema()
                    .and_then(|schema| Layer::ALL.into_iter().find(|l| l.as_str() == schema));
                let layer = layer.ok_or_else(|| Error::Definition {
                    table: format!("{}/{}", self.layer.as_str(), self.name),
                    reason: format!("it reads `{reference}`, which is not <layer>.<table>"),
                })?;
                TableName::new(layer, reference.table())
            })
            .collect()
    }

    fn card(&self) -> Card {
        let comments = self.sql.lines().map_while(|line| line.strip_prefix("--"));
        Card::parse(&comments.collect::<Vec<_>>().join("\n"))
    }

    fn definition(&self) -> &str {
        self.sql
    }

    async fn compute(
        &self,
        inputs: &Snapshot,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<SendableRecordBatchStream, Error> {
        Ok(inputs.context(runtime)?.sql(self.sql).await?.execute_stream().await?)
    }

    async fn lineage(&self, inputs: &Snapshot, runtime: &Arc<RuntimeEnv>) -> Result<Lineage, Error> {
        let frame = inputs.context(runtime)?.sql(self.sql).await?;
        Ok(lineage(frame.logical_plan()))
    }
}
