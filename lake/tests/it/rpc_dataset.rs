//! `DatasetService` through a real channel.

use omnimesh_proto::lake::v1::{
    GetDatasetRequest, ListDatasetsRequest, ListRunsRequest, RunDatasetsRequest,
    dataset_service_client::DatasetServiceClient, run_output::State,
};
use tempfile::TempDir;
use tonic::Code;

use crate::{
    sandbox::{Sandbox, last},
    world,
};

type Client = DatasetServiceClient<mesh::Channel>;

/// Names as the contract has them; some of tables that no layer could have.
const ABSENT: [&str; 4] =
    ["datasets/silver.nothing", "datasets/gold.nope", "datasets/copper.users", "datasets/silver.users.scd"];
/// Names that are not of the contract's form.
const UNREADABLE: [&str; 5] = [
    "silver/users_scd",
    "silver.users_scd",
    "datasets/silver/users_scd",
    "datasets/users_scd",
    "datasets/silver.",
];

async fn with_lake(seed: u64, check: impl AsyncFnOnce(Client)) {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, seed).await;
    sandbox.serve_then(sandbox.root(), async |channel| check(Client::new(channel)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn list_datasets_pages_through_every_table() {
    with_lake(11, async |mut client| {
        let mut names = Vec::new();
        let mut page_token = String::new();
        loop {
            let page = client.list_datasets(ListDatasetsRequest { page_size: 2, page_token }).await.unwrap();
            let page = page.into_inner();
            assert!(page.datasets.len() <= 2);
            names.extend(page.datasets.into_iter().map(|dataset| dataset.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert!(names.contains(&"datasets/silver.orders_unified".to_owned()), "{names:?}");
        assert!(names.is_sorted_by(|a, b| a != b), "{names:?}");
        let wrong =
            client.list_datasets(ListDatasetsRequest { page_size: -1, page_token: String::new() }).await;
        assert_eq!(wrong.unwrap_err().code(), Code::InvalidArgument);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_dataset_tells_what_a_table_is() {
    with_lake(12, async |mut client| {
        let ask = |name: &str| GetDatasetRequest { name: name.to_owned() };
        let dataset = client.get_dataset(ask("datasets/silver.users_scd")).await.unwrap();
        let dataset = dataset.into_inner().dataset.unwrap();
        assert!(dataset.row_count > 0 && dataset.byte_count > 0 && dataset.version > 0);
        assert_eq!(dataset.card["key"], "user_sk");
        let column = |name: &str| dataset.columns.iter().find(|column| column.name == name).unwrap();
        assert_eq!((column("email").pii.as_str(), column("golden_id").pii.as_str()), ("direct", "quasi"));
        assert!(column("user_sk").key && !column("email").key);
        for name in ABSENT {
            let absent = client.get_dataset(ask(name)).await.unwrap_err();
            assert_eq!(absent.code(), Code::NotFound, "{name}: {}", absent.message());
        }
        for name in UNREADABLE {
            let wrong = client.get_dataset(ask(name)).await.unwrap_err();
            assert_eq!(wrong.code(), Code::InvalidArgument, "{name}: {}", wrong.message());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn run_datasets_computes_what_has_changed() {
    with_lake(13, async |mut client| {
        let names = vec!["datasets/gold.fct_order_line".to_owned()];
        let run = last(client.run_datasets(RunDatasetsRequest { names })).await.unwrap().run.unwrap();
        assert_eq!(run.outputs.len(), 1);
        assert_eq!(run.outputs[0].state(), State::Published);
        assert!(run.outputs[0].row_count > 0);
        let all = last(client.run_datasets(RunDatasetsRequest::default())).await.unwrap().run.unwrap();
        let line =
            all.outputs.iter().find(|output| output.dataset == "datasets/gold.fct_order_line").unwrap();
        assert_eq!((line.state(), line.version), (State::Unchanged, run.outputs[0].version));
        for (name, code) in [
            ("datasets/gold.fct_nothing", Code::FailedPrecondition),
            ("datasets/gold.nope", Code::NotFound),
            ("gold.fct_order_line", Code::InvalidArgument),
        ] {
            let names = vec![name.to_owned()];
            let refused = last(client.run_datasets(RunDatasetsRequest { names })).await.unwrap_err();
            assert_eq!(refused.code(), code, "{name}: {}", refused.message());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn run_datasets_goes_on_when_nobody_reads() {
    with_lake(15, async |mut client| {
        let request = RunDatasetsRequest { names: vec!["datasets/gold.fct_order_line".to_owned()] };
        let mut unread = client.run_datasets(request.clone()).await.unwrap().into_inner();
        let progress = unread.message().await.unwrap().unwrap();
        assert_eq!((&progress.dataset, progress.run), (&request.names[0], None));
        drop(unread);
        // Waits for the one before.
        let run = last(client.run_datasets(request)).await.unwrap().run.unwrap();
        assert_eq!(run.outputs[0].state(), State::Unchanged);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn list_runs_pages_from_the_newest() {
    with_lake(14, async |mut client| {
        let mut made = Vec::new();
        for table in ["fct_order_line", "agg_sales_daily_channel"] {
            let names = vec![format!("datasets/gold.{table}")];
            let run = last(client.run_datasets(RunDatasetsRequest { names })).await.unwrap().run;
            made.push(run.unwrap().name);
        }
        let request = ListRunsRequest { page_size: 1, page_token: String::new() };
        let page = client.list_runs(request).await.unwrap().into_inner();
        assert_eq!(page.runs[0].name, made[1]);
        let request = ListRunsRequest { page_size: 1, page_token: page.next_page_token };
        assert_eq!(client.list_runs(request).await.unwrap().into_inner().runs[0].name, made[0]);
    })
    .await;
}
