//! Before a table of vectors is relied on: an index for whoever reads it with Lance, and how much that finds.

use std::collections::BTreeMap;

use arrow::{
    array::{AsArray, Float32Array, RecordBatch},
    datatypes::Float32Type,
};
use lance::dataset::Dataset;

use super::{
    VECTOR, components,
    ivf::{Hit, Ivf},
    recall::{self, K, Queries},
};
use crate::{
    Error, TableName,
    dataset::{Table, failed},
};

/// Below this many rows Lance looks at all of them in a tenth of a second, and lists take longer to make than they save.
const INDEXED: usize = 100_000;
/// What a reader may search through for each query, beginning with the least.
const PROBES: [usize; 4] = [8, 16, 32, 64];
/// What must be found of the truth.
const RECALL: f64 = 0.98;

/// Indexes a table as far as it needs to be, and says how well it answers. An error if that is not well enough.
pub(crate) async fn publish(table: &mut Table) -> Result<BTreeMap<String, String>, Error> {
    publish_from(table, INDEXED).await
}

async fn publish_from(table: &mut Table, indexed: usize) -> Result<BTreeMap<String, String>, Error> {
    let name = table.name().clone();
    let Some(dataset) = table.dataset() else { return Ok(BTreeMap::new()) };
    let rows = read(&name, dataset, &[VECTOR]).await?;
    if rows.num_rows() < indexed {
        return Ok(facts("none: every row is compared", 1.0, None));
    }
    let lists = rows.num_rows().isqrt();
    table.index_vectors(VECTOR, lists).await?;
    let Some(dataset) = table.dataset() else { return Ok(BTreeMap::new()) };
    let measured = tokio::task::spawn_blocking(move || truth(&rows)).await?;
    let (queries, truth) = measured.ok_or_else(|| not_vectors(&name))?;
    let mut found = 0.0;
    for probes in PROBES {
        found = recall_at(&name, dataset, &queries, &truth, probes).await?;
        if found >= RECALL {
            return Ok(facts(&format!("IVF_FLAT, cosine, {lists} lists"), found, Some(probes)));
        }
    }
    Err(Error::Definition { table: name.to_string(), reason: too_little(found) })
}

fn too_little(found: f64) -> String {
    format!(
        "its index finds {found:.4} of the nearest {K} rows, {RECALL} are asked for; `prod` stays where it is: \
         look at the vectors, or at the number of lists"
    )
}

fn facts(index: &str, recall: f64, probes: Option<usize>) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([
        ("index".to_owned(), index.to_owned()),
        (format!("recall_at_{K}"), format!("{recall:.4}")),
    ]);
    facts.extend(probes.map(|probes| ("nprobes".to_owned(), probes.to_string())));
    facts
}

/// Queries, and what is nearest to each.
fn truth(rows: &RecordBatch) -> Option<(Queries, Vec<Vec<Hit>>)> {
    let (dimension, vectors) = components(rows)?;
    let queries = Queries::near(dimension, vectors);
    let exact = Ivf::exact(dimension, vectors);
    let truth = queries.iter().map(|query| exact.search(query, K, |_| true)).collect();
    Some((queries, truth))
}

/// What Lance finds of the truth when it looks through `probes` lists.
async fn recall_at(
    name: &TableName,
    dataset: &Dataset,
    queries: &Queries,
    truth: &[Vec<Hit>],
    probes: usize,
) -> Result<f64, Error> {
    let mut recalls = Vec::with_capacity(truth.len());
    for (query, truth) in queries.iter().zip(truth) {
        let found = nearest(dataset, query, probes).await.map_err(|error| failed(name, "searched", error))?;
        recalls.push(recall::of(truth, &found));
    }
    Ok(recall::mean(recalls.into_iter()))
}

async fn nearest(dataset: &Dataset, query: &[f32], probes: usize) -> Result<Vec<Hit>, lance::Error> {
    let mut scan = dataset.scan();
    scan.nearest(VECTOR, &Float32Array::from(query.to_vec()), K)?.nprobes(probes);
    scan.disable_scoring_autoprojection();
    let batch = scan.project(&["_distance"])?.with_row_id().try_into_batch().await?;
    let distances =
        batch.column_by_name("_distance").and_then(|column| column.as_primitive_opt::<Float32Type>());
    let distances = distances.map(|distances| distances.values().as_ref()).unwrap_or_default();
    Ok(distances.iter().zip(0..).map(|(distance, row)| Hit { similarity: 1.0 - distance, row }).collect())
}

/// All rows of a table, with these columns.
pub(crate) async fn read(
    name: &TableName,
    dataset: &Dataset,
    columns: &[&str],
) -> Result<RecordBatch, Error> {
    let failed = |error| failed(name, "read", error);
    let mut scan = dataset.scan();
    scan.project(columns).map_err(failed)?;
    scan.try_into_batch().await.map_err(failed)
}

/// The table does not hold what tables of vectors do.
pub(crate) fn not_vectors(name: &TableName) -> Error {
    let reason = format!("it has no column `{VECTOR}` of lists of the same length; compute it again");
    Error::Definition { table: name.to_string(), reason }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use arrow::{
        array::{FixedSizeListArray, StringArray},
        datatypes::{DataType, Field, Schema},
    };
    use async_trait::async_trait;
    use datafusion::{
        execution::{SendableRecordBatchStream, runtime_env::RuntimeEnv},
        physical_plan::stream::RecordBatchStreamAdapter,
    };
    use futures::stream;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        Config, Layer, Outcome, Version,
        card::Card,
        dataset::Store,
        run::{PROD, Runner},
        sql::{Lineage, Snapshot},
        table::Derived,
        vector::{ENTITY, component, embedder::unit},
    };

    const DIMENSION: usize = 128;

    const ROWS: usize = 20_000;

    /// Vectors around centres, which lists can hold apart; or, once it is told to, vectors that point anywhere.
    #[derive(Debug, Default)]
    struct Table {
        is_noise: Arc<AtomicBool>,
    }

    fn vectors(is_noise: bool) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut spread =
            |width: f32| (0..DIMENSION).map(|_| random.random_range(-width..width)).collect::<Vec<_>>();
        let centres: Vec<_> = (0..100).map(|_| spread(1.0)).collect();
        let rows = (0..ROWS).map(|row| {
            let centre = centres[row % centres.len()].iter().map(|value| if is_noise { 0.0 } else { *value });
            unit(centre.zip(spread(0.1)).map(|(a, b)| a + b).collect()).unwrap()
        });
        rows.flatten().collect()
    }

    #[async_trait]
    impl Derived for Table {
        fn name(&self) -> Result<TableName, Error> {
            TableName::new(Layer::Embeddings, "points__random")
        }

        fn inputs(&self) -> Result<Vec<TableName>, Error> {
            Ok(Vec::new())
        }

        fn card(&self) -> Card {
            Card { key: vec![ENTITY.to_owned()], ..Card::default() }
        }

        fn definition(&self) -> &str {
            if self.is_noise.load(Ordering::Relaxed) { "noise" } else { "centres" }
        }

        async fn compute(
            &self,
            _inputs: &Snapshot,
            _runtime: &Arc<RuntimeEnv>,
        ) -> Result<SendableRecordBatchStream, Error> {
            let values = Arc::new(Float32Array::from(vectors(self.is_noise.load(Ordering::Relaxed))));
            let vectors = FixedSizeListArray::try_new(component(), DIMENSION as i32, values, None)?;
            let entities = StringArray::from_iter_values((0..ROWS).map(|row| format!("{row:05}")));
            let schema = Arc::new(Schema::new(vec![
                Field::new(ENTITY, DataType::Utf8, false),
                Field::new(VECTOR, DataType::FixedSizeList(component(), DIMENSION as i32), false),
            ]));
            let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(entities), Arc::new(vectors)]);
            let rows = stream::iter([rows.map_err(Into::into)]);
            Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
        }

        async fn ready(
            &self,
            computed: &mut crate::dataset::Table,
        ) -> Result<BTreeMap<String, String>, Error> {
            publish_from(computed, ROWS).await
        }

        async fn lineage(&self, _: &Snapshot, _: &Arc<RuntimeEnv>) -> Result<Lineage, Error> {
            Ok(Lineage::default())
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn prod_moves_only_to_what_is_found_again() {
        let directory = TempDir::new().unwrap();
        let config = Config { root: directory.path().into(), ..Config::default() };
        let store = Arc::new(Store::create(&config.root).unwrap());
        let is_noise = Arc::new(AtomicBool::new(false));
        let table = Table { is_noise: Arc::clone(&is_noise) };
        let name = table.name().unwrap();
        let runner = Runner::new(&config, Arc::clone(&store), vec![Arc::new(table)]).unwrap();
        let wanted = [name.clone()];

        let run = runner.run(&wanted, &|_| {}).await.unwrap();
        assert_eq!(run.outputs[0].outcome, Outcome::Published);
        let tag = Version::Tag(PROD.to_owned());
        let published = store.at(&name, &tag).await.unwrap().unwrap();
        assert_eq!(published.version().version, run.outputs[0].version);
        let said = |fact: &str| published.metadata()[&format!("omnimesh.card.{fact}")].clone();
        assert_eq!(
            (said("index"), said("nprobes")),
            ("IVF_FLAT, cosine, 141 lists".to_owned(), "8".to_owned())
        );
        assert!(said("recall_at_10").parse::<f64>().unwrap() >= RECALL);

        is_noise.store(true, Ordering::Relaxed);
        let run = runner.run(&wanted, &|_| {}).await.unwrap();
        let Outcome::Failed { reason } = &run.outputs[0].outcome else { panic!("{:?}", run.outputs[0]) };
        assert!(reason.contains("points__random is not published: its index finds 0."), "{reason}");
        assert_eq!(run.outputs[0].version, published.version().version, "what is refused does not stand");
        let stands = store.at(&name, &tag).await.unwrap().unwrap();
        assert_eq!(stands.version().version, published.version().version);
    }
}
