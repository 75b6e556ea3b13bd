//! Vectors in memory, to find the nearest of in a fraction of a millisecond.
//!
//! Vectors of length 1 lie in lists around centroids, each list in one piece of memory; a search looks through the lists
//! whose centroids are nearest until it has seen enough. How many are enough is found out by measuring. A vector that
//! many rows share is kept and compared once.

use std::{cmp::Ordering, collections::BinaryHeap, sync::Arc};

use arrow::{
    array::{AsArray, FixedSizeListArray, Float32Array},
    datatypes::{DataType, Field, Float32Type},
    error::ArrowError,
};
use lance_index::vector::kmeans::{KMeans, KMeansParams};
use lance_linalg::distance::{DistanceType, dot_f32};

use super::recall::{self, K, Queries};

/// Below this many vectors looking at all of them is as fast.
const ONE_LIST: usize = 4096;
/// Vectors for each centroid that lists are made by.
const SAMPLES: usize = 256;
const ROUNDS: u32 = 10;
const SEED: u64 = 17;
/// What a search sees of its first [`K`] rows' neighbourhood is doubled from here until it sees nearly all of it.
const FIRST_EFFORT: usize = 512;
const RECALL: f64 = 0.99;

/// The position of a row in the table that was loaded.
pub(crate) type Row = u32;

/// A row that is near, by its cosine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hit {
    pub(crate) similarity: f32,
    pub(crate) row: Row,
}

impl Eq for Hit {}

/// The least near is the greatest, so that it is the first that a heap gives away.
impl Ord for Hit {
    fn cmp(&self, other: &Self) -> Ordering {
        other.similarity.total_cmp(&self.similarity).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// An index over the rows of a table.
#[derive(Debug)]
pub(crate) struct Ivf {
    dimension: usize,
    /// A vector for each list.
    centroids: Vec<f32>,
    lists: Vec<List>,
    /// For each row the list of its vector and the place in it.
    places: Vec<(u32, u32)>,
    /// How many vectors a search for [`K`] rows looks at.
    effort: usize,
    /// What it finds of the truth by that.
    recall: f64,
}

#[derive(Debug, Default)]
struct List {
    /// One after the other.
    vectors: Vec<f32>,
    /// The end of each vector's rows in `rows`.
    ends: Vec<u32>,
    rows: Vec<Row>,
}

impl List {
    /// Each vector with the rows that share it.
    fn iter(&self, dimension: usize) -> impl Iterator<Item = (&[f32], &[Row])> {
        let mut start = 0;
        self.vectors.chunks_exact(dimension).zip(&self.ends).map(move |(vector, &end)| {
            let rows = self.rows.get(start as usize..end as usize).unwrap_or_default();
            start = end;
            (vector, rows)
        })
    }
}

impl Ivf {
    /// Over vectors of length 1, one after the other, a row each.
    pub(crate) fn new(dimension: usize, vectors: &[f32]) -> Result<Self, ArrowError> {
        let distinct = distinct(dimension, vectors);
        let centroids = centroids(dimension, &distinct)?;
        let mut index = Self::of(dimension, centroids, distinct, vectors.len() / dimension);
        let queries = Queries::near(dimension, vectors);
        let truth: Vec<_> = queries.iter().map(|query| index.search(query, K, |_| true)).collect();
        let seen = |index: &Self| {
            let found = queries.iter().map(|query| index.search(query, K, |_| true));
            let pairs = truth.iter().zip(found);
            recall::mean(pairs.map(|(truth, found)| recall::of(truth, &found)))
        };
        index.effort = FIRST_EFFORT;
        index.recall = seen(&index);
        while index.effort < index.places.len() && index.recall < RECALL {
            index.effort *= 2;
            index.recall = seen(&index);
        }
        Ok(index)
    }

    /// Without lists: a search looks at every vector, and so finds the truth.
    pub(crate) fn exact(dimension: usize, vectors: &[f32]) -> Self {
        let distinct = distinct(dimension, vectors);
        Self::of(dimension, vec![0.0; dimension], distinct, vectors.len() / dimension)
    }

    fn of(dimension: usize, centroids: Vec<f32>, distinct: Vec<(&[f32], Vec<Row>)>, rows: usize) -> Self {
        let mut index = Self {
            dimension,
            lists: (0..centroids.len() / dimension).map(|_| List::default()).collect(),
            places: vec![(0, 0); rows],
            centroids,
            effort: usize::MAX,
            recall: 1.0,
        };
        for (vector, rows) in distinct {
            index.insert(vector, &rows);
        }
        index
    }

    fn insert(&mut self, vector: &[f32], rows: &[Row]) {
        let nearest = self.affinities(vector).max_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |(_, list)| list);
        let Some(list) = self.lists.get_mut(nearest) else { return };
        let place = (nearest as u32, list.ends.len() as u32);
        list.vectors.extend(vector);
        list.rows.extend(rows);
        list.ends.push(list.rows.len() as u32);
        for &row in rows {
            if let Some(of_row) = self.places.get_mut(row as usize) {
                *of_row = place;
            }
        }
    }

    /// How near each list's centroid is, and which list it is.
    fn affinities(&self, vector: &[f32]) -> impl Iterator<Item = (f32, usize)> {
        let centroids = self.centroids.chunks_exact(self.dimension);
        centroids.map(|centroid| dot_f32(vector, centroid)).zip(0..)
    }

    /// What a search finds of the nearest [`K`] rows.
    pub(crate) fn recall(&self) -> f64 {
        self.recall
    }

    /// A row's vector.
    pub(crate) fn vector(&self, row: Row) -> Option<&[f32]> {
        let &(list, place) = self.places.get(row as usize)?;
        self.lists.get(list as usize)?.vectors.chunks_exact(self.dimension).nth(place as usize)
    }

    /// The `k` nearest of the rows that `wanted` takes, the nearest first, of equally near ones the first. There are
    /// fewer only if fewer are wanted: a search that looks past rows goes on until it has seen as many vectors of
    /// wanted ones as any other.
    pub(crate) fn search(&self, query: &[f32], k: usize, wanted: impl Fn(Row) -> bool) -> Vec<Hit> {
        let effort = self.effort.saturating_mul(k.div_ceil(K));
        let mut lists: Vec<_> = self.affinities(query).collect();
        lists.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut nearest = BinaryHeap::with_capacity(k + 1);
        let mut seen = 0;
        for (_, list) in lists {
            if seen >= effort && nearest.len() >= k {
                break;
            }
            let Some(list) = self.lists.get(list) else { continue };
            for (vector, rows) in list.iter(self.dimension) {
                let mut rows = rows.iter().copied().filter(|&row| wanted(row)).peekable();
                if rows.peek().is_none() {
                    continue;
                }
                seen += 1;
                let similarity = dot_f32(query, vector);
                for row in rows {
                    let hit = Hit { similarity, row };
                    if nearest.len() < k {
                        nearest.push(hit);
                    } else if nearest.peek().is_some_and(|last| hit < *last) {
                        nearest.pop();
                        nearest.push(hit);
                    } else {
                        // The vector's other rows come after this one.
                        break;
                    }
                }
            }
        }
        nearest.into_sorted_vec()
    }
}

/// The vectors, each once with all of its rows.
fn distinct(dimension: usize, vectors: &[f32]) -> Vec<(&[f32], Vec<Row>)> {
    let by_value = |a: &[f32], b: &[f32]| {
        let differing = a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
        differing.unwrap_or(Ordering::Equal)
    };
    let mut sorted: Vec<_> = vectors.chunks_exact(dimension).zip(0..).collect();
    sorted.sort_unstable_by(|(a, row), (b, other)| by_value(a, b).then(row.cmp(other)));
    let runs = sorted.chunk_by(|(a, _), (b, _)| by_value(a, b).is_eq());
    let merge = |run: &[(&'_ [f32], Row)]| run.iter().map(|(_, row)| *row).collect();
    runs.filter_map(|run| Some((run.first()?.0, merge(run)))).collect()
}

/// About as many centroids as there are vectors for each.
fn centroids(dimension: usize, vectors: &[(&[f32], Vec<Row>)]) -> Result<Vec<f32>, ArrowError> {
    if vectors.len() < ONE_LIST {
        return Ok(vec![0.0; dimension]);
    }
    let lists = vectors.len().isqrt();
    let step = vectors.len().div_ceil(lists * SAMPLES);
    let samples: Vec<_> = vectors.iter().step_by(step).flat_map(|(vector, _)| *vector).copied().collect();
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let samples =
        FixedSizeListArray::try_new(item, dimension as i32, Arc::new(Float32Array::from(samples)), None)?;
    let params = KMeansParams {
        max_iters: ROUNDS,
        distance_type: DistanceType::Dot,
        seed: Some(SEED),
        ..KMeansParams::default()
    };
    let found = KMeans::new_with_params(&samples, lists, &params)?;
    Ok(found.centroids.as_primitive::<Float32Type>().values().to_vec())
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::vector::embedder::unit;

    const DIMENSION: usize = 16;

    /// Vectors around some centres, as those of texts are; every third is there twice.
    fn clustered(rows: usize) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut spread = |width: f32| (0..DIMENSION).map(|_| random.random_range(-width..width)).collect();
        let centres: Vec<Vec<f32>> = (0..rows / 20).map(|_| spread(1.0)).collect();
        let mut vectors: Vec<f32> = Vec::new();
        for row in 0..rows {
            let near = |noise: Vec<f32>| {
                let centre = &centres[row % centres.len()];
                unit(centre.iter().zip(noise).map(|(a, b)| a + b).collect()).unwrap()
            };
            match row % 3 {
                2 => vectors.extend_from_within(vectors.len() - DIMENSION..),
                _ => vectors.extend(near(spread(0.3))),
            }
        }
        vectors
    }

    /// The truth, by comparing with every row.
    fn truth(vectors: &[f32], query: &[f32], k: usize, wanted: impl Fn(Row) -> bool) -> Vec<Hit> {
        let product = |vector: &[f32]| vector.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
        let rows = vectors.chunks_exact(DIMENSION).zip(0..).filter(|(_, row)| wanted(*row));
        let mut hits: Vec<_> = rows.map(|(vector, row)| Hit { similarity: product(vector), row }).collect();
        hits.sort_unstable();
        hits.truncate(k);
        hits
    }

    fn recall(index: &Ivf, vectors: &[f32], k: usize, wanted: impl Fn(Row) -> bool + Copy) -> f64 {
        let queries = Queries::near(DIMENSION, vectors);
        recall::mean(queries.iter().map(|query| {
            let found = index.search(query, k, wanted);
            assert!(found.is_sorted() && found.iter().all(|hit| wanted(hit.row)));
            let truth = truth(vectors, query, k, wanted);
            assert_eq!(found.len(), truth.len());
            recall::of(&truth, &found)
        }))
    }

    #[test]
    fn lists_find_nearly_all_that_is_near() {
        let vectors = clustered(9_000);
        let index = Ivf::new(DIMENSION, &vectors).unwrap();
        assert!(index.lists.len() > 50 && index.effort < 6_000, "{} {}", index.lists.len(), index.effort);
        let found = recall(&index, &vectors, K, |_| true);
        assert!(
            index.recall() >= RECALL && (index.recall() - found).abs() < 1e-3,
            "{found} {}",
            index.recall()
        );
        assert!(recall(&index, &vectors, 100, |_| true) >= 0.98);
        for part in [2, 10, 100, 3_000] {
            let found = recall(&index, &vectors, 10, |row| row % part == 0);
            assert!(found >= 0.98, "{found} of one row in {part}");
        }
        for row in [0, 1, 2, 8_999] {
            let vector = &vectors[row as usize * DIMENSION..][..DIMENSION];
            assert_eq!(index.vector(row), Some(vector));
        }
        assert_eq!(index.vector(9_000), None);
    }

    #[test]
    fn few_vectors_are_all_looked_at() {
        let vectors = clustered(600);
        for index in [Ivf::new(DIMENSION, &vectors).unwrap(), Ivf::exact(DIMENSION, &vectors)] {
            assert_eq!((recall(&index, &vectors, K, |_| true), index.recall()), (1.0, 1.0));
            assert_eq!(index.search(&vectors[..DIMENSION], 1_000, |_| true).len(), 600);
            assert!(index.search(&vectors[..DIMENSION], 10, |_| false).is_empty());
        }
    }

    #[test]
    fn equally_near_rows_come_in_their_order() {
        let vectors = [0.6, 0.8, 1.0, 0.0, 0.6, 0.8, 0.6, 0.8];
        let index = Ivf::exact(2, &vectors);
        let rows = |k| index.search(&[0.0, 1.0], k, |_| true).iter().map(|hit| hit.row).collect::<Vec<_>>();
        assert_eq!((rows(2), rows(4)), (vec![0, 2], vec![0, 2, 3, 1]));
    }

    #[test]
    fn an_empty_table_has_nothing_near() {
        assert!(Ivf::new(2, &[]).unwrap().search(&[1.0, 0.0], 10, |_| true).is_empty());
    }
}
