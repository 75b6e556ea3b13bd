//! What belongs together because the same buyers buy it: a truncated singular value decomposition of who bought what.
//!
//! Randomised (Halko, Martinsson, Tropp 2011): a few products with a random matrix find the subspace of the largest
//! singular values, in which the rest is a small dense problem. One thread, `f64` and a fixed seed: the same counts
//! make the same vectors on every machine.

mod symmetric;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use symmetric::eigen;

/// Directions beyond the wanted ones, which make those exact.
const OVERSAMPLED: usize = 16;
/// How often the subspace is turned towards the largest singular values.
const TURNS: usize = 3;
const SEED: u64 = 64;
/// What is left of a vector below this part of it is rounding.
const ROUNDING: f64 = 1e-10;

/// Who has how much of what; what is zero is left out.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// The entries before each row's first; the last is the number of entries.
    starts: Vec<usize>,
    /// The entries' columns and values.
    entries: Vec<(u32, f64)>,
    columns: usize,
}

impl Counts {
    /// From `(row, column, value)`s in the order of their rows.
    pub(crate) fn new(rows: usize, columns: usize, values: impl Iterator<Item = (u32, u32, f64)>) -> Self {
        let mut starts = vec![0; rows + 1];
        let mut entries = Vec::new();
        for (row, column, value) in values {
            entries.push((column, value));
            if let Some(start) = starts.get_mut(row as usize + 1) {
                *start = entries.len();
            }
        }
        // A row without entries ends where the one before it does.
        let mut end = 0;
        for start in &mut starts {
            end = end.max(*start);
            *start = end;
        }
        Self { starts, entries, columns }
    }

    fn rows(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    fn row(&self, row: usize) -> &[(u32, f64)] {
        match self.starts.get(row..=row + 1) {
            Some(&[start, end]) => self.entries.get(start..end).unwrap_or_default(),
            _ => &[],
        }
    }

    fn transposed(&self) -> Self {
        let rows = 0..self.rows();
        let mut turned: Vec<_> = rows
            .flat_map(|row| self.row(row).iter().map(move |&(column, value)| (column, row as u32, value)))
            .collect();
        turned.sort_by_key(|&(column, row, _)| (column, row));
        Self::new(self.columns, self.rows(), turned.into_iter())
    }

    /// The product with a vector that has a component for each column.
    fn times(&self, vector: &[f64]) -> Vec<f64> {
        let component = |column: u32| vector.get(column as usize).copied().unwrap_or(0.0);
        let product = |row| self.row(row).iter().map(|&(column, value)| value * component(column)).sum();
        (0..self.rows()).map(product).collect()
    }
}

/// For each column of `counts` a vector of `dimension` components, of no particular length: the dot product of two of them
/// is that of the columns, as far as so few components can tell.
pub(crate) fn factors(counts: &Counts, dimension: usize) -> Vec<Vec<f32>> {
    let transposed = counts.transposed();
    // The basis is sought where it is shorter.
    let is_wide = counts.rows() <= counts.columns;
    let (wide, tall) = if is_wide { (counts, &transposed) } else { (&transposed, counts) };
    let basis = basis(wide, tall, dimension);
    // wide ≈ basis · projectedᵀ, so the eigenvectors of projectedᵀ · projected turn both to the singular vectors.
    let projected: Vec<_> = basis.iter().map(|direction| tall.times(direction)).collect();
    let squares = projected.iter().map(|a| projected.iter().map(|b| dot(a, b)).collect()).collect();
    let (values, mut vectors) = eigen(squares);
    if is_wide {
        return turned(&projected, &vectors, dimension);
    }
    for (vector, value) in vectors.iter_mut().zip(values) {
        vector.iter_mut().for_each(|component| *component *= value.max(0.0).sqrt());
    }
    turned(&basis, &vectors, dimension)
}

/// Directions of length 1 that hold what the largest singular values of `wide` do, whose transpose is `tall`.
fn basis(wide: &Counts, tall: &Counts, dimension: usize) -> Vec<Vec<f64>> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut start = || (0..wide.columns).map(|_| random.random_range(-1.0..1.0)).collect::<Vec<f64>>();
    let sought = (dimension + OVERSAMPLED).min(wide.rows());
    let mut basis: Vec<_> = (0..sought).map(|_| wide.times(&start())).collect();
    orthonormalize(&mut basis);
    for _ in 0..TURNS {
        basis = basis.iter().map(|direction| wide.times(&tall.times(direction))).collect();
        orthonormalize(&mut basis);
    }
    basis
}

/// The rows of `columns · vectors`, as far as the first `dimension` components.
fn turned(columns: &[Vec<f64>], vectors: &[Vec<f64>], dimension: usize) -> Vec<Vec<f32>> {
    let mut rows = vec![vec![0.0; dimension]; columns.first().map_or(0, Vec::len)];
    for (component, vector) in vectors.iter().take(dimension).enumerate() {
        let mut turned = vec![0.0; rows.len()];
        columns.iter().zip(vector).for_each(|(column, &weight)| add(&mut turned, column, weight));
        for (row, value) in rows.iter_mut().zip(turned) {
            if let Some(place) = row.get_mut(component) {
                *place = value as f32;
            }
        }
    }
    rows
}

/// Makes the directions perpendicular to each other and of length 1; one that the others make up becomes zero.
fn orthonormalize(directions: &mut [Vec<f64>]) {
    for index in 0..directions.len() {
        let (done, rest) = directions.split_at_mut(index);
        let Some(direction) = rest.first_mut() else { return };
        let before = dot(direction, direction).sqrt();
        // Once leaves rounding errors; twice is enough.
        for _ in 0..2 {
            for other in &*done {
                let overlap = dot(other, direction);
                add(direction, other, -overlap);
            }
        }
        let length = dot(direction, direction).sqrt();
        let scale = if length > before * ROUNDING { length.recip() } else { 0.0 };
        direction.iter_mut().for_each(|value| *value *= scale);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], other: &[f64], times: f64) {
    to.iter_mut().zip(other).for_each(|(to, other)| *to += other * times);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(rows: usize, columns: usize, density: f64) -> Vec<Vec<f64>> {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut value = || {
            if random.random_bool(density) { f64::from(random.random_range(1..9_u32)).ln_1p() } else { 0.0 }
        };
        (0..rows).map(|_| (0..columns).map(|_| value()).collect()).collect()
    }

    fn counts(dense: &[Vec<f64>]) -> Counts {
        let entries = dense.iter().zip(0..).flat_map(|(row, number)| {
            let there = row.iter().zip(0..).filter(|(value, _)| **value != 0.0);
            there.map(move |(&value, column)| (number, column, value))
        });
        Counts::new(dense.len(), dense[0].len(), entries)
    }

    fn columns(dense: &[Vec<f64>]) -> Vec<Vec<f64>> {
        (0..dense[0].len()).map(|column| dense.iter().map(|row| row[column]).collect()).collect()
    }

    /// How far the dot products of the vectors are from those of what they stand for, at most.
    fn error(vectors: &[Vec<f32>], originals: &[Vec<f64>]) -> f64 {
        let wide = |vector: &[f32]| vector.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
        let vectors: Vec<_> = vectors.iter().map(|vector| wide(vector)).collect();
        assert_eq!(vectors.len(), originals.len());
        let pairs = vectors.iter().zip(originals);
        let errors =
            pairs.clone().flat_map(|(a, x)| pairs.clone().map(move |(b, y)| (dot(a, b) - dot(x, y)).abs()));
        errors.fold(0.0, f64::max)
    }

    #[test]
    fn with_components_enough_products_are_exact() {
        for (rows, width) in [(12, 40), (40, 12), (1, 5), (5, 1), (9, 9)] {
            let dense = random(rows, width, 0.4);
            let vectors = factors(&counts(&dense), 16);
            assert!(error(&vectors, &columns(&dense)) < 1e-4, "{rows} x {width}");
        }
    }

    #[test]
    fn few_components_keep_what_the_largest_singular_values_hold() {
        // Two groups of buyers that have nothing in common, with singular values known by hand; and noise between.
        let (rows, width) = (60, 90);
        let mut dense = random(rows, width, 0.02);
        dense.iter_mut().flatten().for_each(|value| *value *= 0.01);
        for (row, values) in dense.iter_mut().enumerate() {
            let group = if row < 20 { 0..30 } else { 30..90 };
            values[group].iter_mut().for_each(|value| *value += 1.0);
        }
        let vectors = factors(&counts(&dense), 2);
        let cosine = |a: &[f32], b: &[f32]| {
            let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            product(a, b) / (product(a, a) * product(b, b)).sqrt()
        };
        assert!(cosine(&vectors[0], &vectors[29]) > 0.999);
        assert!(cosine(&vectors[0], &vectors[30]).abs() < 0.05);
        // The squares of the vectors' components sum up to those of the singular values: 20 * 30 and 40 * 60.
        let energy: f32 = vectors.iter().flatten().map(|value| value * value).sum();
        assert!((energy - 3000.0).abs() < 3.0, "{energy}");
    }

    #[test]
    fn nobody_and_nothing_make_no_vectors() {
        assert_eq!(factors(&Counts::default(), 64), Vec::<Vec<f32>>::new());
        assert_eq!(factors(&Counts::new(2, 3, std::iter::empty()), 4), vec![vec![0.0; 4]; 3]);
    }
}
