//! Eigenvalues of small symmetric matrices, by Jacobi's rotations.

/// Rotations converge quadratically: a matrix of hundreds of rows takes about ten rounds.
const ROUNDS: usize = 50;
/// Off the diagonal nothing is left, beside what is on it.
const NOTHING: f64 = 1e-28;

/// The eigenvalues of a symmetric matrix, the largest first, and an eigenvector of length 1 for each.
pub(super) fn eigen(mut matrix: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let size = matrix.len();
    let mut vectors: Vec<Vec<f64>> =
        (0..size).map(|row| (0..size).map(|column| f64::from(u8::from(row == column))).collect()).collect();
    for _ in 0..ROUNDS {
        let squares = |keep: fn(usize, usize) -> bool| -> f64 {
            let rows = matrix.iter().enumerate();
            rows.flat_map(|(i, row)| row.iter().enumerate().filter(move |(j, _)| keep(i, *j)))
                .map(|(_, value)| value * value)
                .sum()
        };
        if squares(|i, j| i != j) <= NOTHING * squares(|i, j| i == j) {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                let [Some(pp), Some(pq), Some(qq)] = [(p, p), (p, q), (q, q)].map(|(i, j)| at(&matrix, i, j))
                else {
                    continue;
                };
                if pq == 0.0 {
                    continue;
                }
                let (cosine, sine) = rotation(pp, pq, qq);
                // Columns, then rows: a symmetric matrix is turned from both sides.
                for row in &mut matrix {
                    if let Ok([a, b]) = row.get_disjoint_mut([p, q]) {
                        (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
                    }
                }
                rotate(&mut matrix, p, q, cosine, sine);
                rotate(&mut vectors, p, q, cosine, sine);
            }
        }
    }
    let values = (0..size).map(|index| at(&matrix, index, index).unwrap_or(0.0));
    let mut pairs: Vec<_> = values.zip(vectors).collect();
    pairs.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    pairs.into_iter().unzip()
}

fn at(matrix: &[Vec<f64>], row: usize, column: usize) -> Option<f64> {
    matrix.get(row)?.get(column).copied()
}

/// Cosine and sine of the smaller angle that makes the element between `p` and `q` zero.
fn rotation(pp: f64, pq: f64, qq: f64) -> (f64, f64) {
    let slope = (qq - pp) / (2.0 * pq);
    let tangent = slope.signum() / (slope.abs() + slope.hypot(1.0));
    let cosine = tangent.hypot(1.0).recip();
    (cosine, tangent * cosine)
}

fn rotate(rows: &mut [Vec<f64>], p: usize, q: usize, cosine: f64, sine: f64) {
    if let Ok([p, q]) = rows.get_disjoint_mut([p, q]) {
        for (a, b) in p.iter_mut().zip(q) {
            (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_known_by_hand() {
        let (values, vectors) = eigen(vec![vec![2.0, 1.0], vec![1.0, 2.0]]);
        assert!((values[0] - 3.0).abs() < 1e-12 && (values[1] - 1.0).abs() < 1e-12);
        assert!(
            (vectors[0][0] - vectors[0][1]).abs() < 1e-12 && (vectors[1][0] + vectors[1][1]).abs() < 1e-12
        );
        assert_eq!(eigen(Vec::new()), (Vec::new(), Vec::new()));
        assert_eq!(eigen(vec![vec![-4.0]]), (vec![-4.0], vec![vec![1.0]]));
    }

    #[test]
    fn a_matrix_times_an_eigenvector_is_the_vector_times_its_value() {
        let size = 30;
        // Of rank 3, so that most eigenvalues are the same.
        let factor = |row: usize, column: usize| ((row * 7 + column * 13) % 11) as f64 - 5.0;
        let product = |a, b| (0..3).map(|k| factor(a, k) * factor(b, k)).sum::<f64>();
        let matrix: Vec<Vec<f64>> = (0..size).map(|a| (0..size).map(|b| product(a, b)).collect()).collect();
        let (values, vectors) = eigen(matrix.clone());
        assert!(values.is_sorted_by(|a, b| a >= b));
        for (value, vector) in values.iter().zip(&vectors) {
            for (row, component) in matrix.iter().zip(vector) {
                let turned: f64 = row.iter().zip(vector).map(|(a, b)| a * b).sum();
                assert!((turned - value * component).abs() < 1e-9, "{turned} {value} {component}");
            }
        }
    }
}
