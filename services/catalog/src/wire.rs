//! The border to the contract.

mod request;

pub(crate) use request::{
    batch_get_products, get_product, import_products, list_categories, list_products, update_product,
    watch_products,
};

use omnimesh_proto::{catalog::v1 as pb, r#type::v1::ChangeType};
use types::Imported;

use crate::{
    domain::{Category, CategoryId, Product, product_name},
    event::Told,
};

fn name(category: Option<CategoryId>) -> String {
    category.map(|id| id.name()).unwrap_or_default()
}

impl From<Product> for pb::Product {
    fn from(product: Product) -> Self {
        Self {
            name: product_name(&product.sku),
            etag: product.etag(),
            sku: product.sku.into_string(),
            title: product.content.title,
            manufacturer_id: product.content.manufacturer_id,
            brand: product.content.brand,
            category: name(product.content.category),
            package_size: product.content.package_size,
            create_time: Some(product.create_time.into()),
            update_time: Some(product.update_time.into()),
        }
    }
}

pub(crate) fn category((category, product_count): (Category, i64)) -> pb::Category {
    let Category { id, title, parent } = category;
    pb::Category { name: id.name(), title, parent: name(parent), product_count }
}

pub(crate) fn imported(imported: Imported) -> pb::ImportProductsResponse {
    pb::ImportProductsResponse { accepted_count: imported.accepted, unchanged_count: imported.unchanged }
}

impl From<Told> for pb::WatchProductsResponse {
    fn from(told: Told) -> Self {
        match told {
            Told::Initial(product) => Self {
                change_type: ChangeType::Initial.into(),
                event_time: Some(product.update_time.into()),
                product: Some(product.into()),
                // Nobody can go on in the middle of the initial state.
                resume_token: String::new(),
            },
            Told::Changed(product, event) => Self {
                change_type: ChangeType::Changed.into(),
                product: Some(product),
                event_time: event.event_time,
                resume_token: event.cursor,
            },
            Told::Bookmark(cursor) => Self {
                change_type: ChangeType::Bookmark.into(),
                product: None,
                event_time: None,
                resume_token: cursor.to_string(),
            },
        }
    }
}
