//! SQL over the lake's tables, each at one version.

mod lineage;
mod record;

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::RecordBatch;
use datafusion::{
    catalog::{MemorySchemaProvider, SchemaProvider, TableProvider},
    common::JoinType,
    execution::{
        memory_pool::FairSpillPool,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    prelude::{SessionConfig, SessionContext},
};
use lance::{datafusion::LanceTableProvider, dataset::Dataset};

use crate::{Error, Layer, TableName};

pub use lineage::{Lineage, Origin, Role};
pub(crate) use lineage::{lineage, through};

/// Rows of a batch between operators.
const BATCH_ROWS: usize = 8_192;
/// Parts of a query that run side by side, however many cores there are: each holds its share of the memory, and too
/// small a share is not enough to sort what has to go to the disk.
const PARTITIONS: usize = 2;
/// What queries and runs may put on the disk at once.
const SPILL_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// What each sort keeps for putting together again what it has put on the disk: a query of many windows has many sorts.
const MERGE_BYTES: usize = 2 * 1024 * 1024;
/// The catalogue that tables are in.
pub(crate) const CATALOG: &str = "lake";

/// Tables at one version each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    datasets: BTreeMap<TableName, Arc<Dataset>>,
    /// Why others cannot be read.
    broken: BTreeMap<TableName, Arc<Error>>,
    /// Of this table only the rows are seen that have the column's values.
    narrowed: Option<(TableName, RecordBatch)>,
}

impl Snapshot {
    pub(crate) fn insert(&mut self, name: TableName, dataset: Dataset) {
        self.datasets.insert(name, Arc::new(dataset));
    }

    /// Notes why a table cannot be read, or not for as long as it must be.
    pub(crate) fn lose(&mut self, name: TableName, error: Error) {
        self.datasets.remove(&name);
        self.broken.insert(name, Arc::new(error));
    }

    pub(crate) fn share(&mut self, name: TableName, dataset: &Arc<Dataset>) {
        self.datasets.insert(name, Arc::clone(dataset));
    }

    /// The same tables, but of one of them only the rows whose column has one of the `values`, a batch of that column.
    pub(crate) fn narrowed(&self, name: &TableName, values: &RecordBatch) -> Self {
        Self { narrowed: Some((name.clone(), values.clone())), ..self.clone() }
    }

    /// A table that is in the snapshot.
    pub(crate) fn dataset(&self, name: &TableName) -> Result<&Arc<Dataset>, Error> {
        self.datasets.get(name).ok_or_else(|| match self.broken.get(name) {
            Some(error) => Error::Input(Arc::clone(error)),
            None => Error::Missing { table: name.clone() },
        })
    }

    /// Every table that is in the snapshot.
    pub(crate) fn datasets(&self) -> impl Iterator<Item = &Dataset> {
        self.datasets.values().map(Arc::as_ref)
    }

    /// A session in which the tables are called `<layer>.<name>`, and that uses no more memory than `runtime` has.
    pub(crate) fn context(&self, runtime: &Arc<RuntimeEnv>) -> Result<SessionContext, Error> {
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, Layer::Gold.as_str())
            .with_batch_size(BATCH_ROWS)
            .with_target_partitions(PARTITIONS)
            .with_information_schema(true);
        config.options_mut().execution.sort_spill_reservation_bytes = MERGE_BYTES;
        // Tables keep plain texts: a view would be cast again at the end.
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        // Fields of tables say what they hold; plans lose that on the way, and need not agree about it.
        config.options_mut().execution.skip_physical_aggregate_schema_check = true;
        let context = SessionContext::new_with_config_rt(config, Arc::clone(runtime));
        record::functions().for_each(|function| context.register_udf(function));
        if let Some(catalog) = context.catalog(CATALOG) {
            for layer in Layer::ALL {
                let schema = MemorySchemaProvider::new();
                for (name, dataset) in self.datasets.iter().filter(|(name, _)| name.layer() == layer) {
                    let table =
                        LanceTableProvider::new_with_ordering(Arc::clone(dataset), false, false, false);
                    let table: Arc<dyn TableProvider> = match &self.narrowed {
                        Some((narrowed, values)) if narrowed == name => {
                            narrow(&context, Arc::new(table), values.clone())?
                        }
                        _ => Arc::new(table),
                    };
                    schema.register_table(name.as_str().to_owned(), table)?;
                }
                catalog.register_schema(layer.as_str(), Arc::new(schema))?;
            }
        }
        Ok(context)
    }
}

/// The rows of a table whose column has one of the `values`.
fn narrow(
    context: &SessionContext,
    table: Arc<dyn TableProvider>,
    values: RecordBatch,
) -> Result<Arc<dyn TableProvider>, Error> {
    let schema = values.schema();
    let columns: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let values = context.read_batch(values)?.alias("wanted")?;
    let rows = context.read_table(table)?.alias("rows")?;
    Ok(rows.join(values, JoinType::LeftSemi, &columns, &columns, None)?.into_view())
}

/// What sessions share: `bytes` of memory at most, over all of them; what needs more goes to the disk meanwhile.
pub(crate) fn runtime(bytes: usize) -> Result<Arc<RuntimeEnv>, Error> {
    let pool = Arc::new(FairSpillPool::new(bytes));
    let builder = RuntimeEnvBuilder::new().with_memory_pool(pool).with_max_temp_directory_size(SPILL_BYTES);
    Ok(builder.build_arc()?)
}
