//! Products and categories, and what imports and corrections make of them.

mod category;
mod product;

pub(crate) use category::{Category, CategoryId, path};
pub(crate) use product::{Content, Correction, Import, Product, product_name, sku_from_name};
