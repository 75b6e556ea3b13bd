//! Source orders from the wire.

use omnimesh_proto::order::v1 as pb;
use types::{InvalidRequest, LocationId, Sku, SourceRef, Violations, wire};

use crate::domain::{Channel, Line, Payment, SourceOrder, Status};

/// Lines of an order; no till takes more.
const LINES: usize = 10_000;
/// Payments, and references, of an order.
const NAMED: usize = 1_000;

/// A field of an element; spelled out only when something is wrong with it, since imports check millions.
struct Element {
    list: &'static str,
    index: usize,
    field: &'static str,
}

impl From<Element> for String {
    fn from(Element { list, index, field }: Element) -> Self {
        format!("{list}[{index}]{field}")
    }
}

impl TryFrom<pb::SourceOrder> for SourceOrder {
    type Error = InvalidRequest;

    fn try_from(message: pb::SourceOrder) -> Result<Self, InvalidRequest> {
        let mut violations = Violations::default();
        let source = violations.check("source", wire::source(message.source));
        let channel = violations.check("channel", channel(message.channel));
        let location = violations.check("location_id", location(&message.location_id));
        let order_time = violations.check("order_time", wire::past_time(message.order_time));
        let status = violations.check("status", status(message.status));
        let currency = violations.check("currency_code", message.currency_code.parse());
        let lines = lines(message.lines, &mut violations);
        let payments = payments(message.payments, &mut violations);
        let customer = message.customer.map(SourceRef::try_from).transpose();
        let customer = violations.check("customer", customer);
        let references = references(message.references, &mut violations);
        let order = || {
            Some(Self {
                source: source?,
                version: message.version,
                channel: channel?,
                location: location?,
                order_time: order_time?,
                status: status?,
                currency: currency?,
                lines,
                payments,
                customer: customer?,
                references,
            })
        };
        let order = order();
        violations.finish(order)
    }
}

fn channel(number: i32) -> Result<Channel, &'static str> {
    match pb::Channel::try_from(number) {
        Ok(pb::Channel::Web) => Ok(Channel::Web),
        Ok(pb::Channel::Marketplace) => Ok(Channel::Marketplace),
        Ok(pb::Channel::Pos) => Ok(Channel::Pos),
        Ok(pb::Channel::Unspecified) => Err("is required"),
        Err(_) => Err("is unknown"),
    }
}

fn status(number: i32) -> Result<Status, &'static str> {
    match pb::OrderStatus::try_from(number) {
        Ok(pb::OrderStatus::Unspecified) => Ok(Status::Unknown),
        Ok(pb::OrderStatus::Placed) => Ok(Status::Placed),
        Ok(pb::OrderStatus::Completed) => Ok(Status::Completed),
        Ok(pb::OrderStatus::Cancelled) => Ok(Status::Cancelled),
        Err(_) => Err("is unknown"),
    }
}

fn location(text: &str) -> Result<Option<LocationId>, types::InvalidId> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

fn lines(messages: Vec<pb::OrderLine>, violations: &mut Violations) -> Vec<Line> {
    if messages.is_empty() {
        violations.add("lines", "at least one is required");
    }
    if !is_short("lines", &messages, LINES, violations) {
        return Vec::new();
    }
    let sum = |amount: fn(&pb::OrderLine) -> i64| messages.iter().map(amount).map(i128::from).sum::<i128>();
    for sum in [sum(|line| line.amount_minor), sum(|line| line.discount_minor)] {
        violations.check("lines", wire::bounded(sum).map_err(|error| format!("the sum {error}")));
    }
    let mut lines = Vec::with_capacity(messages.len());
    for (index, line) in messages.into_iter().enumerate() {
        let at = |field| Element { list: "lines", index, field };
        let sku = violations.check(at(".sku"), line.sku.parse::<Sku>());
        violations.check(at(".quantity"), wire::bounded(line.quantity));
        violations.check(at(".amount_minor"), wire::bounded(line.amount_minor));
        violations.check(at(".discount_minor"), wire::bounded(line.discount_minor));
        if line.discount_minor < 0 {
            violations.add(at(".discount_minor"), "is negative");
        }
        lines.extend(sku.map(|sku| Line {
            sku,
            quantity: line.quantity,
            amount_minor: line.amount_minor,
            discount_minor: line.discount_minor,
        }));
    }
    lines
}

fn is_short<T>(field: &str, list: &[T], most: usize, violations: &mut Violations) -> bool {
    if list.len() > most {
        violations.add(field, format!("holds more than {most}"));
    }
    list.len() <= most
}

fn payments(messages: Vec<pb::Payment>, violations: &mut Violations) -> Vec<Payment> {
    if !is_short("payments", &messages, NAMED, violations) {
        return Vec::new();
    }
    let mut payments = Vec::with_capacity(messages.len());
    for (index, message) in messages.into_iter().enumerate() {
        let at = Element { list: "payments", index, field: ".amount_minor" };
        violations.check(at, wire::bounded(message.amount_minor));
        let pb::Payment { psp_ref, method, amount_minor, auth_code } = message;
        let [psp_ref, auth_code] =
            [psp_ref, auth_code].map(|text| Some(text).filter(|text| !text.is_empty()));
        payments.push(Payment { psp_ref, method, auth_code, amount_minor });
    }
    payments
}

fn references(
    messages: Vec<omnimesh_proto::r#type::v1::SourceRef>,
    violations: &mut Violations,
) -> Vec<SourceRef> {
    if !is_short("references", &messages, NAMED, violations) {
        return Vec::new();
    }
    let mut references = Vec::with_capacity(messages.len());
    for (index, message) in messages.into_iter().enumerate() {
        let at = Element { list: "references", index, field: "" };
        references.extend(violations.check(at, SourceRef::try_from(message)));
    }
    references
}
