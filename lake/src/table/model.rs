//! A table that is a query: a `.sql` file that begins with its card as comments. Beside what a card says (see
//! [`crate::card`]) there may be lines of two more kinds:
//!
//! ```text
//! optional: silver.demographics (golden_id TEXT, age TEXT)
//! parts: silver.orders_unified by order_uid
//! ```
//!
//! An optional table is empty, with these columns, where the lake lacks it. A table with [`Parts`] is computed anew only
//! for those values of a column of which something has changed.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    common::TableReference,
    dataframe::DataFrame,
    execution::{SendableRecordBatchStream, runtime_env::RuntimeEnv},
    prelude::SessionContext,
};

use super::{Derived, Parts, TableName};
use crate::{
    Error, Layer,
    card::{self, Card},
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

    /// The comments that it begins with.
    fn header(&self) -> String {
        self.sql.lines().map_while(|line| line.strip_prefix("--")).collect::<Vec<_>>().join("\n")
    }

    fn invalid(&self, reason: String) -> Error {
        Error::Definition { table: format!("{}/{}", self.layer.as_str(), self.name), reason }
    }

    /// Tables that it can do without, and the columns that it reads of them.
    fn optional(&self) -> Result<BTreeMap<TableName, String>, Error> {
        let header = self.header();
        let entries = card::entries(&header).into_iter().filter(|(name, _)| *name == "optional");
        entries
            .map(|(_, value)| {
                let parts = value.strip_suffix(')').and_then(|value| value.split_once(" ("));
                let (table, columns) = parts.ok_or_else(|| {
                    self.invalid(format!("`optional: {value}` is not <layer>.<table> (<columns>)"))
                })?;
                Ok((table.parse()?, columns.to_owned()))
            })
            .collect()
    }

    /// Its result over `inputs`, which is yet to be computed.
    pub(super) async fn frame(
        &self,
        inputs: &Snapshot,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<DataFrame, Error> {
        let context = inputs.context(runtime)?;
        for (name, columns) in self.optional()? {
            if inputs.dataset(&name).is_err() {
                let (layer, name) = (name.layer().as_str(), name.as_str());
                context.sql(&format!("CREATE TABLE {layer}.{name} ({columns})")).await?;
            }
        }
        Ok(context.sql(self.sql).await?)
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
                let layer = layer.ok_or_else(|| {
                    self.invalid(format!("it reads `{reference}`, which is not <layer>.<table>"))
                })?;
                TableName::new(layer, reference.table())
            })
            .collect()
    }

    fn card(&self) -> Card {
        Card::parse(&self.header())
    }

    fn can_lack(&self, input: &TableName) -> Result<bool, Error> {
        Ok(self.optional()?.contains_key(input))
    }

    fn parts(&self) -> Result<Option<Parts>, Error> {
        let header = self.header();
        let Some((_, value)) = card::entries(&header).into_iter().find(|(name, _)| *name == "parts") else {
            return Ok(None);
        };
        let parts =
            value.split_once(" by ").filter(|(_, column)| self.card().key.iter().any(|k| k == column));
        let (input, column) = parts.ok_or_else(|| {
            self.invalid(format!("`parts: {value}` is not <layer>.<table> by <column of the key>"))
        })?;
        Ok(Some(Parts { input: input.parse()?, column: column.to_owned() }))
    }

    fn definition(&self) -> &str {
        self.sql
    }

    async fn compute(
        &self,
        inputs: &Snapshot,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<SendableRecordBatchStream, Error> {
        Ok(self.frame(inputs, runtime).await?.execute_stream().await?)
    }

    async fn lineage(&self, inputs: &Snapshot, runtime: &Arc<RuntimeEnv>) -> Result<Lineage, Error> {
        Ok(lineage(self.frame(inputs, runtime).await?.logical_plan()))
    }
}
