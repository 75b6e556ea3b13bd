//! Orders to the wire.

use omnimesh_proto::order::v1 as pb;

use crate::domain::{Channel, Line, MatchRule, Order, Payment, Source, Status};

impl From<Order> for pb::Order {
    fn from(order: Order) -> Self {
        let etag = order.etag();
        let head = Self {
            name: order.uid.name(),
            order_uid: order.uid.to_string(),
            golden_id: order.unified.golden_id.map(|golden_id| golden_id.to_string()).unwrap_or_default(),
            location_id: order.unified.location.map(|location| location.into_string()).unwrap_or_default(),
            order_time: Some(order.unified.order_time.into()),
            merged_into: order.merged_into.map(|survivor| survivor.to_string()).unwrap_or_default(),
            create_time: Some(order.create_time.into()),
            update_time: Some(order.update_time.into()),
            etag,
            ..Self::default()
        };
        let Some(purchase) = order.unified.purchase else { return head };
        Self {
            channel: pb::Channel::from(purchase.channel).into(),
            status: pb::OrderStatus::from(purchase.status).into(),
            currency_code: purchase.currency.to_string(),
            total_minor: purchase.lines.iter().map(|line| line.amount_minor).sum(),
            discount_minor: purchase.lines.iter().map(|line| line.discount_minor).sum(),
            lines: purchase.lines.into_iter().map(Into::into).collect(),
            payments: purchase.payments.into_iter().map(Into::into).collect(),
            sources: purchase.sources.into_iter().map(Into::into).collect(),
            ..head
        }
    }
}

impl From<Channel> for pb::Channel {
    fn from(channel: Channel) -> Self {
        match channel {
            Channel::Web => Self::Web,
            Channel::Marketplace => Self::Marketplace,
            Channel::Pos => Self::Pos,
        }
    }
}

impl From<Status> for pb::OrderStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Unknown => Self::Unspecified,
            Status::Placed => Self::Placed,
            Status::Completed => Self::Completed,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

impl From<Line> for pb::OrderLine {
    fn from(line: Line) -> Self {
        Self {
            sku: line.sku.into_string(),
            quantity: line.quantity,
            amount_minor: line.amount_minor,
            discount_minor: line.discount_minor,
        }
    }
}

impl From<Payment> for pb::Payment {
    fn from(payment: Payment) -> Self {
        Self {
            psp_ref: payment.psp_ref.unwrap_or_default(),
            method: payment.method,
            auth_code: payment.auth_code.unwrap_or_default(),
            amount_minor: payment.amount_minor,
        }
    }
}

impl From<Source> for pb::OrderSource {
    fn from(source: Source) -> Self {
        let match_rule = match source.rule {
            None => pb::MatchRule::Unspecified,
            Some(MatchRule::Reference) => pb::MatchRule::Reference,
            Some(MatchRule::Payment) => pb::MatchRule::Payment,
            Some(MatchRule::Content) => pb::MatchRule::Content,
            Some(MatchRule::Asserted) => pb::MatchRule::Asserted,
        };
        Self {
            source: Some(source.source.into()),
            role: if source.origin { "ORIGIN" } else { "COPY" }.to_owned(),
            match_rule: match_rule.into(),
            version: source.version,
            line_count: source.line_count as i64,
            total_minor: source.total_minor,
        }
    }
}
