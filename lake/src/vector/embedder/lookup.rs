//! A static model: a vector for each token, and a text is their mean.

use std::{fmt, fs, path::Path};

use half::f16;
use safetensors::{Dtype, SafeTensors};
use tokenizers::Tokenizer;

use super::{TextEmbedder, unit};
use crate::Error;

const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";

/// A table of tokens' vectors with its tokenizer.
pub(crate) struct StaticEmbedder {
    model_id: String,
    tokenizer: Tokenizer,
    dimension: usize,
    /// A row for each token.
    weights: Vec<f16>,
}

impl StaticEmbedder {
    /// Reads the model in `directory`, whose name is the model's.
    pub(crate) fn open(directory: &Path) -> Result<Self, Error> {
        let unusable = |reason: String| Error::TextModel { path: directory.to_owned(), reason };
        let model_id = directory.file_name().and_then(|name| name.to_str());
        let model_id = model_id.ok_or_else(|| unusable("its directory has no name".to_owned()))?;
        let tokenizer = Tokenizer::from_file(directory.join(TOKENIZER))
            .map_err(|error| unusable(format!("{TOKENIZER}: {error}")))?;
        let bytes = fs::read(directory.join(WEIGHTS));
        let bytes = bytes.map_err(|error| unusable(format!("{WEIGHTS}: {error}")))?;
        let (weights, dimension) =
            weights(&bytes).map_err(|reason| unusable(format!("{WEIGHTS}: {reason}")))?;
        Ok(Self { model_id: model_id.to_owned(), tokenizer, dimension, weights })
    }
}

/// The one table of a file, and how wide it is.
fn weights(bytes: &[u8]) -> Result<(Vec<f16>, usize), String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let tensors = file.tensors();
    let [(_, table)] = tensors.as_slice() else {
        return Err(format!("it has {} tensors instead of one, the tokens' vectors", tensors.len()));
    };
    match (table.dtype(), table.shape()) {
        (Dtype::F16, &[_, dimension]) if dimension > 0 => {
            let values = table.data().as_chunks::<2>().0;
            Ok((values.iter().map(|&value| f16::from_le_bytes(value)).collect(), dimension))
        }
        (dtype, shape) => {
            Err(format!("its tensor is {dtype:?} {shape:?} instead of F16 [tokens, dimension]"))
        }
    }
}

impl TextEmbedder for StaticEmbedder {
    fn model_id(&self) -> &str {
        &self.model_id
    }

    fn dimension(&self) -> usize {
        self.dimension
    }

    fn embed(&self, text: &str) -> Option<Vec<f32>> {
        // It fails on no text; if it did, there would be nothing that the model knows.
        let tokens = self.tokenizer.encode_fast(text, false).ok()?;
        let mut sum = vec![0.0; self.dimension];
        for &token in tokens.get_ids() {
            let row = self.weights.chunks_exact(self.dimension).nth(token as usize)?;
            sum.iter_mut().zip(row).for_each(|(sum, weight)| *sum += weight.to_f32());
        }
        // The mean points where the sum does.
        unit(sum)
    }
}

impl fmt::Debug for StaticEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticEmbedder").field("model_id", &self.model_id).finish_non_exhaustive()
    }
}
