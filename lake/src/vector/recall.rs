//! How much of the truth a search finds.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{embedder::unit, ivf::Hit};

/// Rows that a search is judged by.
pub(crate) const K: usize = 10;
const QUERIES: usize = 300;
/// How far a query is from the vector that it was made of: nobody asks for what is already there.
const DISTANCE: f32 = 0.1;
const SEED: u64 = 300;
/// Two ways to sum up a product differ by this much.
const ROUNDING: f32 = 1e-5;

/// Vectors to search for.
#[derive(Debug)]
pub(crate) struct Queries {
    dimension: usize,
    vectors: Vec<f32>,
}

impl Queries {
    /// Some that are near to `vectors` of length 1; the same for the same vectors.
    pub(crate) fn near(dimension: usize, vectors: &[f32]) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let rows = vectors.len() / dimension;
        // That of a component evenly spread around zero, so that all of them make up the distance.
        let spread = DISTANCE * (3.0 / dimension as f32).sqrt();
        let mut query = || {
            let row = random.random_range(0..rows);
            let vector = vectors.get(row * dimension..(row + 1) * dimension)?;
            unit(vector.iter().map(|value| value + random.random_range(-spread..spread)).collect())
        };
        let queries = if rows == 0 { 0 } else { QUERIES };
        Self { dimension, vectors: (0..queries).filter_map(|_| query()).flatten().collect() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.vectors.chunks_exact(self.dimension)
    }
}

/// The part of the truth that was found: a row counts that is at least as near as the last true one, whichever of
/// equally near ones it is.
pub(crate) fn of(truth: &[Hit], found: &[Hit]) -> f64 {
    let Some(last) = truth.last() else { return 1.0 };
    let near = found.iter().filter(|hit| hit.similarity >= last.similarity - ROUNDING).count();
    near.min(truth.len()) as f64 / truth.len() as f64
}

/// The mean; of nothing it is perfect, as nothing was missed.
pub(crate) fn mean(recalls: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = recalls.fold((0.0, 0_u32), |(sum, count), recall| (sum + recall, count + 1));
    if count == 0 { 1.0 } else { sum / f64::from(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(similarities: &[f32]) -> Vec<Hit> {
        similarities.iter().zip(0..).map(|(&similarity, row)| Hit { similarity, row }).collect()
    }

    #[test]
    fn a_row_counts_that_is_as_near_as_the_last_true_one() {
        let truth = hits(&[0.9, 0.8, 0.8, 0.7]);
        for (found, expect) in [
            (&[0.9, 0.8, 0.8, 0.7][..], 1.0),
            (&[0.9, 0.7, 0.7, 0.7], 1.0),
            (&[0.9, 0.8, 0.6, 0.5], 0.5),
            (&[0.9], 0.25),
            (&[], 0.0),
        ] {
            assert_eq!(of(&truth, &hits(found)), expect, "{found:?}");
        }
        assert_eq!(of(&[], &[]), 1.0);
    }

    #[test]
    fn queries_are_near_but_not_the_same_and_repeat() {
        let vectors = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        let queries = Queries::near(4, &vectors);
        assert_eq!(queries.iter().count(), QUERIES);
        for query in queries.iter() {
            let nearest = query[0].max(query[1]);
            assert!((0.98..1.0).contains(&nearest), "{query:?}");
        }
        assert_eq!(queries.vectors, Queries::near(4, &vectors).vectors);
        assert_eq!(Queries::near(4, &[]).iter().count(), 0);
    }

    #[test]
    fn the_mean_of_nothing_is_perfect() {
        assert_eq!((mean([0.5, 1.0].into_iter()), mean(std::iter::empty())), (0.75, 1.0));
    }
}
