//! `products__<model>`: products by the texts that describe them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray, FixedSizeBinaryArray, RecordBatch, StringArray},
    datatypes::{Field, Schema},
    error::ArrowError,
};
use async_trait::async_trait;
use datafusion::execution::{SendableRecordBatchStream, runtime_env::RuntimeEnv};
use sha2::{Digest, Sha256};

use super::{card, lineage_of, query, rows, texts, with_vectors};
use crate::{
    Error, Layer, TableName,
    card::Card,
    dataset::Table,
    sql::{Lineage, Snapshot},
    table::{Derived, model::Model},
    vector::{
        TEXT, VECTOR, components,
        embedder::{TextEmbedder, normalized},
        publish::{publish, read},
    },
};

static PRODUCTS: Model = query("products_by_text", include_str!("products_by_text.sql"));
const DIGEST: &str = "text_sha256";

type Vectors = HashMap<[u8; 32], Option<Arc<[f32]>>>;

/// Products by their texts, with one model.
#[derive(Debug)]
pub(in crate::table) struct ProductsByText {
    embedder: Arc<dyn TextEmbedder>,
    definition: String,
}

impl ProductsByText {
    pub(in crate::table) fn new(embedder: Arc<dyn TextEmbedder>) -> Self {
        let definition = format!("{}\n-- model: {}", PRODUCTS.sql, embedder.model_id());
        Self { embedder, definition }
    }
}

#[async_trait]
impl Derived for ProductsByText {
    fn name(&self) -> Result<TableName, Error> {
        TableName::new(Layer::Embeddings, format!("products__{}", self.embedder.model_id()))
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
        &self.definition
    }

    async fn compute(
        &self,
        inputs: &Snapshot,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<SendableRecordBatchStream, Error> {
        let mut known = self.known(inputs).await?;
        let rows = rows(&PRODUCTS, inputs, runtime).await?;
        let rows = rows.iter().map(digested).collect::<Result<Vec<_>, _>>()?;
        let embedder = Arc::clone(&self.embedder);
        let (rows, known) = tokio::task::spawn_blocking(move || {
            let texts = rows.iter().flat_map(|(_, texts)| texts);
            for (digest, text) in texts {
                // Many products share a text.
                known.entry(*digest).or_insert_with(|| embedder.embed(text).map(Into::into));
            }
            let rows = rows.into_iter().map(|(rows, _)| rows).collect::<Vec<_>>();
            (rows, known)
        })
        .await?;
        let vectors = move |rows: &RecordBatch| {
            let digests = rows.column_by_name(DIGEST).and_then(|column| column.as_fixed_size_binary_opt());
            let digests = digests.into_iter().flat_map(FixedSizeBinaryArray::iter);
            Ok(digests.map(|digest| known.get(digest?).cloned().flatten()).collect())
        };
        Ok(with_vectors(rows, self.embedder.model_id(), self.embedder.dimension(), vectors))
    }

    async fn ready(&self, computed: &mut Table) -> Result<BTreeMap<String, String>, Error> {
        publish(computed).await
    }

    async fn lineage(&self, inputs: &Snapshot, runtime: &Arc<RuntimeEnv>) -> Result<Lineage, Error> {
        lineage_of(&PRODUCTS, &[TEXT], inputs, runtime).await
    }
}

impl ProductsByText {
    /// The vectors of the table as it stands: of a text that is in there the model would make the same again.
    async fn known(&self, inputs: &Snapshot) -> Result<Vectors, Error> {
        let name = self.name()?;
        let Ok(dataset) = inputs.dataset(&name) else { return Ok(Vectors::new()) };
        let stands = read(&name, dataset, &[DIGEST, VECTOR]).await?;
        let digests = stands.column_by_name(DIGEST).and_then(|column| column.as_fixed_size_binary_opt());
        let (Some(digests), Some((dimension, values))) = (digests, components(&stands)) else {
            return Ok(Vectors::new());
        };
        if dimension != self.embedder.dimension() {
            return Ok(Vectors::new());
        }
        let mut known = Vectors::new();
        for (digest, vector) in digests.iter().zip(values.chunks_exact(dimension)) {
            if let Some(digest) = digest.and_then(|digest| digest.try_into().ok()) {
                known.entry(digest).or_insert_with(|| Some(vector.into()));
            }
        }
        Ok(known)
    }
}

/// The rows with their texts as models see them, and the digests of these; and both.
fn digested(rows: &RecordBatch) -> Result<(RecordBatch, Vec<([u8; 32], String)>), ArrowError> {
    let texts: Vec<_> = texts(rows, TEXT)?
        .map(normalized)
        .map(|text| (<[u8; 32]>::from(Sha256::digest(text.as_bytes())), text))
        .collect();
    let digests = texts.iter().map(|(digest, _)| Some(digest));
    let digests = FixedSizeBinaryArray::try_from_sparse_iter_with_size(digests, 32)?;
    let seen = StringArray::from_iter_values(texts.iter().map(|(_, text)| text));
    let schema = rows.schema_ref();
    let mut columns = rows.columns().to_vec();
    if let Some(column) = columns.get_mut(schema.index_of(TEXT)?) {
        *column = Arc::new(seen);
    }
    columns.push(Arc::new(digests.clone()));
    let digest = Field::new(DIGEST, digests.data_type().clone(), false);
    let fields = schema.fields().iter().map(|field| field.as_ref().clone()).chain([digest]);
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?;
    Ok((rows, texts))
}
