//! Searching the demo's products by their texts' vectors: in process, and as a client does.
//!
//! LanceDB has an index of the same kind over the same vectors. hnswlib is left out: there is no wheel of it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Context;
use arrow::{
    array::{Array, AsArray},
    datatypes::Float32Type,
};
use hdrhistogram::Histogram;
use lake::bench::Served;
use omnimesh_proto::feature::v1::{
    SearchVectorsRequest, Vector, search_vectors_request::Query, vector_service_client::VectorServiceClient,
};

use crate::{
    demo::{Demo, VECTORS, until},
    node::Client,
    peer::python,
    table::Row,
};

const SCRIPT: &str = include_str!("search.py");
const K: usize = 10;
/// Two ways to sum up a product differ by this much.
const ROUNDING: f32 = 1e-5;

pub(crate) async fn measure(demo: &Demo, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let judge = Judge::new(demo)?;
    let served = Served::open(&demo.lake()).await?;
    let node = demo.up().await?;
    let mut client = VectorServiceClient::new(node.client().await?);
    let first = judge.queries.first().context("there are no queries")?;
    until("vectors are served", async || anyhow::Ok(client.search_vectors(request(first)).await.ok()))
        .await?;
    let size = format!("{} × {}", judge.rows.len(), judge.dimension);
    let mut here = figures(&format!("search {size}, in process"), "≤ 1");
    let mut edge = figures("the same, through the edge", "≤ 2");
    for round in 0..=rounds {
        let ours = in_process(&served, &judge)?;
        let outside = through_the_edge(&mut client, &judge).await?;
        let theirs = lancedb(demo).await?;
        // The first one warms up.
        if round > 0 {
            let theirs = judge.figures(&theirs)?;
            for (rows, searched) in [(&mut here, ours), (&mut edge, outside)] {
                for ((row, ours), theirs) in rows.iter_mut().zip(judge.figures(&searched)?).zip(theirs) {
                    row.ours.push(ours);
                    row.theirs.push(theirs);
                }
            }
        }
    }
    node.stop().await?;
    Ok(here.into_iter().chain(edge).collect())
}

fn figures(what: &str, p99: &'static str) -> [Row; 3] {
    [
        Row::new(format!("{what}: p50, ms"), "LanceDB", ""),
        Row::new(format!("{what}: p99, ms"), "LanceDB", p99),
        Row::new(format!("{what}: recall@{K}"), "LanceDB", "≥ 0.98"),
    ]
}

/// What became of all queries.
#[derive(Debug)]
struct Searched {
    times: Histogram<u64>,
    found: Vec<Vec<String>>,
}

impl Searched {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { times: Histogram::new(3)?, found: Vec::new() })
    }

    fn add(&mut self, time: Duration, found: Vec<String>) -> anyhow::Result<()> {
        self.times.record(time.as_nanos().try_into()?)?;
        self.found.push(found);
        Ok(())
    }
}

fn in_process(served: &Served, judge: &Judge) -> anyhow::Result<Searched> {
    let mut searched = Searched::new()?;
    for query in &judge.queries {
        let start = Instant::now();
        let found = served.nearest(VECTORS, query, K)?;
        searched.add(start.elapsed(), found)?;
    }
    Ok(searched)
}

/// One call after another.
async fn through_the_edge(
    client: &mut VectorServiceClient<Client>,
    judge: &Judge,
) -> anyhow::Result<Searched> {
    let mut searched = Searched::new()?;
    for query in &judge.queries {
        let request = request(query);
        let start = Instant::now();
        let answer = client.search_vectors(request).await?;
        let time = start.elapsed();
        searched.add(time, answer.into_inner().hits.into_iter().map(|hit| hit.entity_id).collect())?;
    }
    Ok(searched)
}

fn request(query: &[f32]) -> SearchVectorsRequest {
    SearchVectorsRequest {
        table: VECTORS.to_owned(),
        query: Some(Query::Vector(Vector { values: query.to_vec() })),
        k: K as i32,
        ..SearchVectorsRequest::default()
    }
}

async fn lancedb(demo: &Demo) -> anyhow::Result<Searched> {
    let (micros, found): (Vec<f64>, Vec<Vec<String>>) =
        serde_json::from_slice(&python(SCRIPT, &[demo.directory()]).await?)?;
    let mut searched = Searched::new()?;
    for (micros, found) in micros.into_iter().zip(found) {
        searched.add(Duration::from_secs_f64(micros / 1e6), found)?;
    }
    Ok(searched)
}

/// Knows the queries, and what there is to find.
struct Judge {
    queries: Vec<Vec<f32>>,
    /// For each query how near the last of the nearest is.
    last: Vec<f32>,
    dimension: usize,
    vectors: Vec<f32>,
    /// Where each entity's vector is.
    rows: HashMap<String, usize>,
}

impl Judge {
    fn new(demo: &Demo) -> anyhow::Result<Self> {
        let (table, queries) = (demo.read_whole("vectors")?, demo.read_whole("queries")?);
        let components = |vectors: &dyn Array| -> Vec<f32> {
            let vectors = vectors.as_fixed_size_list();
            vectors.values().as_primitive::<Float32Type>().values().to_vec()
        };
        let vectors = components(table.column(1));
        let dimension = vectors.len() / table.num_rows();
        let entities = table.column(0).as_string::<i32>();
        Ok(Self {
            queries: components(queries.column(0)).chunks_exact(dimension).map(<[f32]>::to_vec).collect(),
            last: queries.column(1).as_primitive::<Float32Type>().values().to_vec(),
            dimension,
            vectors,
            rows: entities.iter().flatten().map(str::to_owned).zip(0..).collect(),
        })
    }

    /// p50 and p99 in milliseconds, and recall.
    fn figures(&self, searched: &Searched) -> anyhow::Result<[f64; 3]> {
        let time = |quantile| searched.times.value_at_quantile(quantile) as f64 / 1e6;
        Ok([time(0.5), time(0.99), self.recall(&searched.found)?])
    }

    /// The part of what is nearest that was found: an entity counts that is at least as near as the last of them,
    /// whichever of equally near ones it is.
    fn recall(&self, found: &[Vec<String>]) -> anyhow::Result<f64> {
        anyhow::ensure!(found.len() == self.queries.len(), "not every query was answered");
        let mut near = 0;
        for ((query, last), found) in self.queries.iter().zip(&self.last).zip(found) {
            for entity in found {
                let row = *self.rows.get(entity).context("an entity was found that there is not")?;
                let vector = &self.vectors[row * self.dimension..][..self.dimension];
                let similarity: f32 = vector.iter().zip(query).map(|(a, b)| a * b).sum();
                near += u32::from(similarity >= last - ROUNDING);
            }
        }
        Ok(f64::from(near) / (K * found.len()) as f64)
    }
}
