//! The border to the contract: requests in, stocks out. What is wrong with a request gets its field's name here.

use events::Begin;
use omnimesh_proto::{inventory::v1 as pb, r#type::v1::ChangeType};
use types::{
    Imported, InvalidRequest, Request, SourceRef, Timestamp, Violations,
    filter::{self, Condition, Field, Kind as FieldKind},
    page::Page,
    wire,
};

use crate::{
    Error,
    domain::{Entry, Kind, Movement, Stock, StockId},
    event::Told,
    service::Change,
};

const PORTION: usize = 10_000;
const BATCH: usize = 1_000;
const FIELDS: [Field; 2] =
    [Field { name: "location_id", kind: FieldKind::Text }, Field { name: "sku", kind: FieldKind::Text }];

/// The source system of what operators say.
const OPERATOR: &str = "operator";

pub(crate) fn stock_id(field: &'static str, name: &str) -> Result<StockId, InvalidRequest> {
    StockId::from_name(name).map_err(|error| InvalidRequest::new(field, error))
}

pub(crate) fn batch_get_stock(request: &pb::BatchGetStockRequest) -> Result<Vec<StockId>, InvalidRequest> {
    let mut violations = Violations::default();
    if request.names.len() > BATCH {
        violations.add("names", format!("holds more than {BATCH}"));
    }
    let ids = request.names.iter().enumerate();
    let ids =
        ids.filter_map(|(index, name)| violations.check(format!("names[{index}]"), StockId::from_name(name)));
    let ids = ids.collect();
    violations.finish(Some(ids))
}

pub(crate) fn list_stocks(
    request: &pb::ListStocksRequest,
) -> Result<(Page, Option<StockId>, Vec<Condition>), InvalidRequest> {
    let filter = filter::parse(&request.filter, &FIELDS)?;
    if !matches!(request.order_by.as_str(), "" | "location_id, sku") {
        return Err(InvalidRequest::new("order_by", "is not `location_id, sku`"));
    }
    let page = Page::new(request.page_size, &request.page_token, &[&request.filter])?;
    let after = match page.after.as_deref() {
        Some([location_id, sku]) => {
            Some(stock_id("page_token", &format!("locations/{location_id}/stocks/{sku}"))?)
        }
        _ => None,
    };
    Ok((page, after, filter))
}

pub(crate) fn list_stock_movements(
    request: &pb::ListStockMovementsRequest,
) -> Result<(StockId, Page, i64), InvalidRequest> {
    let id = stock_id("parent", &request.parent)?;
    let page = Page::new(request.page_size, &request.page_token, &[&request.parent])?;
    let after = page.after.as_deref().and_then(|key| key.first()?.parse().ok()).unwrap_or(0);
    Ok((id, page, after))
}

pub(crate) fn adjust_stock(request: pb::AdjustStockRequest) -> Result<Change, InvalidRequest> {
    let mut violations = Violations::default();
    if request.quantity == 0 {
        violations.add("quantity", "is 0, which changes nothing");
    }
    let method = "omnimesh.inventory.v1.InventoryService/AdjustStock";
    let id = Request::new(method, &request.request_id, &request)?;
    change(id, Kind::Adjustment, &request.name, request.quantity, request.event_time, violations)
        .map(|change| Change { etag: etag(request.etag), ..change })
}

pub(crate) fn record_physical_count(
    request: pb::RecordPhysicalCountRequest,
) -> Result<Change, InvalidRequest> {
    let mut violations = Violations::default();
    if request.quantity < 0 {
        violations.add("quantity", "is negative, which nobody can count");
    }
    let method = "omnimesh.inventory.v1.InventoryService/RecordPhysicalCount";
    let id = Request::new(method, &request.request_id, &request)?;
    change(id, Kind::Count, &request.name, request.quantity, request.event_time, violations)
        .map(|change| Change { etag: etag(request.etag), ..change })
}

fn etag(text: String) -> Option<String> {
    Some(text).filter(|etag| !etag.is_empty())
}

fn change(
    request: Request,
    kind: Kind,
    name: &str,
    quantity: i64,
    event_time: Option<prost_types::Timestamp>,
    mut violations: Violations,
) -> Result<Change, InvalidRequest> {
    let stock = violations.check("name", StockId::from_name(name));
    violations.check("quantity", wire::bounded(quantity));
    let event_time = match event_time {
        None => Some(Timestamp::now()),
        time => violations.check("event_time", wire::past_time(time)),
    };
    // Without a request id every call is a change of its own.
    let id = request.id.unwrap_or_else(uuid::Uuid::now_v7).to_string();
    let source = violations.check("request_id", SourceRef::new(OPERATOR, &id));
    let movement = stock.zip(event_time).zip(source);
    let movement =
        movement.map(|((stock, event_time), source)| Movement { stock, kind, quantity, event_time, source });
    violations.finish(movement.map(|movement| Change { request, movement, etag: None }))
}

pub(crate) fn import_stock_movements(
    request: pb::ImportStockMovementsRequest,
) -> Result<Vec<Movement>, InvalidRequest> {
    if request.movements.len() > PORTION {
        return Err(InvalidRequest::new(
            "movements",
            format!("holds more than {PORTION}: send several messages"),
        ));
    }
    let mut violations = Violations::default();
    let mut movements = Vec::with_capacity(request.movements.len());
    for (index, movement) in request.movements.into_iter().enumerate() {
        movements.extend(import(&mut violations, &format!("movements[{index}]"), movement));
    }
    violations.finish(Some(movements))
}

fn import(violations: &mut Violations, path: &str, movement: pb::StockMovement) -> Option<Movement> {
    let kind = match movement.kind() {
        pb::MovementKind::Count => Ok(Kind::Count),
        pb::MovementKind::Delivery => Ok(Kind::Delivery),
        pb::MovementKind::Sale => Ok(Kind::Sale),
        pb::MovementKind::Adjustment => Ok(Kind::Adjustment),
        pb::MovementKind::Unspecified => Err("is required"),
    };
    let kind = violations.check(format!("{path}.kind"), kind);
    let sku = violations.check(format!("{path}.sku"), movement.sku.parse());
    let location_id = violations.check(format!("{path}.location_id"), movement.location_id.parse());
    let quantity = violations.check(format!("{path}.quantity"), wire::bounded(movement.quantity));
    let event_time = violations.check(format!("{path}.event_time"), wire::past_time(movement.event_time));
    let source = violations.check(format!("{path}.source"), wire::source(movement.source));
    Some(Movement {
        kind: kind?,
        stock: StockId { location_id: location_id?, sku: sku? },
        quantity: quantity?,
        event_time: event_time?,
        source: source?,
    })
}

pub(crate) fn watch_stock(request: &pb::WatchStockRequest) -> Result<(Begin, Vec<Condition>), Error> {
    let filter = filter::parse(&request.filter, &FIELDS)?;
    let begin = Begin::new(&request.resume_token, request.include_initial);
    Ok((begin.map_err(|_| Error::ResumeTokenInvalid)?, filter))
}

pub(crate) fn imported(imported: Imported) -> pb::ImportStockMovementsResponse {
    pb::ImportStockMovementsResponse {
        accepted_count: imported.accepted,
        unchanged_count: imported.unchanged,
    }
}

impl From<Stock> for pb::Stock {
    fn from(stock: Stock) -> Self {
        Self {
            name: stock.id.name(),
            etag: stock.etag(),
            sku: stock.id.sku.into_string(),
            location_id: stock.id.location_id.into_string(),
            on_hand: stock.on_hand,
            last_count_time: stock.last_count_time.map(Into::into),
            ledger_sequence: stock.ledger_sequence,
            update_time: Some(stock.update_time.into()),
        }
    }
}

impl From<Entry> for pb::StockMovement {
    fn from(Entry { sequence, movement, record_time }: Entry) -> Self {
        let kind = match movement.kind {
            Kind::Count => pb::MovementKind::Count,
            Kind::Delivery => pb::MovementKind::Delivery,
            Kind::Sale => pb::MovementKind::Sale,
            Kind::Adjustment => pb::MovementKind::Adjustment,
        };
        Self {
            ledger_sequence: sequence,
            sku: movement.stock.sku.into_string(),
            location_id: movement.stock.location_id.into_string(),
            kind: kind.into(),
            quantity: movement.quantity,
            event_time: Some(movement.event_time.into()),
            record_time: Some(record_time.into()),
            source: Some(movement.source.into()),
        }
    }
}

impl From<Told> for pb::WatchStockResponse {
    fn from(told: Told) -> Self {
        match told {
            Told::Initial(stock) => Self {
                change_type: ChangeType::Initial.into(),
                event_time: Some(stock.update_time.into()),
                stock: Some(stock.into()),
                // Nobody can go on in the middle of the initial state.
                resume_token: String::new(),
            },
            Told::Changed(stock, event) => Self {
                change_type: ChangeType::Changed.into(),
                stock: Some(stock),
                event_time: event.event_time,
                resume_token: event.cursor,
            },
            Told::Bookmark(cursor) => Self {
                change_type: ChangeType::Bookmark.into(),
                stock: None,
                event_time: None,
                resume_token: cursor.to_string(),
            },
        }
    }
}
