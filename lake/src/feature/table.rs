//! Views as tables of the lake: filled once from all there is, and only added to from then on.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::Schema, error::ArrowError};
use async_trait::async_trait;
use datafusion::{
    common::HashSet,
    error::DataFusionError,
    execution::{SendableRecordBatchStream, runtime_env::RuntimeEnv},
    physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::{TryStreamExt, stream};
use lance::dataset::Dataset;
use types::Timestamp;

use super::{
    asof::Timelines,
    fact::{Histories, History},
    online::{ACTIVATION, LEASE},
    rows::{self, Batch},
    timeline,
    view::{EVENT_TIME, KNOWN_AT, SECOND, Subject, View},
};
use crate::{
    Error, Layer, TableName,
    card::Card,
    dataset::failed,
    sql::{Lineage, Role, Snapshot, lineage, through},
    table::{Derived, Growth},
};

/// Rows that are passed on together, at least.
const ROWS: usize = 8_192;
/// How long an order may take, so that a large lake has the time that it needs until its rows are known.
const PER_ORDER: i64 = SECOND / 10_000;

#[async_trait]
impl Derived for &'static View {
    fn name(&self) -> Result<TableName, Error> {
        TableName::new(Layer::Features, self.name)
    }

    fn inputs(&self) -> Result<Vec<TableName>, Error> {
        Ok(vec![orders()?])
    }

    fn card(&self) -> Card {
        View::card(self)
    }

    fn definition(&self) -> &str {
        self.definition.get_or_init(|| {
            let mut text = self.facts.to_owned();
            for feature in self.features.iter() {
                text.push_str(&format!("{}: {}\n", feature.name, feature.doc));
            }
            text
        })
    }

    async fn compute(
        &self,
        inputs: &Snapshot,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<SendableRecordBatchStream, Error> {
        let facts = inputs.context(runtime)?.sql(self.facts).await?.execute_stream().await?;
        Ok(Making::new(self, facts, Timestamp::now().micros(), None).stream())
    }

    async fn extend(
        &self,
        inputs: &Snapshot,
        promised: &Arc<Dataset>,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<Option<Growth>, Error> {
        // A feature that is new has no past in what stands.
        let names =
            |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        if names(&Schema::from(promised.schema())) != names(&self.schema()) {
            return Ok(None);
        }
        let orders = orders()?;
        let count = inputs.dataset(&orders)?.count_rows(None).await;
        let count = count.map_err(|error| failed(&orders, "read", error))? as i64;
        let stamp = Timestamp::now().micros() + ACTIVATION + count * PER_ORDER;
        let (standing, newest) = rows::current(self, promised, runtime, stamp).await?;
        let facts = inputs.context(runtime)?.sql(self.facts).await?.execute_stream().await?;
        let stamp = stamp.max(newest + 1);
        let rows = Making::new(self, facts, stamp, Some(standing)).stream();
        // Whoever answers for now must have heard of the rows by the time at which they are known.
        Ok(Some(Growth { rows, expires: Timestamp::from_micros(stamp - LEASE) }))
    }

    async fn lineage(&self, inputs: &Snapshot, runtime: &Arc<RuntimeEnv>) -> Result<Lineage, Error> {
        let frame = inputs.context(runtime)?.sql(self.facts).await?;
        let facts = lineage(frame.logical_plan());
        let of = |fact: &str, role| through(facts.columns.get(fact).cloned().unwrap_or_default(), role);
        let keys = [(self.entity, self.grain.entity()), (EVENT_TIME, "ordered_at"), (KNOWN_AT, "known_at")];
        let keys = keys.map(|(column, fact)| (column.to_owned(), of(fact, Role::Transformation).collect()));
        let features = self.features.iter().map(|feature| {
            let reads = feature.reads.iter().flat_map(|fact| of(fact, feature.role()));
            let past = of("subject", Role::GroupBy).chain(of("ordered_at", Role::Window));
            (feature.name.clone(), past.chain(reads).collect())
        });
        Ok(Lineage { columns: keys.into_iter().chain(features).collect(), rows: facts.rows })
    }
}

fn orders() -> Result<TableName, Error> {
    TableName::new(Layer::Silver, "orders_unified")
}

/// A table's rows in the making.
struct Making {
    view: &'static View,
    facts: SendableRecordBatchStream,
    histories: Histories,
    /// When the rows will be known.
    stamp: i64,
    /// What to add to, and which of its entities were seen among the facts.
    standing: Option<(Timelines, HashSet<String>)>,
    rows: Batch,
    is_done: bool,
}

impl Making {
    fn new(
        view: &'static View,
        facts: SendableRecordBatchStream,
        stamp: i64,
        standing: Option<Timelines>,
    ) -> Self {
        let standing = standing.map(|standing| (standing, HashSet::new()));
        let (histories, rows) = (Histories::default(), Batch::new(view));
        Self { view, facts, histories, stamp, standing, rows, is_done: false }
    }

    fn stream(self) -> SendableRecordBatchStream {
        let schema = self.view.schema();
        Box::pin(RecordBatchStreamAdapter::new(schema, stream::try_unfold(self, Self::next)))
    }

    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>, DataFusionError> {
        while !self.is_done {
            let facts = self.facts.try_next().await?;
            let taken = tokio::task::spawn_blocking(move || self.take(facts)).await;
            self = taken.map_err(|error| DataFusionError::External(Box::new(error)))??;
            if self.rows.len() >= ROWS || (self.is_done && self.rows.len() > 0) {
                return Ok(Some((self.rows.take()?, self)));
            }
        }
        Ok(None)
    }

    /// Makes rows of what the facts complete; of all that is left once there are none any more.
    fn take(mut self, facts: Option<RecordBatch>) -> Result<Self, DataFusionError> {
        match facts {
            Some(facts) => {
                for history in self.histories.take(&facts, self.stamp)? {
                    self.add(&history);
                }
            }
            None => {
                if let Some(history) = std::mem::take(&mut self.histories).finish() {
                    self.add(&history);
                }
                self.finish()?;
            }
        }
        Ok(self)
    }

    fn add(&mut self, history: &History) {
        for subject in self.view.subjects(history) {
            let rows = match &mut self.standing {
                None => timeline::backfill(self.view, &subject, self.stamp),
                Some((standing, seen)) => {
                    seen.insert(subject.entity.to_owned());
                    let standing = rows::standing(standing, subject.entity);
                    timeline::advance(self.view, &subject, &standing, self.stamp)
                }
            };
            rows.into_iter().for_each(|row| self.rows.add(subject.entity, row));
        }
    }

    fn finish(&mut self) -> Result<(), ArrowError> {
        self.is_done = true;
        let Some((standing, seen)) = &self.standing else { return Ok(()) };
        let mut gone: Vec<_> = standing.entities().filter(|entity| !seen.contains(*entity)).collect();
        gone.sort_unstable();
        for entity in gone {
            let subject = Subject { entity, purchases: &[], order: None };
            let rows = timeline::advance(self.view, &subject, &rows::standing(standing, entity), self.stamp);
            rows.into_iter().for_each(|row| self.rows.add(entity, row));
        }
        // They are still to be committed and promised before they expire.
        let late = Timestamp::now().micros() + LEASE + ACTIVATION / 4 - self.stamp;
        match (self.rows.len(), late) {
            (0, _) | (_, ..=0) => Ok(()),
            _ => Err(ArrowError::ComputeError(format!(
                "its rows took {} s longer than readers wait for them; run it while the machine does less",
                late / SECOND + 1
            ))),
        }
    }
}
