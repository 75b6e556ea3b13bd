//! Products: a source says what they are, operators correct it.

use serde::{Deserialize, Serialize};
use types::{InvalidId, Sku, Timestamp, etag};

use super::{Category, CategoryId};

/// What is known of a product; empty text where nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) title: String,
    pub(crate) manufacturer_id: String,
    pub(crate) brand: String,
    pub(crate) category: Option<CategoryId>,
    pub(crate) package_size: String,
}

impl Content {
    pub(crate) fn digest(&self) -> String {
        let category = self.category.as_ref().map_or("", CategoryId::as_str);
        let parts = [&*self.title, &*self.manufacturer_id, &*self.brand, category, &*self.package_size];
        etag(&parts.map(str::as_bytes))
    }
}

/// What a source says of a product.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    pub(crate) sku: Sku,
    pub(crate) content: Content,
    /// The way to the product's category.
    pub(crate) path: Vec<Category>,
}

/// What an operator sets.
#[derive(Debug, Default)]
pub(crate) struct Correction {
    pub(crate) title: Option<String>,
    pub(crate) manufacturer_id: Option<String>,
    pub(crate) brand: Option<String>,
    pub(crate) package_size: Option<String>,
}

/// Something that is sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) sku: Sku,
    pub(crate) content: Content,
    /// Of what the source said last: only news from it replaces what operators corrected.
    pub(crate) source_digest: String,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
}

impl Product {
    pub(crate) fn etag(&self) -> String {
        let content = self.content.digest();
        etag(&[self.sku.as_str().as_bytes(), content.as_bytes(), &self.update_time.micros().to_le_bytes()])
    }

    /// The product as its source now says, if that is news to what stands.
    pub(crate) fn imported(
        sku: Sku,
        content: Content,
        standing: Option<&Self>,
        now: Timestamp,
    ) -> Option<Self> {
        let source_digest = content.digest();
        if standing.is_some_and(|standing| standing.source_digest == source_digest) {
            return None;
        }
        let create_time = standing.map_or(now, |standing| standing.create_time);
        let update_time = standing.map_or(now, |standing| standing.next_update(now));
        Some(Self { sku, content, source_digest, create_time, update_time })
    }

    /// The product with what an operator set.
    pub(crate) fn corrected(&self, correction: Correction, now: Timestamp) -> Self {
        let mut content = self.content.clone();
        for (field, set) in [
            (&mut content.title, correction.title),
            (&mut content.manufacturer_id, correction.manufacturer_id),
            (&mut content.brand, correction.brand),
            (&mut content.package_size, correction.package_size),
        ] {
            if let Some(text) = set {
                *field = text;
            }
        }
        let update_time = if content == self.content { self.update_time } else { self.next_update(now) };
        Self { content, update_time, ..self.clone() }
    }

    /// When a change that happens now happened: what stands stood for a while, even if the clock was set back.
    fn next_update(&self, now: Timestamp) -> Timestamp {
        now.max(Timestamp::from_micros(self.update_time.micros() + 1))
    }
}

/// The resource's name.
pub(crate) fn product_name(sku: &Sku) -> String {
    format!("products/{sku}")
}

/// Reads a resource's name.
pub(crate) fn sku_from_name(name: &str) -> Result<Sku, InvalidId> {
    name.strip_prefix("products/").ok_or(InvalidId::NotName("products/{sku}"))?.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sku() -> Sku {
        "819312".parse().expect("valid")
    }

    fn titled(title: &str) -> Content {
        Content { title: title.to_owned(), brand: "National".to_owned(), ..Content::default() }
    }

    fn import(title: &str, standing: Option<&Product>, at: i64) -> Option<Product> {
        Product::imported(sku(), titled(title), standing, Timestamp::from_micros(at))
    }

    fn correct(standing: &Product, title: &str, at: i64) -> Product {
        let correction = Correction { title: Some(title.to_owned()), ..Correction::default() };
        standing.corrected(correction, Timestamp::from_micros(at))
    }

    #[test]
    fn a_source_is_heard_when_it_says_something_new() {
        let first = import("CHEDDAR", None, 1).expect("news");
        assert_eq!((first.create_time.micros(), first.update_time.micros()), (1, 1));
        assert_eq!(import("CHEDDAR", Some(&first), 2), None);
        let second = import("GOUDA", Some(&first), 3).expect("news");
        assert_eq!((second.create_time.micros(), second.update_time.micros()), (1, 3));
        assert_eq!(second.content, titled("GOUDA"));
        assert!(import("CHEDDAR", Some(&second), 4).is_some());
        let set_back = import("CHEDDAR", Some(&second), 2).expect("news");
        assert_eq!(set_back.update_time.micros(), 4, "after what it replaces");
    }

    #[test]
    fn a_correction_holds_until_the_source_says_something_new() {
        let product = import("CHEDDAR", None, 1).expect("news");
        let corrected = correct(&product, "Cheddar", 2);
        assert_eq!(corrected.content, titled("Cheddar"));
        assert_eq!(import("CHEDDAR", Some(&corrected), 3), None);
        assert_eq!(import("GOUDA", Some(&corrected), 4).expect("news").content, titled("GOUDA"));
    }

    #[test]
    fn a_correction_to_what_stands_changes_nothing() {
        let product = import("CHEDDAR", None, 1).expect("news");
        assert_eq!(correct(&product, "CHEDDAR", 2), product);
        assert_eq!(product.corrected(Correction::default(), Timestamp::from_micros(2)), product);
    }

    #[test]
    fn etags_differ_between_changes() {
        let product = import("CHEDDAR", None, 1).expect("news");
        let there = correct(&product, "Cheddar", 2);
        let back = correct(&there, "CHEDDAR", 3);
        assert_eq!(back.content, product.content);
        assert_ne!(product.etag(), there.etag());
        assert_ne!(product.etag(), back.etag());
    }

    #[test]
    fn names_round_trip() {
        assert_eq!(sku_from_name(&product_name(&sku())), Ok(sku()));
        assert_eq!(sku_from_name("819312"), Err(InvalidId::NotName("products/{sku}")));
        assert_eq!(sku_from_name("products/"), Err(InvalidId::Empty));
        assert_eq!(sku_from_name("products/1/2"), Err(InvalidId::Character));
    }
}
