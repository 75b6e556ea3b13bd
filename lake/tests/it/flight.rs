//! SQL over the lake through Arrow Flight SQL: from Python as a BI tool asks, and what only a program can look at.

use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightInfo,
    flight_service_client::FlightServiceClient,
    sql::{ActionCancelQueryRequest, Any, CommandStatementQuery, ProstMessageExt},
};
use lake::{Config, FLIGHT};
use mesh::{Channel, Peers};
use prost::Message;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::{python, sandbox::Sandbox, world};

/// More than anybody waits for.
const ENDLESS: &str = "SELECT max(value % 7) FROM generate_series(1, 1000000000000)";

/// A caller that may query.
fn client(peers: &Peers) -> FlightServiceClient<Channel> {
    FlightServiceClient::new(peers.for_workload("bi").channel_to("lake", FLIGHT.service))
}

async fn plan(client: &mut FlightServiceClient<Channel>, sql: &str) -> Result<FlightInfo, Status> {
    let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    Ok(client.get_flight_info(descriptor).await?.into_inner())
}

async fn act(client: &mut FlightServiceClient<Channel>, action: Action) -> Result<Vec<u8>, Status> {
    let answer = client.do_action(action).await?.into_inner().message().await?;
    Ok(answer.map(|answer| answer.body.to_vec()).unwrap_or_default())
}

/// Both ways to cancel there are.
fn cancels(info: &FlightInfo) -> [Action; 2] {
    let query = ActionCancelQueryRequest { info: info.encode_to_vec().into() };
    [
        Action::new("CancelFlightInfo", CancelFlightInfoRequest::new(info.clone()).encode_to_vec()),
        Action::new("CancelQuery", query.as_any().encode_to_vec()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bi_tool_queries_the_lake() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 8).await;
    let config = Sandbox::config(sandbox.root());
    let lake = config.clone();
    sandbox
        .serve_edge(config, async |_| {
            lake::run(&lake, &[], &|_| ()).await.unwrap();
            python::ask(sandbox.root(), "query").await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bi_tool_learns_which_limit_it_met() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let config = Config { query_rows: 1_000, query_mib: 1, ..Sandbox::config(sandbox.root()) };
    sandbox.serve_edge(config.clone(), async |_| python::ask(sandbox.root(), "rows").await).await;
    let config = Config { query_seconds: 1, ..config };
    sandbox.serve_edge(config, async |_| python::ask(sandbox.root(), "time").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_cancelled_by_what_it_was_asked_with() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let config = Sandbox::config(sandbox.root());
    sandbox
        .serve_edge(config, async |peers| {
            let mut client = client(&peers);
            let info = plan(&mut client, ENDLESS).await.unwrap();
            for cancel in cancels(&info) {
                let unknown = act(&mut client, cancel.clone()).await.unwrap_err();
                assert_eq!(unknown.code(), Code::NotFound, "nothing runs yet");
                let ticket = info.endpoint[0].ticket.clone().unwrap();
                let mut rows = client.do_get(ticket).await.unwrap().into_inner();
                assert!(rows.message().await.unwrap().is_some(), "the columns come first");
                act(&mut client, cancel).await.unwrap();
                assert_eq!(rows.message().await.unwrap_err().code(), Code::Aborted);
            }
            let closed = act(&mut client, Action::new("CloseSession", "")).await.unwrap();
            assert_eq!(closed, [8, 1], "field 1: closed");
            let cancelled = CancelFlightInfoResult::new(CancelStatus::Cancelled).encode_to_vec();
            assert_eq!(cancelled, [8, 1]);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_need_their_permission() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let config = Sandbox::config(sandbox.root());
    sandbox
        .serve_edge(config, async |peers| {
            let refused =
                plan(&mut FlightServiceClient::new(peers.channel_to("lake", FLIGHT.service)), "SELECT 1")
                    .await
                    .unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied);
            assert!(refused.message().contains("lake.query"), "{}", refused.message());
            let mut client = client(&peers);
            plan(&mut client, "SELECT 1").await.unwrap();
            let garbage = FlightDescriptor::new_cmd(Any::default().encode_to_vec());
            assert!(client.get_flight_info(garbage).await.is_err());
        })
        .await;
}
