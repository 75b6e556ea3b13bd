//! Events out: orders that changed. Events in: persons behind customers.

use std::collections::BTreeSet;

use events::{Change, Cursor, Event, Handler, Log, NewEvent};
use futures::{Stream, TryStreamExt};
use omnimesh_proto::{
    identity::v1::{Identity, IdentityChanged},
    order::v1::{Order, OrderChanged},
};
use storage::Tx;
use types::{SourceRef, filter::Condition, wire};

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

/// Streams every change after `after`, for ever.
pub(crate) fn changes(log: &Log, after: Cursor) -> impl Stream<Item = Result<Told, Error>> + Send + use<> {
    let changes = events::watch::<OrderChanged>(log, ORDER_CHANGED, after);
    changes.map_err(Error::from).try_filter_map(|change| async {
        Ok(match change {
            Change::Bookmark(cursor) => Some(Told::Bookmark(cursor)),
            Change::Event { payload, event } => payload.order.map(|order| Told::Changed(order, event)),
        })
    })
}

impl Told {
    /// True for what a watcher with `filter` is to be told. The initial state is filtered where it is read.
    pub(crate) fn passes(&self, filter: &[Condition]) -> bool {
        match self {
            Self::Changed(order, _) => filter.iter().all(|condition| match condition.field {
                "golden_id" => condition.holds(&order.golden_id),
                _ => condition.holds(&order.location_id),
            }),
            Self::Initial(_) | Self::Bookmark(_) => true,
        }
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
