//! `omnimesh.lake.v1.DatasetService`: decode, call, encode.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt, stream};
use mesh::status;
use omnimesh_proto::lake::v1::{self as pb, dataset_service_server::DatasetService};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use types::{InvalidRequest, page::Page};

use crate::{
    Error, TableName,
    catalog::{self, ColumnInfo, DatasetInfo},
    dataset::Store,
    erase::{self, Erasure},
    run::{self, Manifest, Outcome, Output, Runner},
};

const DOMAIN: &str = "lake";

pub(crate) struct Grpc {
    store: Arc<Store>,
    runner: Arc<Runner>,
}

impl Grpc {
    pub(crate) fn new(store: Arc<Store>, runner: Arc<Runner>) -> Self {
        Self { store, runner }
    }
}

pub(crate) fn refuse(error: impl Into<Error>) -> Status {
    status::from(DOMAIN, error.into())
}

/// What is told of work while it goes on, and in the end.
type Progress<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Streams how far `work` says that it is, and at last what it came to. It goes on when nobody reads that any more: what
/// is left in the middle would only have to be begun again.
fn streamed<T, W>(work: impl FnOnce(watch::Sender<T>) -> W) -> Response<Progress<T>>
where
    T: Clone + Default + Send + Sync + 'static,
    W: Future<Output = Result<T, Error>> + Send + 'static,
{
    let (progress, watched) = watch::channel(T::default());
    let work = work(progress);
    // What fails is told here, lest nobody reads it.
    let ended = tokio::spawn(async move { work.await.map_err(refuse) });
    let told = stream::unfold(watched, |mut watched| async move {
        watched.changed().await.ok()?;
        let now = watched.borrow_and_update().clone();
        Some((Ok(now), watched))
    });
    let last = async move { ended.await.unwrap_or_else(|error| Err(refuse(error))) };
    Response::new(Box::pin(told.chain(stream::once(last))))
}

#[tonic::async_trait]
impl DatasetService for Grpc {
    async fn list_datasets(
        &self,
        request: Request<pb::ListDatasetsRequest>,
    ) -> Result<Response<pb::ListDatasetsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::new(request.page_size, &request.page_token, &[]).map_err(refuse)?;
        let datasets = catalog::list(&self.store).await.map_err(refuse)?;
        let key = |dataset: &DatasetInfo| vec![dataset.layer.clone(), dataset.table.clone()];
        let (datasets, next_page_token) = paged(datasets, &page, key);
        let datasets = datasets.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListDatasetsResponse { datasets, next_page_token }))
    }

    async fn get_dataset(
        &self,
        request: Request<pb::GetDatasetRequest>,
    ) -> Result<Response<pb::GetDatasetResponse>, Status> {
        let name = table("name", &request.into_inner().name).map_err(refuse)?;
        let found = catalog::get(&self.store, &name).await.map_err(refuse)?;
        let found = found.ok_or_else(|| refuse(Error::NotFound { what: format!("table {name}") }))?;
        Ok(Response::new(pb::GetDatasetResponse { dataset: Some(found.into()) }))
    }

    async fn list_runs(
        &self,
        request: Request<pb::ListRunsRequest>,
    ) -> Result<Response<pb::ListRunsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::new(request.page_size, &request.page_token, &[]).map_err(refuse)?;
        let runs = run::manifests(&self.store).await.map_err(refuse)?;
        let (runs, next_page_token) = paged(runs, &page, |run| vec![run.run_id.clone()]);
        let runs = runs.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListRunsResponse { runs, next_page_token }))
    }

    type RunDatasetsStream = Progress<pb::RunDatasetsResponse>;

    async fn run_datasets(
        &self,
        request: Request<pb::RunDatasetsRequest>,
    ) -> Result<Response<Self::RunDatasetsStream>, Status> {
        let names = request.into_inner().names;
        let wanted = names.iter().map(|name| table("names", name)).collect::<Result<Vec<_>, _>>();
        let (wanted, runner) = (wanted.map_err(refuse)?, Arc::clone(&self.runner));
        Ok(streamed(|progress| async move {
            let told = |name: &TableName| {
                progress.send_replace(pb::RunDatasetsResponse { run: None, dataset: dataset(name) });
            };
            let run = runner.run(&wanted, &told).await?;
            Ok(pb::RunDatasetsResponse { run: Some(run.into()), dataset: String::new() })
        }))
    }

    type EraseSubjectStream = Progress<pb::EraseSubjectResponse>;

    async fn erase_subject(
        &self,
        request: Request<pb::EraseSubjectRequest>,
    ) -> Result<Response<Self::EraseSubjectStream>, Status> {
        let pb::EraseSubjectRequest { keys, validate_only } = request.into_inner();
        let (store, runner) = (Arc::clone(&self.store), Arc::clone(&self.runner));
        Ok(streamed(|progress| async move {
            let told = |name: &TableName| {
                progress.send_replace(pb::EraseSubjectResponse { erasure: None, dataset: dataset(name) });
            };
            let erasure = match validate_only {
                true => erase::preview(store, &runner, &keys, &told).await?,
                false => erase::erase(&store, &runner, &keys, &told).await?,
            };
            Ok(pb::EraseSubjectResponse { erasure: Some(erasure.into()), dataset: String::new() })
        }))
    }
}

/// The page of `rows` that begins after its key.
fn paged<T>(rows: Vec<T>, page: &Page, key: impl Fn(&T) -> Vec<String>) -> (Vec<T>, String) {
    let after = page.after.as_ref();
    let skipped =
        after.and_then(|after| rows.iter().position(|row| key(row) == *after)).map_or(0, |at| at + 1);
    page.cut(rows.into_iter().skip(skipped).take(page.size + 1).collect(), key)
}

/// Reads `datasets/{layer}.{table}`.
fn table(field: &'static str, name: &str) -> Result<TableName, Error> {
    let invalid =
        || InvalidRequest::new(field, "is not datasets/{layer}.{table}, such as datasets/gold.dim_customer");
    let id = name.strip_prefix("datasets/").filter(|id| !id.contains('/'));
    let parts = id.and_then(|id| id.split_once('.'));
    let named = parts.filter(|(layer, table)| !layer.is_empty() && !table.is_empty());
    let (layer, table) = named.ok_or_else(invalid)?;
    // No table is called what the rule of its layer refuses.
    let absent = |_| Error::NotFound { what: format!("table {layer}/{table}") };
    format!("{layer}/{table}").parse().map_err(absent)
}

fn timestamp(time: jiff::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

impl From<DatasetInfo> for pb::Dataset {
    fn from(info: DatasetInfo) -> Self {
        Self {
            name: format!("datasets/{}.{}", info.layer, info.table),
            layer: info.layer,
            table: info.table,
            uri: info.uri,
            version: info.version.cast_signed(),
            row_count: info.rows.cast_signed(),
            byte_count: info.bytes.cast_signed(),
            update_time: (info.version > 0).then(|| timestamp(info.updated_at)),
            card: info.card.into_iter().collect(),
            columns: info.columns.into_iter().map(Into::into).collect(),
            tags: info.tags.into_iter().map(|(tag, version)| (tag, version.cast_signed())).collect(),
            error: info.error.unwrap_or_default(),
            refusal: info.refusal.unwrap_or_default(),
        }
    }
}

impl From<ColumnInfo> for pb::Column {
    fn from(ColumnInfo { name, kind, description, pii, key }: ColumnInfo) -> Self {
        Self { name, r#type: kind, description, pii, key }
    }
}

impl From<Manifest> for pb::Run {
    fn from(manifest: Manifest) -> Self {
        Self {
            name: format!("runs/{}", manifest.run_id),
            start_time: Some(timestamp(manifest.started_at)),
            end_time: manifest.finished_at.map(timestamp),
            outputs: manifest.outputs.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Erasure> for pb::Erasure {
    fn from(erasure: Erasure) -> Self {
        let datasets = erasure.tables.into_iter().map(|(table, loss)| pb::ErasedDataset {
            dataset: dataset(&table),
            row_count: loss.rows.cast_signed(),
            references: loss.references,
        });
        let unclear_fields = erasure.unclear.iter().flat_map(|(table, fields)| {
            fields.iter().map(move |(field, records)| pb::UnclearField {
                dataset: dataset(table),
                field: field.clone(),
                record_count: records.cast_signed(),
            })
        });
        Self {
            unclear_fields: unclear_fields.collect(),
            name: format!("erasures/{}", erasure.erasure_id),
            start_time: Some(timestamp(erasure.started_at)),
            end_time: Some(timestamp(erasure.finished_at)),
            subject_digest: erasure.subject,
            key_count: erasure.keys.cast_signed(),
            left_out_count: erasure.keys_left_out.cast_signed(),
            datasets: datasets.collect(),
            removed_file_count: erasure.files_removed.cast_signed(),
            searched_file_count: erasure.files_searched.cast_signed(),
            verified: erasure.verified,
        }
    }
}

/// The name of the table `<layer>/<name>` as a resource.
fn dataset(table: &impl ToString) -> String {
    format!("datasets/{}", table.to_string().replacen('/', ".", 1))
}

impl From<Output> for pb::RunOutput {
    fn from(output: Output) -> Self {
        use pb::run_output::State;
        let (state, reason) = match output.outcome {
            Outcome::Published => (State::Published, String::new()),
            Outcome::Unchanged => (State::Unchanged, String::new()),
            Outcome::Skipped { reason } => (State::Skipped, reason),
            Outcome::Failed { reason } => (State::Failed, reason),
        };
        Self {
            dataset: dataset(&output.table),
            state: state.into(),
            version: output.version.cast_signed(),
            row_count: output.rows.cast_signed(),
            reason,
        }
    }
}
