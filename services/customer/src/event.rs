//! What this service tells, what it does when persons change, and how its own log looks to those who watch.

use events::{Cursor, Event, Handler, Log, NewEvent};
use futures::Stream;
use omnimesh_proto::{customer::v1 as pb, identity::v1::IdentityChanged};
use storage::Tx;
use types::filter::Condition;

use crate::{
    Error,
    domain::{Customer, Renewal},
    service::Service,
    wire,
};

pub(crate) const IDENTITY_CHANGED: &str = "omnimesh.identity.v1.IdentityChanged";
const CUSTOMER_CHANGED: &str = "omnimesh.customer.v1.CustomerChanged";

/// One step of a watch.
#[derive(Debug)]
pub(crate) enum Change {
    /// A customer as it stood when the watch began.
    Initial(Customer),
    /// What the log says.
    Logged(events::Change<pb::CustomerChanged>),
}

impl Change {
    /// True for what a watcher with `filter`, which is over golden ids, is to be told. The initial state is filtered
    /// where it is read.
    pub(crate) fn passes(&self, filter: &[Condition]) -> bool {
        match self {
            Self::Logged(events::Change::Event {
                payload: pb::CustomerChanged { customer: Some(customer), .. },
                ..
            }) => filter.iter().all(|condition| condition.holds(&customer.golden_id)),
            Self::Logged(_) | Self::Initial(_) => true,
        }
    }
}

/// The event that tells of a customer's change.
pub(crate) fn customer_changed(customer: Customer, renewal: Renewal) -> NewEvent {
    let (golden_id, time) = (customer.golden_id, customer.update_time);
    let versions =
        |versions: Vec<_>| versions.into_iter().map(|version| wire::version(golden_id, version)).collect();
    let payload = pb::CustomerChanged {
        customer: Some(customer.into()),
        history: versions(renewal.history),
        superseded: versions(renewal.superseded),
    };
    NewEvent::new(CUSTOMER_CHANGED, wire::name(golden_id), time, &payload)
}

/// The log's changes of customers after a position.
pub(crate) fn watch(
    log: &Log,
    after: Cursor,
) -> impl Stream<Item = Result<events::Change<pb::CustomerChanged>, events::Error>> + Send + use<> {
    events::watch(log, CUSTOMER_CHANGED, after)
}

/// Derives customers from persons.
#[derive(Debug)]
pub(crate) struct IdentityHandler(Service);

impl IdentityHandler {
    pub(crate) fn new(service: Service) -> Self {
        Self(service)
    }
}

impl Handler for IdentityHandler {
    type Error = Error;

    async fn handle(&self, tx: &mut Tx, events: Vec<Event>) -> Result<(), Error> {
        let mut changes = Vec::with_capacity(events.len());
        for event in events {
            let IdentityChanged { identity, .. } = events::decode(IDENTITY_CHANGED, &event)?;
            changes.push(wire::identity(identity.unwrap_or_default()).map_err(Error::IdentityInvalid)?);
        }
        self.0.apply_identities(tx, changes).await
    }
}
