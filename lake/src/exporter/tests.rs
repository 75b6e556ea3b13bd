//! An exporter whose log takes for ever to be read again.

use std::{
    fs, future,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    ipc::writer::StreamWriter,
};
use events::{Cursor, Event};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use mesh::{Policy, ServerBuilder};
use omnimesh_proto::{
    event::v1::{
        StreamEventsRequest, StreamEventsResponse,
        event_service_server::{EventService, EventServiceServer},
    },
    ingest::v1::RecordsLanded,
};
use prost::Message;
use tempfile::TempDir;
use tonic::{Request, Response, Status};

use super::Exporter;
use crate::{Config, Root, dataset::Store, table};

/// Its last event comes late, to whoever reads from where the others end; from its beginning it is read only once.
struct SlowLog {
    events: Vec<Event>,
    is_slow: Arc<AtomicBool>,
    was_read: AtomicBool,
}

#[tonic::async_trait]
impl EventService for SlowLog {
    type StreamEventsStream = BoxStream<'static, Result<StreamEventsResponse, Status>>;

    async fn stream_events(
        &self,
        request: Request<StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let after: Cursor = request.get_ref().after_cursor.parse().unwrap();
        let is_first = after == Cursor::START && !self.was_read.swap(true, Ordering::SeqCst);
        if after == Cursor::START && !is_first && self.is_slow.load(Ordering::SeqCst) {
            return Ok(Response::new(stream::pending().boxed()));
        }
        let known = self.events.len() - usize::from(is_first);
        let events =
            self.events[..known].iter().filter(|event| event.cursor.parse::<Cursor>().unwrap() > after);
        let cursor = self.events[known - 1].cursor.clone();
        let run = StreamEventsResponse { events: events.cloned().collect(), cursor: cursor.clone() };
        let end = StreamEventsResponse { events: Vec::new(), cursor };
        Ok(Response::new(stream::iter([Ok(run), Ok(end)]).chain(stream::pending()).boxed()))
    }
}

/// A record of an entity of the shop has landed.
fn landed(number: usize, entity: &str) -> Event {
    let columns = ["position", "payload"].map(|name| {
        let values: ArrayRef = Arc::new(StringArray::from(vec![number.to_string()]));
        (name, values)
    });
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    let payload = RecordsLanded {
        system: "shop".to_owned(),
        entity: entity.to_owned(),
        record_count: 1,
        records: writer.into_inner().unwrap().into(),
        ..RecordsLanded::default()
    };
    Event {
        id: format!("e-{number}"),
        subject: "sources/shop".to_owned(),
        cursor: format!("0-{number}"),
        payload: payload.encode_to_vec().into(),
        ..Event::default()
    }
}

async fn written(root: &Path, table: &str, rows: u64) {
    let written = async {
        let is_there = |extent: &crate::TableExtent| extent.table == table && extent.rows == rows;
        while !crate::extents(root).await.unwrap().iter().any(is_there) {
            tokio::task::yield_now().await;
        }
    };
    let written = tokio::time::timeout(Duration::from_secs(60), written).await;
    written.unwrap_or_else(|_| panic!("{table} does not come to {rows} rows"));
}

#[tokio::test(flavor = "multi_thread")]
async fn others_go_on_however_long_it_takes_to_read_what_a_broken_table_lacks() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    let store = Arc::new(Store::create(&Root::from(root)).unwrap());
    // Nobody may write into a file as into a directory, not even root.
    let obstacle = root.join("bronze/bronze_shop__orders.lance/data");
    fs::create_dir_all(obstacle.parent().unwrap()).unwrap();
    fs::write(&obstacle, "").unwrap();

    let permissions = ["event.read"];
    let policy = Policy::new([("lake", permissions.as_slice())]);
    let mut server = ServerBuilder::new(mesh::Config::default(), policy, None);
    let peers = server.host("lake");
    server.host("ingest");
    let is_slow = Arc::new(AtomicBool::new(true));
    let events = vec![landed(1, "orders"), landed(2, "customers"), landed(3, "customers")];
    let log = SlowLog { events, is_slow: Arc::clone(&is_slow), was_read: AtomicBool::new(false) };
    server.add(EventServiceServer::new(log));
    let config = Config { root: Root::from(root), quiet_ms: 20, ..Config::default() };
    let channel = peers.channel_to("ingest", events::SERVICE);
    let bronze = table::ALL.iter().find(|table| table.source().domain == "ingest").unwrap();
    let exporter = Exporter::new(*bronze, &config, store, channel);
    let server = server.build().await.unwrap();
    tokio::spawn(server.serve(future::pending()));
    tokio::spawn(exporter.run());

    written(root, "bronze_shop__customers", 2).await;
    fs::remove_file(&obstacle).unwrap();
    is_slow.store(false, Ordering::SeqCst);
    written(root, "bronze_shop__orders", 1).await;
    // Each once.
    written(root, "bronze_shop__customers", 2).await;
}
