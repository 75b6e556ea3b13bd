//! The use cases: one method an RPC.

use std::{collections::HashMap, sync::Arc};

use arrow::{array::AsArray, array::RecordBatch, datatypes::TimestampMicrosecondType};
use datafusion::execution::runtime_env::RuntimeEnv;
use mesh::Clock;
use types::Timestamp;

use super::{
    historical::{Historical, Spine},
    online::Online,
    rows::{self, KEYS},
    view::Unit,
    wire::Asked,
};
use crate::{Error, Layer, TableName, Version, dataset::Store, run::PROD};

/// Answers about features.
#[derive(Clone)]
pub(crate) struct Service {
    store: Arc<Store>,
    runtime: Arc<RuntimeEnv>,
    online: Arc<Online>,
    clock: Clock,
}

/// Features of entities at a moment.
#[derive(Debug)]
pub(crate) struct Now {
    pub(crate) as_of: Timestamp,
    pub(crate) entities: Vec<Entity>,
}

/// Features of an entity at a moment.
#[derive(Debug)]
pub(crate) struct Entity {
    pub(crate) values: Vec<(Unit, Option<i64>)>,
    /// Since when they are true, by view.
    pub(crate) event_times: HashMap<String, Timestamp>,
}

impl Service {
    pub(crate) fn new(
        store: Arc<Store>,
        runtime: Arc<RuntimeEnv>,
        online: Arc<Online>,
        clock: Clock,
    ) -> Self {
        Self { store, runtime, online, clock }
    }

    /// Features as they are; `ids` has for each entity an id for each view.
    pub(crate) fn get_online_features(&self, asked: &Asked, ids: &[Vec<String>]) -> Result<Now, Error> {
        let views: Vec<_> = asked.views.iter().map(|(view, _)| *view).collect();
        let (now, served) = self.online.now(&views)?;
        let entity = |ids: &Vec<String>| {
            let places = views.iter().zip(&served).zip(ids);
            let places: Vec<_> =
                places.map(|((view, served), id)| served.rows.current(id, now, view.ttl)).collect();
            let values = asked.features.iter().map(|feature| {
                let table = served[feature.view].rows.table();
                let index = asked.views[feature.view].1[feature.place];
                let value = places[feature.view].and_then(|row| rows::value(table.column(KEYS + index), row));
                (feature.unit, value)
            });
            let event_times = views.iter().zip(&served).zip(&places).filter_map(|((view, served), row)| {
                let times = served.rows.table().column(1).as_primitive_opt::<TimestampMicrosecondType>()?;
                Some((view.name.to_owned(), Timestamp::from_micros(times.value((*row)?))))
            });
            Entity { values: values.collect(), event_times: event_times.collect() }
        };
        Ok(Now { as_of: Timestamp::from_micros(now), entities: ids.iter().map(entity).collect() })
    }

    /// Features as they were at the times of `spine`, by a version of the tables or by what is in force.
    pub(crate) async fn get_historical_features(
        &self,
        asked: &Asked,
        spine: RecordBatch,
        version: &str,
    ) -> Result<Historical, Error> {
        let spine = Spine::new(spine, asked, self.clock.now_micros())?;
        let version = if version.is_empty() { PROD } else { version };
        let mut datasets = Vec::new();
        for (view, _) in &asked.views {
            let name = TableName::new(Layer::Features, view.name)?;
            let found = self.store.at(&name, &Version::from(version)).await?;
            let missing = || match version {
                PROD => Error::Missing { table: name.clone() },
                version => Error::NotFound { what: format!("table {name} at {version}") },
            };
            datasets.push(Arc::new(found.ok_or_else(missing)?));
        }
        Historical::open(spine, asked, &datasets, &self.runtime).await
    }
}
