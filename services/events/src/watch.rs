//! What `Watch` RPCs are made of: a domain's own log, seen as changes of one kind of resource.

use futures::Stream;
use omnimesh_proto::event::v1::Event;
use prost::Message;

use crate::{Cursor, Error, Log};

/// A change, or a sign that everything up to a position was sent.
#[derive(Debug)]
pub enum Change<M> {
    /// The payload of an event.
    Event {
        /// What the event tells.
        payload: M,
        /// The event without its payload.
        event: Event,
    },
    /// Everything up to here was sent.
    Bookmark(Cursor),
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy)]
pub enum Begin {
    /// With what happens from now on.
    Now,
    /// With every resource as it stands, then with what happens.
    WithInitial,
    /// With what happened after a position.
    After(Cursor),
}

impl Begin {
    /// What a request asks for: a resume token overrules `include_initial`.
    pub fn new(resume_token: &str, include_initial: bool) -> Result<Self, Error> {
        Ok(match (resume_token, include_initial) {
            ("", true) => Self::WithInitial,
            ("", false) => Self::Now,
            (token, _) => Self::After(token.parse()?),
        })
    }

    /// The position to watch from. It is taken before the initial state is read: what changes meanwhile is told again,
    /// never left out.
    pub async fn position(self, log: &Log) -> Result<Cursor, Error> {
        match self {
            Self::After(cursor) => Ok(cursor),
            Self::Now | Self::WithInitial => log.head().await,
        }
    }
}

/// Streams the events of `type` (the full name of `M`) after `after`, for ever.
pub fn watch<M: Message + Default + Send + 'static>(
    log: &Log,
    r#type: &'static str,
    after: Cursor,
) -> impl Stream<Item = Result<Change<M>, Error>> + Send + use<M> {
    let batches = log.stream(after, vec![r#type.to_owned()], true);
    async_stream::try_stream! {
        for await batch in batches {
            let batch = batch?;
            if batch.events.is_empty() {
                yield Change::Bookmark(batch.cursor);
            }
            for mut event in batch.events {
                let payload = decode(r#type, &event)?;
                event.payload.clear();
                yield Change::Event { payload, event };
            }
        }
    }
}

/// The payload of `event`, which is a `type`.
pub fn decode<M: Message + Default>(r#type: &'static str, event: &Event) -> Result<M, Error> {
    M::decode(event.payload.clone()).map_err(|_| Error::Payload { id: event.id.clone(), r#type })
}
