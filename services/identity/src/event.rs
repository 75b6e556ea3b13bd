//! What this service tells, and how its own log looks to those who watch.

use events::{Cursor, Log, NewEvent};
use futures::Stream;
use omnimesh_proto::identity::v1 as pb;
use types::filter::Condition;

use crate::domain::{Identity, Link};

const IDENTITY_CHANGED: &str = "omnimesh.identity.v1.IdentityChanged";

/// One step of a watch.
#[derive(Debug)]
pub(crate) enum Change {
    /// A person as it stood when the watch began.
    Initial(Identity),
    /// What the log says.
    Logged(events::Change<pb::IdentityChanged>),
}

impl Change {
    /// True for what a watcher with `filter`, which is over golden ids, is to be told. The initial state is filtered
    /// where it is read.
    pub(crate) fn passes(&self, filter: &[Condition]) -> bool {
        match self {
            Self::Logged(events::Change::Event {
                payload: pb::IdentityChanged { identity: Some(identity), .. },
                ..
            }) => filter.iter().all(|condition| condition.holds(&identity.golden_id)),
            Self::Logged(_) | Self::Initial(_) => true,
        }
    }
}

/// The event that tells of a person's change: the links that it made, and those that stood in their place.
pub(crate) fn identity_changed(identity: Identity, linked: Vec<Link>, unlinked: Vec<Link>) -> NewEvent {
    let (name, time) = (identity.golden_id.name(), identity.update_time);
    let links = |links: Vec<Link>| links.into_iter().map(Into::into).collect();
    let payload = pb::IdentityChanged {
        identity: Some(identity.into()),
        linked: links(linked),
        unlinked: links(unlinked),
    };
    NewEvent::new(IDENTITY_CHANGED, name, time, &payload)
}

/// The log's changes of persons after a position.
pub(crate) fn watch(
    log: &Log,
    after: Cursor,
) -> impl Stream<Item = Result<events::Change<pb::IdentityChanged>, events::Error>> + Send + use<> {
    events::watch(log, IDENTITY_CHANGED, after)
}
