//! Events out: orders that changed, and streams of them. Events in: persons behind customers.

use std::collections::BTreeSet;

use events::{Change, Cursor, Event, Handler, NewEvent};
use futures::Stream;
use omnimesh_proto::{
    identity::v1::{Identity, IdentityChanged},
    order::v1::{Order, OrderChanged},
};
use storage::Tx;
use types::{
    SourceRef,
    filter::{Condition, Operator, Value},
    wire,
};

use crate::{Error, domain, domain::Person, service::Service};

const ORDER_CHANGED: &str = "omnimesh.order.v1.OrderChanged";
pub(crate) const IDENTITY_CHANGED: &str = "omnimesh.identity.v1.IdentityChanged";

/// Tells of an order as it is now.
pub(crate) fn order_changed(order: domain::Order) -> NewEvent {
    let (name, time) = (order.uid.name(), order.update_time);
    NewEvent::new(ORDER_CHANGED, name, time, &OrderChanged { order: Some(order.into()) })
}

/// What a watcher is to be told.
#[derive(Debug)]
pub(crate) enum Told {
    /// An order as it stood when the watch began.
    Initial(domain::Order),
    /// An order that changed, with the event that told of it.
    Changed(Order, Event),
    /// Everything up to here was told.
    Bookmark(Cursor),
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Begin {
    Now,
    WithInitial,
    After(Cursor),
}

impl Service {
    /// Streams changes of the orders that `filter` lets through.
    pub(crate) fn watch_orders(
        &self,
        begin: Begin,
        filter: Vec<Condition>,
    ) -> impl Stream<Item = Result<Told, Error>> + Send + use<> {
        let service = self.clone();
        async_stream::try_stream! {
            // The head comes first: what changes while the initial state is read is told again, never left out.
            let after = match begin {
                Begin::After(cursor) => cursor,
                Begin::Now | Begin::WithInitial => service.log().head().await?,
            };
            if matches!(begin, Begin::WithInitial) {
                let mut page = service.next_orders(&filter, None).await?;
                while !page.is_empty() {
                    let next = service.next_orders(&filter, page.last()).await?;
                    for order in std::mem::replace(&mut page, next) {
                        yield Told::Initial(order);
                    }
                }
            }
            for await change in events::watch::<OrderChanged>(service.log(), ORDER_CHANGED, after) {
                match change? {
                    Change::Bookmark(cursor) => yield Told::Bookmark(cursor),
                    Change::Event { payload: OrderChanged { order: Some(order) }, event } => {
                        if filter.iter().all(|condition| holds(condition, &order)) {
                            yield Told::Changed(order, event);
                        }
                    }
                    Change::Event { .. } => {}
                }
            }
        }
    }
}

/// Only texts can be watched by, so that a time never decides.
fn holds(condition: &Condition, order: &Order) -> bool {
    let actual = if condition.field == "golden_id" { &order.golden_id } else { &order.location_id };
    match &condition.value {
        Value::Text(expected) => (actual == expected) == (condition.operator == Operator::Equal),
        Value::Time(_) => false,
    }
}

/// Applies what the identity service tells.
#[derive(Debug)]
pub(crate) struct CustomerHandler(Service);

impl CustomerHandler {
    pub(crate) fn new(service: Service) -> Self {
        Self(service)
    }
}

impl Handler for CustomerHandler {
    type Error = Error;

    async fn handle(&self, tx: &mut Tx, events: Vec<Event>) -> Result<(), Error> {
        let mut persons = Vec::with_capacity(events.len());
        for event in events {
            let changed: IdentityChanged = events::decode(IDENTITY_CHANGED, &event)?;
            persons.extend(changed.identity.map(person).transpose()?);
        }
        self.0.relink_customers(tx, persons).await
    }
}

fn person(identity: Identity) -> Result<Person, Error> {
    let corrupt = |error: &dyn std::fmt::Display| Error::Corrupt(format!("{}: {error}", identity.name));
    let golden_id = identity.golden_id.parse().map_err(|error| corrupt(&error))?;
    let merged_into = match identity.merged_into.as_str() {
        "" => None,
        survivor => Some(survivor.parse().map_err(|error| corrupt(&error))?),
    };
    let mut records = BTreeSet::new();
    for record in &identity.records {
        records.insert(wire::source(record.source.clone()).map_err(|error| corrupt(&error))?);
        if !record.loyalty_card.is_empty() {
            let card = SourceRef::new("loyalty", &record.loyalty_card);
            records.insert(card.map_err(|error| corrupt(&error))?);
        }
    }
    Ok(Person { golden_id, merged_into, records })
}
