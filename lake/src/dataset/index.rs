//! Indices that readers of a table search through.

use lance::index::{DatasetIndexExt, vector::VectorIndexParams};
use lance_index::{IndexType, vector::ivf::IvfBuildParams};
use lance_linalg::distance::MetricType;

use super::{Table, failed};
use crate::Error;

/// Vectors for each list that the lists are made by, and how often.
const SAMPLES: usize = 64;
const ROUNDS: usize = 10;

impl Table {
    /// Indexes a column of vectors by their angles, in about `lists` lists.
    pub(crate) async fn index_vectors(&mut self, column: &str, lists: usize) -> Result<(), Error> {
        let Some(dataset) = &mut self.dataset else { return Ok(()) };
        let mut ivf = IvfBuildParams::new(lists);
        ivf.sample_rate = SAMPLES;
        ivf.max_iters = ROUNDS;
        let params = VectorIndexParams::with_ivf_flat_params(MetricType::Cosine, ivf);
        let name = Some(format!("{column}_idx"));
        let indexed = dataset.create_index(&[column], IndexType::Vector, name, &params, true).await;
        indexed.map_err(|error| failed(&self.name, "indexed", error))?;
        self.durable.sync().await
    }
}
