//! Texts as vectors.

mod hash;
mod lookup;

use std::{fmt, path::Path, sync::Arc};

pub(crate) use hash::HashEmbedder;
pub(crate) use lookup::StaticEmbedder;

use crate::Error;

/// A model that gives every text a direction: texts that mean alike point alike.
pub(crate) trait TextEmbedder: Send + Sync + fmt::Debug {
    /// The model's name, a part of its tables' names. Other vectors for the same text need another name.
    fn model_id(&self) -> &str;

    /// How many components its vectors have.
    fn dimension(&self) -> usize;

    /// The text's vector, of length 1; none for a text in which there is nothing that the model knows.
    fn embed(&self, text: &str) -> Option<Vec<f32>>;
}

/// The model in `directory`; without one, texts are alike that share letters.
pub(crate) fn open(directory: Option<&Path>) -> Result<Arc<dyn TextEmbedder>, Error> {
    let Some(directory) = directory else {
        tracing::warn!(
            model_id = HashEmbedder.model_id(),
            "no text model is configured: texts are embedded by their letters; `make text-model` fetches one"
        );
        return Ok(Arc::new(HashEmbedder));
    };
    Ok(Arc::new(StaticEmbedder::open(directory)?))
}

/// A text as models see it, whoever wrote it: in lower case, its words a space apart.
pub(crate) fn normalized(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}

/// Scales a vector to length 1, if it points anywhere.
pub(crate) fn unit(mut vector: Vec<f32>) -> Option<Vec<f32>> {
    let squares: f64 = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let length = squares.sqrt();
    if !length.is_normal() {
        return None;
    }
    vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    Some(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_same_however_it_is_written() {
        assert_eq!(normalized("  Dog\tFOOD \n"), "dog food");
    }

    #[test]
    fn a_unit_has_length_one_and_nothing_has_none() {
        assert_eq!(unit(vec![3.0, 0.0, -4.0]), Some(vec![0.6, 0.0, -0.8]));
        for pointless in [vec![], vec![0.0; 3], vec![f32::NAN, 1.0], vec![f32::INFINITY]] {
            assert_eq!(unit(pointless), None);
        }
    }

    #[test]
    fn without_a_model_letters_decide() {
        assert_eq!(open(None).unwrap().model_id(), "hash256");
    }
}
