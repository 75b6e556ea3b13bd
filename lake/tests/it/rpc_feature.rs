//! `FeatureService` through a real channel: features now and then, and that both say the same.

use std::{collections::BTreeMap, io::Cursor, sync::Arc, time::Duration};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    compute::concat_batches,
    datatypes::{Int64Type, TimestampMicrosecondType},
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use events::NewEvent;
use futures::TryStreamExt;
use omnimesh_proto::{
    feature::v1::{
        Entity, FeatureType, FeatureValue, GetHistoricalFeaturesRequest, GetOnlineFeaturesRequest,
        GetOnlineFeaturesResponse, ListFeaturesRequest, feature_service_client::FeatureServiceClient,
        feature_value::Value,
    },
    lake::v1::{RunDatasetsRequest, dataset_service_client::DatasetServiceClient, run_output::State},
    order::v1::{Channel, Order, OrderChanged, OrderLine, OrderStatus},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use types::Timestamp;

use crate::sandbox::{Sandbox, last};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
const CUSTOMERS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);

type Client = FeatureServiceClient<mesh::Channel>;

/// Orders of the last hundred days, which are recorded now.
pub(crate) fn orders(seed: u64, count: usize) -> Vec<Order> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let now = Timestamp::now().micros();
    (0..count)
        .map(|number| {
            let lines: Vec<_> = (0..random.random_range(1..4))
                .map(|line| OrderLine {
                    sku: format!("sku-{}", 10 * line + random.random_range(0..10)),
                    quantity: random.random_range(1..5),
                    amount_minor: random.random_range(100..5_000),
                    discount_minor: random.random_range(0..100),
                })
                .collect();
            Order {
                order_uid: format!("order-{seed}-{number}"),
                golden_id: format!("golden-{}", random.random_range(0..CUSTOMERS)),
                channel: Channel::Pos.into(),
                location_id: random.random_range(1..9).to_string(),
                order_time: Some(Timestamp::from_micros(now - random.random_range(HOUR..100 * DAY)).into()),
                currency_code: "USD".to_owned(),
                total_minor: lines.iter().map(|line| line.amount_minor).sum(),
                discount_minor: lines.iter().map(|line| line.discount_minor).sum(),
                lines,
                create_time: Some(Timestamp::from_micros(now).into()),
                ..Order::default()
            }
        })
        .collect()
}

pub(crate) async fn publish(sandbox: &Sandbox, orders: &[Order]) {
    let events: Vec<_> = orders
        .iter()
        .map(|order| {
            let payload = OrderChanged { order: Some(order.clone()) };
            let subject = format!("orders/{}", order.order_uid);
            NewEvent::new("omnimesh.order.v1.OrderChanged", subject, Timestamp::now(), &payload)
        })
        .collect();
    sandbox.publish("order", &events, 100).await;
}

/// Computes the views; returns how many of their tables have news.
async fn run(channel: &mesh::Channel) -> usize {
    let names = ["customer_daily", "product_daily", "order_fraud"];
    let names = names.map(|view| format!("datasets/features.{view}")).to_vec();
    let mut client = DatasetServiceClient::new(channel.clone());
    let run = last(client.run_datasets(RunDatasetsRequest { names })).await.unwrap().run;
    let outputs = run.unwrap().outputs;
    let states: Vec<_> = outputs.iter().map(|output| (output.state(), &output.reason)).collect();
    assert!(!states.iter().any(|(state, _)| *state == State::Failed), "{states:?}");
    states.iter().filter(|(state, _)| *state == State::Published).count()
}

fn names(features: &[&str]) -> Vec<String> {
    features.iter().map(|name| (*name).to_owned()).collect()
}

fn entity<const N: usize>(ids: [(&str, &str); N]) -> Entity {
    Entity { ids: ids.map(|(column, id)| (column.to_owned(), id.to_owned())).into() }
}

fn customers() -> Vec<Entity> {
    (0..CUSTOMERS + 1).map(|number| entity([("golden_id", &format!("golden-{number}"))])).collect()
}

/// Asks until the views are in memory.
async fn online(client: &mut Client, features: &[&str], entities: Vec<Entity>) -> GetOnlineFeaturesResponse {
    let request = GetOnlineFeaturesRequest { features: names(features), entities };
    let answered = async {
        loop {
            match client.get_online_features(request.clone()).await {
                Ok(answer) => break answer.into_inner(),
                Err(status) => assert_eq!(status.code(), Code::FailedPrecondition, "{status}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("the views come into memory")
}

fn time(answer: &GetOnlineFeaturesResponse) -> i64 {
    Timestamp::try_from(answer.as_of_time.unwrap()).unwrap().micros()
}

fn plain(value: &FeatureValue) -> Option<i64> {
    match value.value.as_ref()? {
        Value::Integer(value) => Some(*value),
        Value::Time(time) => Some(Timestamp::try_from(*time).unwrap().micros()),
    }
}

fn spine(rows: &[(String, i64)]) -> RecordBatch {
    let ids = StringArray::from_iter_values(rows.iter().map(|(id, _)| id));
    let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(_, time)| *time));
    RecordBatch::try_from_iter([
        ("label", Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)) as ArrayRef),
        ("golden_id", Arc::new(ids) as _),
        ("event_time", Arc::new(times.with_timezone("UTC")) as _),
    ])
    .unwrap()
}

pub(crate) fn encoded(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

pub(crate) async fn historical(
    client: &mut Client,
    features: &[&str],
    spine: &RecordBatch,
) -> Result<RecordBatch, Status> {
    let request = GetHistoricalFeaturesRequest {
        features: names(features),
        spine: encoded(spine).into(),
        version: String::new(),
    };
    let parts = client.get_historical_features(request).await?.into_inner();
    let parts: Vec<_> = parts.map_ok(|part| part.table).try_collect().await?;
    let table = StreamReader::try_new(Cursor::new(parts.concat()), None).unwrap();
    let schema = table.schema();
    Ok(concat_batches(&schema, &table.collect::<Result<Vec<_>, _>>().unwrap()).unwrap())
}

/// Runs, and asks for every order with its customer's features as the order was placed, as an Arrow IPC stream.
pub(crate) async fn frame(channel: mesh::Channel, orders: &[Order]) -> Vec<u8> {
    run(&channel).await;
    let text = |of: fn(&Order) -> &String| {
        Arc::new(StringArray::from_iter_values(orders.iter().map(of))) as ArrayRef
    };
    let times = orders.iter().map(|order| Timestamp::try_from(order.order_time.unwrap()).unwrap().micros());
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let spine = RecordBatch::try_from_iter([
        ("order_uid", text(|order| &order.order_uid)),
        ("golden_id", text(|order| &order.golden_id)),
        ("event_time", Arc::new(times) as _),
    ]);
    let names = ["orders_30d", "spend_minor_90d", "last_order_at"];
    let features = names.map(|name| format!("customer_daily:{name}"));
    let features: Vec<_> = features.iter().map(String::as_str).collect();
    let table = historical(&mut Client::new(channel), &features, &spine.unwrap()).await.unwrap();
    let names = ["order_uid", "golden_id", "ordered_at"].into_iter().chain(names);
    let frame = RecordBatch::try_from_iter_with_nullable(
        names.zip(table.columns().iter().cloned()).map(|(name, column)| (name, column, true)),
    );
    encoded(&frame.unwrap())
}

/// The values of each row, from the fourth column on.
fn values(table: &RecordBatch) -> Vec<Vec<Option<i64>>> {
    let value = |column: &ArrayRef, row: usize| {
        let integer = column.as_primitive_opt::<Int64Type>().map(|column| column.value(row));
        let time = || column.as_primitive::<TimestampMicrosecondType>().value(row);
        (!column.is_null(row)).then(|| integer.unwrap_or_else(time))
    };
    let row = |row| table.columns()[3..].iter().map(|column| value(column, row)).collect();
    (0..table.num_rows()).map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn get_online_features_says_what_the_orders_come_to() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let orders = orders(1, 300);
    publish(&sandbox, &orders).await;
    sandbox
        .serve_then(sandbox.root(), async |channel| {
            assert_eq!(run(&channel).await, 3);
            let mut client = Client::new(channel);
            let features =
                ["customer_daily:orders_30d", "customer_daily:spend_minor", "product_daily:units_7d"];
            let pair = |number| {
                entity([("golden_id", &*format!("golden-{number}")), ("sku", &*format!("sku-{number}"))])
            };
            let answer = online(&mut client, &features, (0..CUSTOMERS).map(pair).collect()).await;
            assert_eq!(answer.features, features);
            let midnight = time(&answer).div_euclid(DAY) * DAY;
            let at = |order: &Order| Timestamp::try_from(order.order_time.unwrap()).unwrap().micros();
            let within = |window: i64| {
                let window = midnight - window..midnight;
                orders.iter().filter(move |order| window.contains(&at(order)))
            };
            for (number, found) in answer.entities.iter().enumerate() {
                let (golden_id, sku) = (format!("golden-{number}"), format!("sku-{number}"));
                let count = within(30 * DAY).filter(|order| order.golden_id == golden_id).count() as i64;
                let spent = within(1_000 * DAY).filter(|order| order.golden_id == golden_id);
                let spent: i64 = spent.map(|order| order.total_minor).sum();
                let lines = within(7 * DAY).flat_map(|order| &order.lines);
                let units: i64 = lines.filter(|line| line.sku == sku).map(|line| line.quantity).sum();
                let found: Vec<_> = found.values.iter().map(plain).collect();
                assert_eq!(found, [Some(count), Some(spent), Some(units)], "{golden_id}, {sku}");
            }

            let answer = online(&mut client, &features[..1], customers()).await;
            let nobody = answer.entities.last().unwrap();
            assert!(nobody.event_times.is_empty() && plain(&nobody.values[0]).is_none());
            assert!(answer.entities[0].event_times.contains_key("customer_daily"));

            let order = orders.iter().find(|order| at(order) > midnight - 80 * DAY).unwrap();
            let features = ["order_fraud:amount_minor", "order_fraud:is_customer_known"];
            let answer =
                online(&mut client, &features, vec![entity([("order_uid", &order.order_uid)])]).await;
            let found: Vec<_> = answer.entities[0].values.iter().map(plain).collect();
            assert_eq!(found, [Some(order.total_minor), Some(1)]);
        })
        .await;
}

/// An order of one line, as many days ago.
fn order(number: i64, days: i64, amount_minor: i64) -> Order {
    let at = Timestamp::now().micros() - days * DAY;
    let quantity = amount_minor.signum();
    Order {
        order_uid: format!("order-{number}"),
        golden_id: "golden-0".to_owned(),
        channel: Channel::Pos.into(),
        location_id: number.to_string(),
        order_time: Some(Timestamp::from_micros(at).into()),
        currency_code: "USD".to_owned(),
        total_minor: amount_minor,
        lines: vec![OrderLine { sku: "sku-0".to_owned(), quantity, amount_minor, discount_minor: 0 }],
        create_time: Some(Timestamp::now().into()),
        ..Order::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn get_online_features_counts_neither_cancelled_orders_nor_returns() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let cancelled = Order { status: OrderStatus::Cancelled.into(), ..order(2, 5, 500) };
    publish(&sandbox, &[order(1, 9, 1_000), cancelled, order(3, 3, 700), order(4, 2, -300)]).await;
    sandbox
        .serve_then(sandbox.root(), async |channel| {
            run(&channel).await;
            let mut client = Client::new(channel);
            let features = [
                "customer_daily:orders_30d",
                "customer_daily:spend_minor",
                "customer_daily:locations_30d",
                "product_daily:orders",
                "product_daily:units_30d",
                "product_daily:revenue_minor",
                "order_fraud:amount_minor",
                "order_fraud:orders_7d",
            ];
            let ids = [("golden_id", "golden-0"), ("sku", "sku-0"), ("order_uid", "order-3")];
            let answer = online(&mut client, &features, vec![entity(ids)]).await;
            let found: Vec<_> = answer.entities[0].values.iter().filter_map(plain).collect();
            assert_eq!(found, [2, 1_400, 2, 2, 1, 1_400, 700, 2], "fraud looks at what was tried");
            let answer = online(&mut client, &["customer_daily:last_order_at"], customers()).await;
            let last = answer.entities[0].values.iter().find_map(plain).unwrap();
            assert_eq!((time(&answer) - last) / DAY, 3, "a return is no order");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_historical_features_says_what_was_said_online() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    publish(&sandbox, &orders(2, 200)).await;
    let features = ["customer_daily:*"];
    let mut said: Vec<GetOnlineFeaturesResponse> = Vec::new();
    let long_ago = Timestamp::now().micros() - 20 * DAY;
    let then: Vec<_> = (0..CUSTOMERS).map(|number| (format!("golden-{number}"), long_ago)).collect();
    let mut known_then = Vec::new();
    // Each time there is more to know, about days long gone.
    for seed in 3..6 {
        sandbox
            .serve_then(sandbox.root(), async |channel| {
                assert_eq!(run(&channel).await, 3, "there is news");
                assert_eq!(run(&channel).await, 0, "there is none any more");
                let mut client = Client::new(channel);
                said.push(online(&mut client, &features, customers()).await);
                for answer in &said {
                    let asked: Vec<_> =
                        (0..CUSTOMERS + 1).map(|number| (format!("golden-{number}"), time(answer))).collect();
                    let found = historical(&mut client, &features, &spine(&asked)).await.unwrap();
                    let online: Vec<Vec<_>> = answer
                        .entities
                        .iter()
                        .map(|entity| entity.values.iter().map(plain).collect())
                        .collect();
                    assert_eq!(values(&found), online);
                }
                let found = values(&historical(&mut client, &features, &spine(&then)).await.unwrap());
                assert!(found.iter().flatten().any(Option::is_some));
                known_then.push(found);
            })
            .await;
        publish(&sandbox, &orders(seed, 100)).await;
    }
    assert!(known_then.windows(2).all(|pair| pair[0] == pair[1]), "what came later is not seen before");
}

#[tokio::test(flavor = "multi_thread")]
async fn get_historical_features_keeps_the_spines_rows_and_columns() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let orders = orders(7, 200);
    publish(&sandbox, &orders).await;
    sandbox
        .serve_then(sandbox.root(), async |channel| {
            run(&channel).await;
            let mut client = Client::new(channel);
            let now = Timestamp::now().micros();
            let mut random = ChaCha8Rng::seed_from_u64(7);
            // More rows than are answered at once, and fewer entities than are looked for one by one.
            let asked: Vec<_> = (0..70_000)
                .map(|_| {
                    let number = random.random_range(0..CUSTOMERS + 1);
                    (format!("golden-{number}"), now - random.random_range(0..120 * DAY))
                })
                .collect();
            let spine = spine(&asked);
            let features = ["customer_daily:orders_7d", "customer_daily:last_order_at"];
            let found = historical(&mut client, &features, &spine).await.unwrap();
            assert_eq!(found.num_rows(), spine.num_rows());
            assert_eq!(&found.columns()[..3], spine.columns());
            let fields: Vec<_> = found.schema().fields().iter().map(|field| field.name().clone()).collect();
            assert_eq!(fields[3..], features);
            assert!(found.schema().metadata().contains_key("omnimesh.version.customer_daily"));

            let mut bought: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
            for order in &orders {
                let at = Timestamp::try_from(order.order_time.unwrap()).unwrap().micros();
                bought.entry(&order.golden_id).or_default().push(at);
            }
            for ((golden_id, time), found) in asked.iter().zip(values(&found)).step_by(37) {
                let midnight = time.div_euclid(DAY) * DAY;
                let before: Vec<_> =
                    bought.get(&**golden_id).into_iter().flatten().filter(|at| **at < midnight).collect();
                let week = before.iter().filter(|at| ***at >= midnight - 7 * DAY).count() as i64;
                let expected = [(!before.is_empty()).then_some(week), before.into_iter().max().copied()];
                assert_eq!(found, expected, "{golden_id} at {time}");
            }
        })
        .await;
}

fn fields(status: &Status) -> Vec<String> {
    let details = status.get_details_bad_request().map(|details| details.field_violations);
    details.into_iter().flatten().map(|violation| violation.field).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn get_historical_features_refuses_what_it_cannot_answer() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    publish(&sandbox, &orders(8, 20)).await;
    sandbox
        .serve_then(sandbox.root(), async |channel| {
            let mut client = Client::new(channel.clone());
            let now = Timestamp::now().micros();
            let good = spine(&[("golden-1".to_owned(), now - DAY)]);
            let early = historical(&mut client, &["customer_daily:orders"], &good).await.unwrap_err();
            assert_eq!(early.code(), Code::FailedPrecondition, "{early}");
            run(&channel).await;
            let unknown =
                historical(&mut client, &["customer_daily:none", "orders"], &good).await.unwrap_err();
            assert_eq!(fields(&unknown), ["features[0]", "features[1]"]);
            let other = historical(&mut client, &["product_daily:orders"], &good).await.unwrap_err();
            assert!(other.message().contains("no column `sku`"), "{other}");
            let to_come = spine(&[("golden-1".to_owned(), now + DAY)]);
            let to_come = historical(&mut client, &["customer_daily:orders"], &to_come).await.unwrap_err();
            assert!(to_come.message().contains("times to come"), "{to_come}");
            let empty =
                historical(&mut client, &["customer_daily:orders"], &good.slice(0, 0)).await.unwrap_err();
            assert_eq!((empty.code(), fields(&empty)), (Code::InvalidArgument, names(&["spine"])));
            let mut request = GetHistoricalFeaturesRequest {
                features: names(&["customer_daily:orders"]),
                spine: b"no table".to_vec().into(),
                version: String::new(),
            };
            let torn = client.get_historical_features(request.clone()).await.unwrap_err();
            assert_eq!(fields(&torn), ["spine"]);
            request.spine = encoded(&good).into();
            request.version = "train-nothing".to_owned();
            assert_eq!(client.get_historical_features(request).await.unwrap_err().code(), Code::NotFound);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_online_features_refuses_what_it_cannot_answer() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    sandbox
        .serve_then(sandbox.root(), async |channel| {
            let mut client = Client::new(channel);
            let mut ask = async |features: &[&str], entities: Vec<Entity>| {
                let request = GetOnlineFeaturesRequest { features: names(features), entities };
                client.get_online_features(request).await.unwrap_err()
            };
            let customer = || vec![entity([("golden_id", "golden-1")])];
            let missing = ask(&["customer_daily:orders"], customer()).await;
            assert_eq!(missing.code(), Code::FailedPrecondition, "{missing}");
            assert_eq!(fields(&ask(&[], customer()).await), ["features"]);
            assert_eq!(fields(&ask(&["customer_daily:orders"], Vec::new()).await), ["entities"]);
            assert_eq!(fields(&ask(&["product_daily:orders"], customer()).await), ["entities[0].ids"]);
            assert_eq!(fields(&ask(&["none:orders"], customer()).await), ["features[0]"]);
            let twice = ask(&["customer_daily:orders", "customer_daily:*"], customer()).await;
            assert_eq!(fields(&twice), ["features"]);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn list_features_pages_through_every_feature() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    sandbox
        .serve_then(sandbox.root(), async |channel| {
            let mut client = Client::new(channel);
            let mut features = Vec::new();
            let mut page_token = String::new();
            loop {
                let page = client.list_features(ListFeaturesRequest { page_size: 30, page_token }).await;
                let page = page.unwrap().into_inner();
                features.extend(page.features);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            let mut names: Vec<_> = features.iter().map(|feature| feature.name.as_str()).collect();
            for name in ["customer_daily:orders_30d", "product_daily:units_7d", "order_fraud:orders_24h"] {
                assert!(names.contains(&name), "{name}");
            }
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), features.len());
            assert!(features.iter().all(|feature| !feature.description.is_empty()));
            let last =
                features.iter().find(|feature| feature.name == "customer_daily:last_order_at").unwrap();
            assert_eq!((last.r#type(), last.entity.as_str()), (FeatureType::Time, "golden_id"));
        })
        .await;
}
