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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    /// The one that `make text-model` fetches.
    fn fetched() -> StaticEmbedder {
        #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
        StaticEmbedder::open(&cache.unwrap().join("omnimesh/text-model/wl256")).unwrap()
    }

    #[test]
    fn vectors_are_those_of_the_models_own_library() {
        let model = fetched();
        assert_eq!((model.model_id(), model.dimension()), ("wl256", 256));
        for (text, begin) in [
            ("dog food", [-0.037_946_59, 0.017_157_37, -0.060_372_837, 0.089_657_255]),
            (
                "nut butters/peanut butter, condiments, nutrition",
                [-0.010_382_675, 0.030_258_076, -0.046_490_379, -0.107_472_256],
            ),
            ("crème brûlée 🍮", [-0.061_551_023, 0.013_526_053, -0.008_262_037, -0.017_274_685]),
        ] {
            let vector = model.embed(text).unwrap();
            let error = begin.iter().zip(&vector).map(|(a, b): (&f32, _)| (a - b).abs()).fold(0.0, f32::max);
            assert!(error < 1e-6, "{text}: {:?}", &vector[..4]);
        }
        assert_eq!(model.embed(""), None);
    }

    /// A retailer's shelves as its catalogue calls them.
    const SHELVES: [&str; 24] = [
        "nut butters/peanut butter, condiments, nutrition",
        "peanut butter, pnt btr/jelly/jams, grocery",
        "peanuts all, nuts, produce",
        "organic peppers all, organics fruit vegetables, produce",
        "butter, margarines, grocery",
        "semi moist dog food, dog foods, grocery",
        "dry dog food premium, dog foods, grocery",
        "canned cat food, cat food, grocery",
        "hot dogs, hot dogs, packaged meat",
        "shampoo, hair care products, drug gm",
        "dandruff-medicated shampoos, hair care products, drug gm",
        "hair conditioners and rinses, hair care products, drug gm",
        "bar soap, soap liquid bar, drug gm",
        "carpet cleaner, household cleaning needs, grocery",
        "toothpaste, oral hygiene products, drug gm",
        "apples red delicious, apples, produce",
        "apple juice, fruit juice shelf, grocery",
        "frozen pizza, frozen, nutrition",
        "pizza/premium, frozen pizza, grocery",
        "baby diapers, diapers disposables, drug gm",
        "conventional litter, cat litter, grocery",
        "value glass wine, domestic wine, grocery",
        "fluid milk white only, fluid milk products, grocery",
        "cheddar, cheese, grocery",
    ];

    #[test]
    fn a_shopper_finds_the_right_shelf() {
        let model = fetched();
        let shelves: Vec<_> = SHELVES.map(|shelf| (shelf, model.embed(shelf).unwrap())).into();
        for (asked, right) in [
            ("organic peanut butter", "peanut butter"),
            ("dog food", "dog foods"),
            ("shampoo", "hair care products"),
            ("pizza", "frozen"),
        ] {
            let asked_for = model.embed(asked).unwrap();
            let cosine = |vector: &[f32]| vector.iter().zip(&asked_for).map(|(a, b)| a * b).sum::<f32>();
            let mut near: Vec<_> = shelves.iter().map(|(shelf, vector)| (cosine(vector), *shelf)).collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0));
            assert!(near[..2].iter().all(|(_, shelf)| shelf.contains(right)), "{asked}: {:?}", &near[..3]);
        }
    }

    #[test]
    fn files_that_are_no_model_are_named() {
        let directory = TempDir::new().unwrap();
        let message = |directory: &Path| StaticEmbedder::open(directory).unwrap_err().to_string();
        let missing = message(directory.path());
        assert!(missing.contains(TOKENIZER) && missing.contains("make text-model"), "{missing}");
        assert!(weights(b"no tensors").is_err());
        let header = |header: &str, size: usize| {
            let mut file = (header.len() as u64).to_le_bytes().to_vec();
            file.extend(header.as_bytes());
            file.resize(file.len() + size, 0);
            file
        };
        let wrong = header(r#"{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#, 8);
        assert_eq!(
            weights(&wrong).unwrap_err(),
            "its tensor is F32 [2, 1] instead of F16 [tokens, dimension]"
        );
        let right = header(r#"{"a":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]}}"#, 4);
        assert_eq!(weights(&right).unwrap(), (vec![f16::ZERO; 2], 1));
    }
}
