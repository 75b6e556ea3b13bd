//! GetSource, ListSources and WatchSources.

use omnimesh_proto::{ingest::v1 as pb, r#type::v1::ChangeType};
use tonic::Code;

use crate::{
    sandbox::{Sandbox, reason},
    silo::{Silo, row},
};

#[tokio::test]
async fn get_source_tells_what_was_never_run() {
    let sandbox = Sandbox::new(Silo::new().sources()).await;
    let source = sandbox.source("loyalty").await;
    assert_eq!((source.name.as_str(), source.connector.as_str()), ("sources/loyalty", "files"));
    assert_eq!(source.entities.len(), 6);
    assert_eq!(source.update_time, None);
    let request = pb::GetSourceRequest { name: "sources/erp".to_owned() };
    let status = sandbox.client.clone().get_source(request).await.expect_err("unknown");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "SOURCE_NOT_FOUND"));
}

#[tokio::test]
async fn list_sources_pages_filters_and_orders() {
    let sandbox = Sandbox::new(Silo::new().sources()).await;
    for (filter, order_by, expect) in [
        ("", "", ["events", "loyalty", "marketplace", "pos", "shop", "stock"].as_slice()),
        ("", "system desc", &["stock", "shop", "pos", "marketplace", "loyalty", "events"]),
        ("connector = files", "system", &["events", "loyalty", "marketplace", "pos", "stock"]),
        ("connector != files", "", &["shop"]),
    ] {
        let mut systems = Vec::new();
        let (filter, order_by) = (filter.to_owned(), order_by.to_owned());
        let mut request =
            pb::ListSourcesRequest { page_size: 2, page_token: String::new(), filter, order_by };
        loop {
            let page =
                sandbox.client.clone().list_sources(request.clone()).await.expect("a page").into_inner();
            systems.extend(page.sources.into_iter().map(|source| source.system));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(systems, expect, "{} {}", request.filter, request.order_by);
    }
    let default = pb::ListSourcesRequest::default;
    for request in [
        pb::ListSourcesRequest { page_size: -1, ..default() },
        pb::ListSourcesRequest { page_token: "x".to_owned(), ..default() },
        pb::ListSourcesRequest { filter: "name = x".to_owned(), ..default() },
        pb::ListSourcesRequest { order_by: "connector".to_owned(), ..default() },
    ] {
        let status = sandbox.client.clone().list_sources(request).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

async fn next_change(stream: &mut tonic::Streaming<pb::WatchSourcesResponse>) -> pb::WatchSourcesResponse {
    loop {
        let change = stream.message().await.expect("open").expect("a change");
        if change.change_type() != ChangeType::Bookmark {
            return change;
        }
    }
}

#[tokio::test]
async fn watch_sources_loses_and_repeats_nothing() {
    let silo = Silo::new();
    let definitions = || silo.source("pos");
    for sandbox in Sandbox::on_both_engines(definitions).await {
        std::fs::remove_dir_all(silo.path("pos")).expect("removed");
        let watch = |request: pb::WatchSourcesRequest| {
            let mut client = sandbox.client.clone();
            async move { client.watch_sources(request).await.map(tonic::Response::into_inner) }
        };
        let request = pb::WatchSourcesRequest { include_initial: true, ..Default::default() };
        let mut stream = watch(request).await.expect("a stream");
        let initial = next_change(&mut stream).await;
        assert_eq!(
            (initial.change_type(), initial.source),
            (ChangeType::Initial, Some(sandbox.source("pos").await))
        );
        silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 2, "1.50")]);
        sandbox.run("pos").await.expect("a run");
        let first = next_change(&mut stream).await;
        assert_eq!(
            (first.change_type(), first.source),
            (ChangeType::Changed, Some(sandbox.source("pos").await))
        );
        drop(stream);

        // A run that finds nothing new is no change.
        silo.pos("pos/330/b.csv", &[row("3-2", 1, "7", 2, "1.50")]);
        sandbox.run("pos").await.expect("a run");
        let second = sandbox.source("pos").await;
        sandbox.run("pos").await.expect("a run");
        silo.pos("pos/330/c.csv", &[row("3-3", 1, "7", 2, "1.50")]);
        sandbox.run("pos").await.expect("a run");
        let resume_token = first.resume_token;
        let mut stream =
            watch(pb::WatchSourcesRequest { resume_token, ..Default::default() }).await.expect("a stream");
        assert_eq!(next_change(&mut stream).await.source, Some(second));
        assert_eq!(next_change(&mut stream).await.source, Some(sandbox.source("pos").await));

        let request = pb::WatchSourcesRequest { resume_token: "nonsense".to_owned(), ..Default::default() };
        let status = watch(request).await.expect_err("refused");
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "RESUME_TOKEN_INVALID")
        );
    }
}
