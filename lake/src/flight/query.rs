//! Planning and running queries: nothing but reading, over pinned versions, within limits.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    execution::{SendableRecordBatchStream, context::SQLOptions, runtime_env::RuntimeEnv},
    logical_expr::LogicalPlan,
    physical_plan::execute_stream,
    prelude::SessionContext,
    sql::{parser::Statement as Parsed, resolve::resolve_table_references},
};
use futures::{Stream, StreamExt, TryStreamExt, stream, stream::BoxStream};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Failure, Statement, parse::parse, running::Run, workers::Workers};
use crate::{
    Config, Error, Layer, TableName, Version,
    dataset::Store,
    sql::{CATALOG, Snapshot},
};

/// The layers that may be queried: what landed is as personal as its sources, and vectors are searched elsewhere.
pub(super) const LAYERS: [Layer; 3] = [Layer::Silver, Layer::Gold, Layer::Features];
const INFORMATION_SCHEMA: &str = "information_schema";
/// Batches that wait for a caller who reads slowly.
const AHEAD: usize = 1;

/// Answers queries.
pub(super) struct Engine {
    planner: Planner,
    workers: Workers,
    rows: u64,
    seconds: u64,
}

/// What a query answers with.
pub(super) type Rows = BoxStream<'static, Result<RecordBatch, Failure>>;

/// A query whose answer's shape is known.
pub(super) struct Prepared {
    pub(super) schema: SchemaRef,
    pub(super) versions: BTreeMap<String, u64>,
}

impl Engine {
    pub(super) fn new(config: &Config, store: Arc<Store>, runtime: Arc<RuntimeEnv>) -> Result<Self, Error> {
        Ok(Self {
            planner: Planner { store, runtime },
            workers: Workers::start()?,
            rows: config.query_rows,
            seconds: config.query_seconds,
        })
    }

    /// Plans a query over `version` of its tables.
    pub(super) async fn prepare(&self, statement: &Statement, version: Version) -> Result<Prepared, Failure> {
        let (planner, statement) = (self.planner.clone(), statement.clone());
        self.workers
            .run(async move {
                let planned = planner.plan(&statement, &version).await?.bound(&statement)?;
                let schema = planned.physical().await?.schema();
                Ok(Prepared { schema, versions: planned.versions })
            })
            .await
    }

    /// The columns of a query's answer, and those that its parameters are bound by.
    pub(super) async fn describe(
        &self,
        statement: &Statement,
        version: Version,
    ) -> Result<(Schema, Schema), Failure> {
        let (planner, statement) = (self.planner.clone(), statement.clone());
        self.workers
            .run(async move {
                let planned = planner.plan(&statement, &version).await?;
                Ok((planned.plan.schema().as_arrow().clone(), planned.parameters()?))
            })
            .await
    }

    /// Runs a query for as long as the rows are read, within its limits and until `run` is cancelled.
    pub(super) async fn run(&self, statement: Statement, run: Run) -> Result<(SchemaRef, Rows), Failure> {
        let deadline = Instant::now() + Duration::from_secs(self.seconds);
        let planner = self.planner.clone();
        let mut batches = self.workers.run(async move { planner.execute(&statement).await }).await?;
        let schema = batches.schema();
        let (sender, receiver) = mpsc::channel(AHEAD);
        let task = self.workers.spawn(async move {
            while let Some(batch) = batches.try_next().await.map_err(Failure::of_query)? {
                // Nobody reads any more.
                if sender.send(batch).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        let (rows, seconds) = (self.rows, self.seconds);
        let answer = Answer { receiver, task, run, deadline, seconds, rows, rows_left: rows };
        Ok((schema, answer.within_limits().boxed()))
    }

    /// The tables that may be queried, with their columns if they are wanted.
    pub(super) async fn tables(
        &self,
        version: Version,
        with_columns: bool,
    ) -> Result<Vec<(TableName, Schema)>, Failure> {
        let mut tables = Vec::new();
        for name in self.planner.names().await? {
            if !with_columns && version == Version::Published {
                tables.push((name, Schema::empty()));
            } else if let Some(dataset) = self.planner.store.at(&name, &version).await? {
                tables.push((name, Schema::from(dataset.schema())));
            }
        }
        Ok(tables)
    }
}

/// An answer on its way.
struct Answer {
    receiver: mpsc::Receiver<RecordBatch>,
    /// Computes it; aborted with the answer.
    task: AbortOnDropHandle<Result<(), Failure>>,
    run: Run,
    deadline: Instant,
    seconds: u64,
    rows: u64,
    rows_left: u64,
}

impl Answer {
    fn within_limits(self) -> impl Stream<Item = Result<RecordBatch, Failure>> + Send {
        stream::try_unfold(self, |mut answer| async move {
            let batch = tokio::select! {
                biased;
                () = answer.run.cancelled() => return Err(Failure::Cancelled),
                () = sleep_until(answer.deadline) => return Err(Failure::Time(answer.seconds)),
                batch = answer.receiver.recv() => batch,
            };
            let Some(batch) = batch else {
                // It may have ended because it failed.
                (&mut answer.task).await.map_err(Error::Interrupted)??;
                return Ok(None);
            };
            let left = answer.rows_left.checked_sub(batch.num_rows() as u64);
            answer.rows_left = left.ok_or(Failure::Rows(answer.rows))?;
            Ok(Some((batch, answer)))
        })
    }
}

#[derive(Clone)]
struct Planner {
    store: Arc<Store>,
    runtime: Arc<RuntimeEnv>,
}

impl Planner {
    /// Plans a query over the versions that it names, and over `version` of tables that it names none of.
    async fn plan(&self, statement: &Statement, version: &Version) -> Result<Planned, Failure> {
        let parsed = parse(&statement.sql)?;
        let (tables, is_listing) = self.tables(&parsed).await?;
        let mut snapshot = Snapshot::default();
        let mut versions = BTreeMap::new();
        for table in tables {
            let pinned = statement.versions.get(&table.to_string());
            let version = pinned.map_or_else(|| version.clone(), |number| Version::Number(*number));
            match (self.store.at(&table, &version).await?, version) {
                (Some(dataset), _) => {
                    versions.insert(table.to_string(), dataset.version().version);
                    snapshot.insert(table, dataset);
                }
                // The planner says so, and which tables are like it.
                (None, Version::Published | Version::Newest) => {}
                (None, _) if is_listing => {}
                (None, Version::Tag(tag)) => return Err(Failure::NoTag { table, tag }),
                (None, Version::Number(version)) => return Err(Failure::Gone { table, version }),
            }
        }
        let context = snapshot.context(&self.runtime)?;
        let plan = context.state().statement_to_plan(parsed).await.map_err(Failure::of_query)?;
        let reading =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reading.verify_plan(&plan).map_err(|error| Failure::NotAQuery(error.strip_backtrace()))?;
        Ok(Planned { context, plan, versions })
    }

    async fn execute(&self, statement: &Statement) -> Result<SendableRecordBatchStream, Failure> {
        let planned = self.plan(statement, &Version::Published).await?.bound(statement)?;
        execute_stream(planned.physical().await?, planned.context.task_ctx()).map_err(Failure::of_query)
    }

    async fn names(&self) -> Result<Vec<TableName>, Failure> {
        let names = self.store.names().await?.into_iter();
        Ok(names.filter(|name| LAYERS.contains(&name.layer())).collect())
    }

    /// The tables that a query reads, as far as they can be ours; and whether it is about tables, so that it reads all.
    async fn tables(&self, parsed: &Parsed) -> Result<(Vec<TableName>, bool), Failure> {
        let (references, _) = resolve_table_references(parsed, true).map_err(Failure::of_query)?;
        if references.iter().any(|reference| reference.schema() == Some(INFORMATION_SCHEMA)) {
            return Ok((self.names().await?, true));
        }
        let tables = references.into_iter().filter_map(|reference| {
            let reference = reference.resolve(CATALOG, Layer::Gold.as_str());
            let layer = LAYERS.into_iter().find(|layer| layer.as_str() == &*reference.schema)?;
            TableName::new(layer, &*reference.table).ok()
        });
        Ok((tables.collect(), false))
    }
}

/// A query with all that it reads.
struct Planned {
    context: SessionContext,
    plan: LogicalPlan,
    versions: BTreeMap<String, u64>,
}

impl Planned {
    /// With the parameters' values in their places.
    fn bound(mut self, statement: &Statement) -> Result<Self, Failure> {
        let values = statement.values()?;
        if !values.is_empty() {
            self.plan = self.plan.with_param_values(values).map_err(Failure::of_query)?;
        }
        let free = self.parameters()?;
        match free.fields().len() {
            0 => Ok(self),
            free => {
                Err(Failure::Parameters(format!("the query has {free} parameters that nothing is bound to")))
            }
        }
    }

    /// The parameters by their numbers; one whose type the query leaves open is null.
    fn parameters(&self) -> Result<Schema, Failure> {
        let found = self.plan.get_parameter_fields().map_err(Failure::of_query)?;
        let number = |name: &str| name.trim_start_matches('$').parse::<usize>().unwrap_or(usize::MAX);
        let sorted: BTreeMap<_, _> =
            found.into_iter().map(|(name, field)| ((number(&name), name), field)).collect();
        let fields = sorted.into_iter().map(|((_, name), field)| {
            let kind = field.map_or(DataType::Null, |field| field.data_type().clone());
            Field::new(name, kind, true)
        });
        Ok(Schema::new(fields.collect::<Vec<_>>()))
    }

    async fn physical(&self) -> Result<Arc<dyn datafusion::physical_plan::ExecutionPlan>, Failure> {
        self.context.state().create_physical_plan(&self.plan).await.map_err(Failure::of_query)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        card::Card,
        columns::{batch, integer},
        flight::parse,
        run::PROD,
        sql,
    };

    fn engine(root: &TempDir) -> Engine {
        let config = Config { root: root.path().into(), ..Config::default() };
        let store = Arc::new(Store::create(&config.root).unwrap());
        Engine::new(&config, store, sql::runtime(config.query_bytes()).unwrap()).unwrap()
    }

    async fn prepare(sql: &str) -> Result<Prepared, Failure> {
        let root = TempDir::new().unwrap();
        engine(&root).prepare(&Statement::new(sql.to_owned()), Version::Published).await
    }

    #[tokio::test]
    async fn nothing_but_reading_is_planned() {
        for sql in [
            "SELECT 1",
            "EXPLAIN SELECT 1",
            "SHOW TABLES",
            "SELECT * FROM information_schema.tables",
            "VALUES (1)",
        ] {
            assert!(prepare(sql).await.is_ok(), "{sql}");
        }
        for sql in [
            "CREATE TABLE t AS SELECT 1",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "COPY (SELECT 1) TO '/tmp/x' STORED AS CSV",
            "CREATE VIEW v AS SELECT 1",
            "DROP TABLE IF EXISTS t",
            "SET datafusion.execution.batch_size = 1",
            "EXPLAIN CREATE TABLE t AS SELECT 1",
            "PREPARE p AS SELECT 1",
        ] {
            let failure = prepare(sql).await.err().unwrap();
            assert!(matches!(failure, Failure::NotAQuery(_) | Failure::Sql(_)), "{sql}: {failure}");
        }
        for sql in [
            "SELECT * FROM '/etc/passwd'",
            "SELECT * FROM bronze.bronze_shop__orders",
            "",
            "SELECT 1; SELECT 2",
        ] {
            let failure = prepare(sql).await.err().unwrap();
            assert!(matches!(failure, Failure::Sql(_)), "{sql}: {failure}");
        }
    }

    #[tokio::test]
    async fn of_a_computed_table_what_is_published_is_read() {
        let root = TempDir::new().unwrap();
        let engine = engine(&root);
        let store = &engine.planner.store;
        let mut table = store.open("gold/dim_made".parse().unwrap()).await.unwrap();
        let card = Card { key: vec!["key".to_owned()], ..Card::default() };
        let statement = Statement::new("SELECT * FROM dim_made".to_owned());
        let mut versions = Vec::new();
        for rows in 1..=2 {
            let rows = batch(vec![integer("key", 0..rows)]).unwrap();
            let rows = RecordBatchStreamAdapter::new(rows.schema(), stream::iter([Ok(rows)]));
            let turn = store.turn().await.unwrap();
            table.replace(&turn, Box::pin(rows), &card, HashMap::new(), None).await.unwrap();
            versions.push(table.dataset().unwrap().version().version);
        }
        let unknown = engine.prepare(&statement, Version::Published).await.err().unwrap();
        assert!(matches!(unknown, Failure::Sql(_)), "{unknown}");
        table.tag(PROD, versions[0]).await.unwrap();
        let prepared = engine.prepare(&statement, Version::Published).await.unwrap();
        assert_eq!(prepared.versions["gold/dim_made"], versions[0]);
    }

    #[tokio::test]
    async fn the_longest_text_fits_into_the_stack() {
        let sum = |terms: usize| format!("SELECT {}1", "1 + ".repeat(terms));
        prepare(&sum(parse::WORDS / 2 - 1)).await.unwrap();
        assert!(matches!(prepare(&sum(parse::WORDS / 2)).await, Err(Failure::Long { .. })));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_query_is_told_in_a_line() {
        for (sql, hint) in [
            ("SELECT nothing", "nothing"),
            ("SELECT 1 FROM gold.dim_nothing", "dim_nothing"),
            ("SELEC 1", "SELEC"),
            ("SELECT 'a' + ARRAY[1]", "coerce"),
            ("SELECT ? + ?", "2 parameters"),
        ] {
            let text = prepare(sql).await.err().unwrap().to_string();
            assert!(text.contains(hint) && !text.contains('\n'), "{sql}: {text}");
        }
    }

    #[tokio::test]
    async fn question_marks_are_parameters_one_after_another() {
        let root = TempDir::new().unwrap();
        let statement = Statement::new("SELECT ? = 1, 'a?' LIKE ?, $1".to_owned());
        let (_, parameters) = engine(&root).describe(&statement, Version::Published).await.unwrap();
        let names: Vec<_> = parameters.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["$1", "$2"]);
    }
}
