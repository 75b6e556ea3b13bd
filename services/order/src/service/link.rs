//! Operators' words: these orders are one, this record is an order of its own.

use storage::Tx;
use types::{OrderUid, Request, SourceRef};

use super::{Service, reunify::Touched};
use crate::{
    Error,
    domain::{Anchor, Order},
};

/// Two orders that are one.
#[derive(Debug)]
pub(crate) struct Link {
    /// The one that stays.
    pub(crate) order_uid: OrderUid,
    pub(crate) other: OrderUid,
    /// The etag of the one as the caller saw it.
    pub(crate) etag: Option<String>,
    pub(crate) request: Request,
}

/// A record that is an order of its own.
#[derive(Debug)]
pub(crate) struct Unlink {
    pub(crate) order_uid: OrderUid,
    pub(crate) source: SourceRef,
    /// The order's etag as the caller saw it.
    pub(crate) etag: Option<String>,
    pub(crate) request: Request,
}

impl Service {
    pub(crate) async fn link_orders(&self, link: Link) -> Result<Order, Error> {
        let mut tx = self.store.begin().await?;
        tx.lock("orders").await?;
        if let Some(answer) = tx.remembered(&link.request).await? {
            return Ok(answer);
        }
        let order = self.standing_order(&mut tx, link.order_uid).await?;
        let other = self.standing_order(&mut tx, link.other).await?;
        if link.etag.is_some_and(|etag| etag != order.etag()) {
            return Err(Error::EtagMismatch(order.uid));
        }
        // Between all records, so that nothing said before stands against it.
        let pairs: Vec<_> = order
            .sources()
            .iter()
            .flat_map(|one| other.sources().iter().map(|other| (&one.source, &other.source)))
            .collect();
        self.store.save_verdicts(tx.connection()?, &pairs, true).await?;
        let answer =
            self.redecide(&mut tx, &order, order.sources().first().map(|origin| &origin.source)).await?;
        tx.remember(&link.request, &answer).await?;
        tx.commit().await?;
        Ok(answer)
    }

    pub(crate) async fn unlink_order(&self, unlink: Unlink) -> Result<(Order, Order), Error> {
        let mut tx = self.store.begin().await?;
        tx.lock("orders").await?;
        if let Some(answer) = tx.remembered(&unlink.request).await? {
            return Ok(answer);
        }
        let order = self.standing_order(&mut tx, unlink.order_uid).await?;
        if unlink.etag.is_some_and(|etag| etag != order.etag()) {
            return Err(Error::EtagMismatch(order.uid));
        }
        let (out, rest): (Vec<_>, Vec<_>) =
            order.sources().iter().map(|source| &source.source).partition(|source| **source == unlink.source);
        if out.is_empty() {
            return Err(Error::SourceNotFound(unlink.source));
        }
        if rest.is_empty() {
            return Err(Error::LastSource(unlink.source));
        }
        let pairs: Vec<_> = rest.iter().map(|&other| (&unlink.source, other)).collect();
        self.store.save_verdicts(tx.connection()?, &pairs, false).await?;
        let remaining = self.redecide(&mut tx, &order, rest.first().copied()).await?;
        let unlinked = self.store.sightings(tx.connection()?, [&unlink.source]).await?.pop();
        let unlinked =
            unlinked.and_then(|sighting| sighting.order_uid).ok_or(Error::SourceNotFound(unlink.source))?;
        let answer = (remaining, self.order(tx.connection()?, unlinked).await?);
        tx.remember(&unlink.request, &answer).await?;
        tx.commit().await?;
        Ok(answer)
    }

    /// Decides `order` anew, which stays and stays with `anchor`; returns it as it is then.
    async fn redecide(&self, tx: &mut Tx, order: &Order, anchor: Option<&SourceRef>) -> Result<Order, Error> {
        let anchor = anchor.map(|source| Anchor { order_uid: order.uid, source: source.clone() });
        let sources = order.sources().iter().map(|source| &source.source);
        let sightings = self.store.sightings(tx.connection()?, sources).await?;
        let touched = sightings.into_iter().map(|after| Touched { before: Some(after.clone()), after });
        self.reunify(tx, touched.collect(), anchor.as_ref()).await?;
        self.order(tx.connection()?, order.uid).await
    }

    async fn standing_order(&self, tx: &mut Tx, order_uid: OrderUid) -> Result<Order, Error> {
        let order = self.order(tx.connection()?, order_uid).await?;
        match order.merged_into {
            Some(survivor) => Err(Error::OrderMerged(order_uid, survivor)),
            None => Ok(order),
        }
    }
}
