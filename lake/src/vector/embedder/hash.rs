//! A model without files: texts that share runs of letters are alike.

use super::{TextEmbedder, unit};

const DIMENSION: usize = 256;
/// Lengths of the runs of letters. A word's ends count as letters, so that short words have runs too.
const RUNS: std::ops::RangeInclusive<usize> = 3..=5;

/// Adds each run of letters of each word up, at a place and with a sign that its hash gives.
#[derive(Debug)]
pub(crate) struct HashEmbedder;

impl TextEmbedder for HashEmbedder {
    fn model_id(&self) -> &str {
        "hash256"
    }

    fn dimension(&self) -> usize {
        DIMENSION
    }

    fn embed(&self, text: &str) -> Option<Vec<f32>> {
        let mut vector = vec![0.0; DIMENSION];
        for word in text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
            let word: Vec<_> = format!("<{word}>").chars().collect();
            for run in RUNS.flat_map(|length| word.windows(length)) {
                let hash = fnv1a(run);
                if let Some(place) = vector.get_mut((hash >> 1) as usize % DIMENSION) {
                    *place += if hash & 1 == 0 { 1.0 } else { -1.0 };
                }
            }
        }
        unit(vector)
    }
}

/// FNV-1a with the last step of SplitMix64, as FNV leaves the low bits of like runs alike. It must never change: what
/// is stored was hashed with it.
fn fnv1a(letters: &[char]) -> u64 {
    let hash = letters.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &letter| {
        (hash ^ u64::from(u32::from(letter))).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        let (a, b) = (HashEmbedder.embed(a).unwrap(), HashEmbedder.embed(b).unwrap());
        a.iter().zip(&b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn texts_that_share_letters_are_alike() {
        assert!((cosine("dog food", "food dog") - 1.0).abs() < 1e-6);
        assert!(cosine("dog foods", "dry dog food") > 0.5);
        assert!(cosine("dog food", "shampoo").abs() < 0.2);
    }

    #[test]
    fn a_text_without_letters_has_no_vector() {
        for text in ["", "  ", "/-&"] {
            assert_eq!(HashEmbedder.embed(text), None, "{text:?}");
        }
        assert!(HashEmbedder.embed("7").is_some());
    }

    #[test]
    fn what_is_stored_stays_comparable() {
        let letters: Vec<_> = "<do".chars().collect();
        assert_eq!(fnv1a(&letters), 0x14c5_d9b6_e6ea_d4fc);
    }
}
