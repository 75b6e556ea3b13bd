//! The border to the contract: requests in, orders out. What is wrong with a request gets its field's name here.

mod order;
mod source_order;

use events::Begin;
use omnimesh_proto::{order::v1 as pb, r#type::v1::ChangeType};
use types::{
    Imported, InvalidRequest, OrderUid, Request, SourceRef, Timestamp, Violations,
    filter::{self, Condition, Field, Kind},
    page::Page,
    wire,
};

use crate::{
    Error,
    domain::SourceOrder,
    event::Told,
    service::{Link, List, Unlink},
};

const PORTION: usize = 10_000;
const BATCH: usize = 1_000;

const GOLDEN_ID: Field = Field { name: "golden_id", kind: Kind::Text };
const LOCATION_ID: Field = Field { name: "location_id", kind: Kind::Text };
const ORDER_TIME: Field = Field { name: "order_time", kind: Kind::Time };

pub(crate) fn order_uid(field: &'static str, name: &str) -> Result<OrderUid, InvalidRequest> {
    OrderUid::from_name(name).map_err(|error| InvalidRequest::new(field, error))
}

pub(crate) fn import_orders(request: pb::ImportOrdersRequest) -> Result<Vec<SourceOrder>, InvalidRequest> {
    if request.orders.len() > PORTION {
        return Err(InvalidRequest::new(
            "orders",
            format!("holds more than {PORTION}: send several messages"),
        ));
    }
    let mut violations = Violations::default();
    let mut orders = Vec::with_capacity(request.orders.len());
    for (index, order) in request.orders.into_iter().enumerate() {
        match SourceOrder::try_from(order) {
            Ok(order) => orders.push(order),
            Err(invalid) => invalid.violations.into_iter().for_each(|violation| {
                violations.add(format!("orders[{index}].{}", violation.field), violation.description);
            }),
        }
    }
    violations.finish(Some(orders))
}

pub(crate) fn batch_get_orders(request: &pb::BatchGetOrdersRequest) -> Result<Vec<OrderUid>, InvalidRequest> {
    let mut violations = Violations::default();
    if request.names.len() > BATCH {
        violations.add("names", format!("holds more than {BATCH}"));
    }
    let mut order_uids = Vec::with_capacity(request.names.len());
    for (index, name) in request.names.iter().enumerate() {
        match OrderUid::from_name(name) {
            Ok(order_uid) => order_uids.push(order_uid),
            Err(error) => violations.add(format!("names[{index}]"), error),
        }
    }
    violations.finish(Some(order_uids))
}

pub(crate) fn lookup_order(request: pb::LookupOrderRequest) -> Result<SourceRef, InvalidRequest> {
    wire::source(request.source).map_err(|error| InvalidRequest::new("source", error))
}

pub(crate) fn list_orders(request: &pb::ListOrdersRequest) -> Result<List, InvalidRequest> {
    let filter = filter::parse(&request.filter, &[GOLDEN_ID, LOCATION_ID, ORDER_TIME])?;
    let newest_first = match request.order_by.as_str() {
        "" | "order_time desc" => true,
        "order_time" => false,
        _ => return Err(InvalidRequest::new("order_by", "is neither `order_time desc` nor `order_time`")),
    };
    let page = Page::new(request.page_size, &request.page_token, &[&request.filter, &request.order_by])?;
    let after = page.after.as_deref().map(position).transpose()?;
    Ok(List { page, after, filter, newest_first })
}

/// The last order of the page before.
fn position(key: &[String]) -> Result<(Timestamp, OrderUid), InvalidRequest> {
    let read = |micros: &str, order_uid: &str| Some((micros.parse().ok()?, order_uid.parse().ok()?));
    match key {
        [micros, order_uid] => read(micros, order_uid),
        _ => None,
    }
    .map(|(micros, order_uid)| (Timestamp::from_micros(micros), order_uid))
    .ok_or_else(|| InvalidRequest::new("page_token", "was not made for this query"))
}

pub(crate) fn link_orders(message: pb::LinkOrdersRequest) -> Result<Link, InvalidRequest> {
    let request = Request::new("omnimesh.order.v1.OrderService/LinkOrders", &message.request_id, &message)?;
    let mut violations = Violations::default();
    let order_uid = violations.check("name", OrderUid::from_name(&message.name));
    let other = violations.check("other", OrderUid::from_name(&message.other));
    if order_uid.is_some() && order_uid == other {
        violations.add("other", "is the same order as `name`");
    }
    let etag = Some(message.etag).filter(|etag| !etag.is_empty());
    let link = order_uid.zip(other).map(|(order_uid, other)| Link { order_uid, other, etag, request });
    violations.finish(link)
}

pub(crate) fn unlink_order(message: pb::UnlinkOrderRequest) -> Result<Unlink, InvalidRequest> {
    let request = Request::new("omnimesh.order.v1.OrderService/UnlinkOrder", &message.request_id, &message)?;
    let mut violations = Violations::default();
    let order_uid = violations.check("name", OrderUid::from_name(&message.name));
    let source = violations.check("source", wire::source(message.source));
    let etag = Some(message.etag).filter(|etag| !etag.is_empty());
    let unlink = order_uid.zip(source).map(|(order_uid, source)| Unlink { order_uid, source, etag, request });
    violations.finish(unlink)
}

pub(crate) fn watch_orders(request: &pb::WatchOrdersRequest) -> Result<(Begin, Vec<Condition>), Error> {
    let filter = filter::parse(&request.filter, &[GOLDEN_ID, LOCATION_ID])?;
    let begin = Begin::new(&request.resume_token, request.include_initial);
    Ok((begin.map_err(|_| Error::ResumeTokenInvalid)?, filter))
}

pub(crate) fn imported(imported: Imported) -> pb::ImportOrdersResponse {
    pb::ImportOrdersResponse { accepted_count: imported.accepted, unchanged_count: imported.unchanged }
}

impl From<Told> for pb::WatchOrdersResponse {
    fn from(told: Told) -> Self {
        match told {
            Told::Initial(order) => Self {
                change_type: ChangeType::Initial.into(),
                event_time: Some(order.update_time.into()),
                order: Some(order.into()),
                // Nobody can go on in the middle of the initial state.
                resume_token: String::new(),
            },
            Told::Changed(order, event) => {
                let is_gone = !order.merged_into.is_empty();
                let change_type = if is_gone { ChangeType::Deleted } else { ChangeType::Changed };
                Self {
                    change_type: change_type.into(),
                    order: Some(order),
                    event_time: event.event_time,
                    resume_token: event.cursor,
                }
            }
            Told::Bookmark(cursor) => Self {
                change_type: ChangeType::Bookmark.into(),
                order: None,
                event_time: None,
                resume_token: cursor.to_string(),
            },
        }
    }
}
