//! All SQL of the catalog service. Empty text stands for nothing, which no identifier is.

use std::collections::BTreeMap;

use storage::{
    Statement, insert_many,
    sqlx::{self, AnyConnection, Row, any::AnyRow, migrate::Migrator},
};
use types::{Sku, Timestamp, filter::Condition};

use crate::{
    Error,
    domain::{Category, CategoryId, Content, Product},
};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!();

/// Values in one IN list.
const CHUNK: usize = 500;

const PRODUCT: &str = "SELECT sku, title, manufacturer_id, brand, category, package_size, source_digest, \
    create_time, update_time FROM products";

/// The products among `skus` that are known.
pub(crate) async fn products(
    connection: &mut AnyConnection,
    skus: impl IntoIterator<Item = &Sku>,
) -> Result<BTreeMap<Sku, Product>, Error> {
    let skus: Vec<_> = skus.into_iter().map(Sku::as_str).collect();
    let mut products = BTreeMap::new();
    for skus in skus.chunks(CHUNK) {
        let mut statement = Statement::new(PRODUCT);
        statement.push(" WHERE sku IN (").bind_all(skus.iter().copied()).push(")");
        for row in statement.fetch_all(connection).await? {
            let product = product(&row)?;
            products.insert(product.sku.clone(), product);
        }
    }
    Ok(products)
}

/// Products after `after` by sku.
pub(crate) async fn list_products(
    connection: &mut AnyConnection,
    filter: &[Condition],
    after: &str,
    limit: i64,
) -> Result<Vec<Product>, Error> {
    let mut statement = Statement::new(PRODUCT);
    statement.push(" WHERE sku > ").bind(after);
    statement.and(filter);
    statement.push(" ORDER BY sku LIMIT ").bind(limit);
    statement.fetch_all(connection).await?.iter().map(product).collect()
}

/// Writes products as they are now.
pub(crate) async fn put_products(connection: &mut AnyConnection, products: &[Product]) -> Result<(), Error> {
    insert_many(
        connection,
        "INSERT INTO products (sku, title, manufacturer_id, brand, category, package_size, source_digest, \
         create_time, update_time) VALUES",
        "ON CONFLICT (sku) DO UPDATE SET title = excluded.title, manufacturer_id = excluded.manufacturer_id, \
         brand = excluded.brand, category = excluded.category, package_size = excluded.package_size, \
         source_digest = excluded.source_digest, update_time = excluded.update_time",
        products,
        |row, product| {
            row.bind(product.sku.as_str())
                .bind(product.content.title.as_str())
                .bind(product.content.manufacturer_id.as_str())
                .bind(product.content.brand.as_str())
                .bind(text(product.content.category.as_ref()))
                .bind(product.content.package_size.as_str())
                .bind(product.source_digest.as_str())
                .bind(product.create_time.micros())
                .bind(product.update_time.micros());
        },
    )
    .await?;
    Ok(())
}

/// Makes the categories that are missing. The others keep their titles.
pub(crate) async fn make_categories(
    connection: &mut AnyConnection,
    categories: &[Category],
) -> Result<(), Error> {
    insert_many(
        connection,
        "INSERT INTO categories (id, title, parent) VALUES",
        "ON CONFLICT (id) DO NOTHING",
        categories,
        |row, category| {
            row.bind(category.id.as_str()).bind(category.title.as_str()).bind(text(category.parent.as_ref()));
        },
    )
    .await?;
    Ok(())
}

pub(crate) async fn category_exists(connection: &mut AnyConnection, id: &CategoryId) -> Result<bool, Error> {
    let mut statement = Statement::new("SELECT id FROM categories WHERE id = ");
    statement.bind(id.as_str());
    Ok(statement.fetch_optional(connection).await?.is_some())
}

/// Children of `parent` after `after` by id, each with how many products are in it.
pub(crate) async fn list_categories(
    connection: &mut AnyConnection,
    parent: Option<&CategoryId>,
    after: &str,
    limit: i64,
) -> Result<Vec<(Category, i64)>, Error> {
    let mut statement = Statement::new(
        "SELECT id, title, parent, (SELECT COUNT(*) FROM products WHERE category = categories.id) \
         FROM categories WHERE parent = ",
    );
    statement.bind(text(parent)).push(" AND id > ").bind(after);
    statement.push(" ORDER BY id LIMIT ").bind(limit);
    statement.fetch_all(connection).await?.iter().map(counted_category).collect()
}

fn text(id: Option<&CategoryId>) -> &str {
    id.map_or("", CategoryId::as_str)
}

fn category_id(text: String) -> Option<CategoryId> {
    (!text.is_empty()).then(|| CategoryId::from_trusted(text))
}

fn product(row: &AnyRow) -> Result<Product, Error> {
    Ok(Product {
        sku: Sku::from_trusted(row.try_get(0)?),
        content: Content {
            title: row.try_get(1)?,
            manufacturer_id: row.try_get(2)?,
            brand: row.try_get(3)?,
            category: category_id(row.try_get(4)?),
            package_size: row.try_get(5)?,
        },
        source_digest: row.try_get(6)?,
        create_time: Timestamp::from_micros(row.try_get(7)?),
        update_time: Timestamp::from_micros(row.try_get(8)?),
    })
}

fn counted_category(row: &AnyRow) -> Result<(Category, i64), Error> {
    let category = Category {
        id: CategoryId::from_trusted(row.try_get(0)?),
        title: row.try_get(1)?,
        parent: category_id(row.try_get(2)?),
    };
    Ok((category, row.try_get(3)?))
}
