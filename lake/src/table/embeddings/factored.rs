//! `products__svd64` and `customers__svd64`: products by who buys them, customers by what they buy, in one space.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Int64Type,
};
use async_trait::async_trait;
use datafusion::execution::{SendableRecordBatchStream, runtime_env::RuntimeEnv};

use super::{card, lineage_of, query, rows, texts, with_vectors};
use crate::{
    Error, Layer, TableName,
    card::Card,
    dataset::Table,
    sql::{Lineage, Snapshot},
    table::{Derived, model::Model},
    vector::{
        ENTITY, VECTOR, components,
        embedder::unit,
        factor::{Counts, factors},
        publish::{not_vectors, publish, read},
    },
};

const MODEL_ID: &str = "svd64";
const DIMENSION: usize = 64;

static PURCHASES: Model = query("purchases", include_str!("purchases.sql"));
static PRODUCTS: Model = query("products_by_buyers", include_str!("products_by_buyers.sql"));
static CUSTOMERS: Model = query("customers_by_purchases", include_str!("customers_by_purchases.sql"));

type Vectors = HashMap<String, Vec<f32>>;

/// Products by who buys them.
#[derive(Debug)]
pub(in crate::table) struct ProductsByBuyers;

#[async_trait]
impl Derived for ProductsByBuyers {
    fn name(&self) -> Result<TableName, Error> {
        TableName::new(Layer::Embeddings, format!("products__{MODEL_ID}"))
    }

    fn inputs(&self) -> Result<Vec<TableName>, Error> {
        PRODUCTS.inputs()
    }

    fn card(&self) -> Card {
        card(&PRODUCTS)
    }

    fn can_lack(&self, input: &TableName) -> Result<bool, Error> {
        PRODUCTS.can_lack(input)
    }

    fn definition(&self) -> &str {
        concat!(include_str!("purchases.sql"), include_str!("products_by_buyers.sql"))
    }

    async fn compute(
        &self,
        inputs: &Snapshot,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<SendableRecordBatchStream, Error> {
        let purchases = Purchases::read(inputs, runtime).await?;
        let vectors = tokio::task::spawn_blocking(move || purchases.products()).await?;
        let rows = rows(&PRODUCTS, inputs, runtime).await?;
        Ok(placed(rows, vectors))
    }

    async fn ready(&self, computed: &mut Table) -> Result<BTreeMap<String, String>, Error> {
        publish(computed).await
    }

    async fn lineage(&self, inputs: &Snapshot, runtime: &Arc<RuntimeEnv>) -> Result<Lineage, Error> {
        lineage(&PRODUCTS, inputs, runtime).await
    }
}

/// Customers by what they buy: each lies where the products do that it buys, so that the products that are near to it
/// can be searched for as well.
#[derive(Debug)]
pub(in crate::table) struct CustomersByPurchases;

#[async_trait]
impl Derived for CustomersByPurchases {
    fn name(&self) -> Result<TableName, Error> {
        TableName::new(Layer::Embeddings, format!("customers__{MODEL_ID}"))
    }

    fn inputs(&self) -> Result<Vec<TableName>, Error> {
        Ok(vec![TableName::new(Layer::Gold, "fct_order_line")?, ProductsByBuyers.name()?])
    }

    fn card(&self) -> Card {
        card(&CUSTOMERS)
    }

    fn definition(&self) -> &str {
        concat!(include_str!("purchases.sql"), include_str!("customers_by_purchases.sql"))
    }

    async fn compute(
        &self,
        inputs: &Snapshot,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<SendableRecordBatchStream, Error> {
        let name = ProductsByBuyers.name()?;
        let products = read(&name, inputs.dataset(&name)?, &[ENTITY, VECTOR]).await?;
        let (dimension, values) = components(&products).ok_or_else(|| not_vectors(&name))?;
        let products = texts(&products, ENTITY)?.zip(values.chunks_exact(dimension)).collect();
        let vectors = Purchases::read(inputs, runtime).await?.customers(&products);
        let rows = rows(&CUSTOMERS, inputs, runtime).await?;
        Ok(placed(rows, vectors))
    }

    async fn ready(&self, computed: &mut Table) -> Result<BTreeMap<String, String>, Error> {
        publish(computed).await
    }

    async fn lineage(&self, inputs: &Snapshot, runtime: &Arc<RuntimeEnv>) -> Result<Lineage, Error> {
        lineage(&CUSTOMERS, inputs, runtime).await
    }
}

/// Where a query's columns come from, and the vectors: from who bought what.
async fn lineage(query: &Model, inputs: &Snapshot, runtime: &Arc<RuntimeEnv>) -> Result<Lineage, Error> {
    let mut lineage = lineage_of(query, &[], inputs, runtime).await?;
    let purchases = lineage_of(&PURCHASES, &["customer", "product", "lines"], inputs, runtime).await?;
    lineage.columns.extend(purchases.columns.into_iter().filter(|(column, _)| column == VECTOR));
    lineage.rows.extend(purchases.rows);
    Ok(lineage)
}

fn placed(rows: Vec<RecordBatch>, vectors: Vectors) -> SendableRecordBatchStream {
    let of = move |rows: &RecordBatch| {
        Ok(texts(rows, ENTITY)?.map(|entity| vectors.get(entity).cloned()).collect())
    };
    with_vectors(rows, MODEL_ID, DIMENSION, of)
}

/// Who bought what, and how often, in the order of the customers.
struct Purchases {
    lines: Vec<Purchase>,
}

struct Purchase {
    customer: String,
    product: String,
    /// The logarithm of the number of lines: the tenth says less than the first.
    weight: f64,
}

impl Purchases {
    async fn read(inputs: &Snapshot, runtime: &Arc<RuntimeEnv>) -> Result<Self, Error> {
        let mut lines = Vec::new();
        for rows in rows(&PURCHASES, inputs, runtime).await? {
            let counts =
                rows.column_by_name("lines").and_then(|column| column.as_primitive_opt::<Int64Type>());
            let counts = counts.map(|counts| counts.values().as_ref()).unwrap_or_default();
            let pairs = texts(&rows, "customer")?.zip(texts(&rows, "product")?).zip(counts);
            lines.extend(pairs.map(|((customer, product), count)| Purchase {
                customer: customer.to_owned(),
                product: product.to_owned(),
                weight: (*count as f64).ln_1p(),
            }));
        }
        Ok(Self { lines })
    }

    /// The products' vectors.
    fn products(&self) -> Vectors {
        let mut products: Vec<_> = self.lines.iter().map(|line| line.product.as_str()).collect();
        products.sort_unstable();
        products.dedup();
        let numbers: HashMap<_, _> = products.iter().copied().zip(0..).collect();
        let customers = self.lines.chunk_by(|a, b| a.customer == b.customer);
        let counts = Counts::new(
            customers.clone().count(),
            products.len(),
            customers.zip(0..).flat_map(|(lines, customer)| {
                let numbers = &numbers;
                lines
                    .iter()
                    .filter_map(move |line| Some((customer, *numbers.get(&*line.product)?, line.weight)))
            }),
        );
        let vectors = factors(&counts, DIMENSION).into_iter().map(unit);
        let named = products.into_iter().map(str::to_owned).zip(vectors);
        named.filter_map(|(product, vector)| Some((product, vector?))).collect()
    }

    /// The customers' vectors: what they buy, added up.
    fn customers(&self, products: &HashMap<&str, &[f32]>) -> Vectors {
        let customers = self.lines.chunk_by(|a, b| a.customer == b.customer);
        let vector = |lines: &[Purchase]| {
            let mut sum = vec![0.0; DIMENSION];
            for line in lines {
                let product = products.get(&*line.product).into_iter().flat_map(|product| product.iter());
                sum.iter_mut().zip(product).for_each(|(sum, value)| *sum += value * line.weight as f32);
            }
            unit(sum)
        };
        customers.filter_map(|lines| Some((lines.first()?.customer.clone(), vector(lines)?))).collect()
    }
}
