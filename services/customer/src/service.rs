//! The use cases.

use std::collections::{BTreeMap, BTreeSet};

use events::{Begin, Log};
use futures::Stream;
use storage::{Database, Tx};
use types::{GoldenId, Request, Timestamp, filter::Condition, page::Page};

use crate::{
    Error,
    domain::{self, Clue, Correction, Customer, IdentityChange, Person},
    event::{self, Change},
    peer::Identities,
    store::{self, Order},
    wire,
};

/// A merge moves corrections from one customer to another, so changes take turns.
const LOCK: &str = "customers";

/// Which customers a list is asked for.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) order: Order,
}

/// A correction of a profile by an operator.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) golden_id: GoldenId,
    pub(crate) correction: Correction,
    /// The customer's etag as the operator saw it; empty if that does not matter.
    pub(crate) etag: String,
    pub(crate) request: Request,
}

/// The customer service.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    database: Database,
    log: Log,
    identities: Identities,
}

impl Service {
    pub(crate) fn new(database: Database, log: Log, identities: Identities) -> Self {
        Self { database, log, identities }
    }

    pub(crate) async fn get_customer(&self, golden_id: GoldenId) -> Result<Customer, Error> {
        let mut reader = self.database.reader().await?;
        let mut found = store::standing(&mut reader, &BTreeSet::from([golden_id])).await?;
        found.remove(&golden_id).ok_or_else(|| Error::CustomerNotFound(wire::name(golden_id)))
    }

    pub(crate) async fn batch_get_customers(&self, golden_ids: &[GoldenId]) -> Result<Vec<Customer>, Error> {
        let mut reader = self.database.reader().await?;
        let found = store::standing(&mut reader, &golden_ids.iter().copied().collect()).await?;
        let absent = |golden_id| Error::CustomerNotFound(wire::name(golden_id));
        golden_ids.iter().map(|id| found.get(id).cloned().ok_or_else(|| absent(*id))).collect()
    }

    pub(crate) async fn list_customers(
        &self,
        query: &Query,
        page: &Page,
    ) -> Result<(Vec<Customer>, String), Error> {
        let mut reader = self.database.reader().await?;
        let customers = store::customers_page(&mut reader, &query.conditions, query.order, page).await?;
        Ok(page.cut(customers, |last| query.order.key(last)))
    }

    pub(crate) async fn lookup_customer(&self, clue: Clue) -> Result<Customer, Error> {
        match self.identities.resolve_identity(clue).await? {
            Some(golden_id) => self.get_customer(golden_id).await,
            None => Err(Error::CustomerNotFound("with this key".to_owned())),
        }
    }

    pub(crate) async fn update_customer(&self, update: Update) -> Result<Customer, Error> {
        let Update { golden_id, correction, etag, request } = update;
        let mut tx = self.database.begin().await?;
        if let Some(answer) = tx.remembered(&request).await? {
            return Ok(answer);
        }
        tx.lock(LOCK).await?;
        let absent = || Error::CustomerNotFound(wire::name(golden_id));
        let standing = store::standing(tx.connection()?, &BTreeSet::from([golden_id])).await?;
        let standing = standing.get(&golden_id).ok_or_else(absent)?;
        if !etag.is_empty() && etag != standing.etag() {
            return Err(Error::EtagMismatch(wire::name(golden_id)));
        }
        let before = store::persons(tx.connection()?, &BTreeSet::from([standing.golden_id])).await?;
        let mut after = before.clone();
        let time = correction.time;
        after.values_mut().for_each(|person| person.evidence.correct(correction.clone()));
        self.save(&mut tx, &before, &mut after, time).await?;
        let customer = after.remove(&standing.golden_id).ok_or_else(absent)?.customer;
        tx.remember(&request, &customer).await?;
        tx.commit().await?;
        Ok(customer)
    }

    /// Streams changes of the customers that `filter` lets through.
    pub(crate) async fn watch_customers(
        &self,
        begin: Begin,
        filter: Vec<Condition>,
    ) -> Result<impl Stream<Item = Result<Change, Error>> + Send + use<>, Error> {
        // Before the first answer: a caller that has it misses nothing from then on.
        let after = begin.position(&self.log).await?;
        let service = self.clone();
        Ok(async_stream::try_stream! {
            let everyone = Query { conditions: filter.clone(), order: Order::GoldenId };
            let mut next = matches!(begin, Begin::WithInitial).then(String::new);
            while let Some(token) = next {
                let page = Page::new(i32::MAX, &token, &[])?;
                let (customers, token) = service.list_customers(&everyone, &page).await?;
                for customer in customers {
                    yield Change::Initial(customer);
                }
                next = (!token.is_empty()).then_some(token);
            }
            for await change in event::watch(&service.log, after) {
                let change = Change::Logged(change?);
                if change.passes(&filter) {
                    yield change;
                }
            }
        })
    }

    /// Takes in what became of persons.
    pub(crate) async fn apply_identities(
        &self,
        tx: &mut Tx,
        changes: Vec<IdentityChange>,
    ) -> Result<(), Error> {
        tx.lock(LOCK).await?;
        let golden_ids = changes
            .iter()
            .flat_map(|change| [Some(change.golden_id), change.merged_into])
            .flatten()
            .collect();
        let before = store::persons(tx.connection()?, &golden_ids).await?;
        let mut after = before.clone();
        changes.into_iter().for_each(|change| domain::apply(&mut after, change));
        self.save(tx, &before, &mut after, Timestamp::now()).await
    }

    /// Renews the profiles, writes what differs from before and publishes what anybody can see.
    async fn save(
        &self,
        tx: &mut Tx,
        before: &BTreeMap<GoldenId, Person>,
        after: &mut BTreeMap<GoldenId, Person>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut events = Vec::new();
        let mut changed = Vec::new();
        for (golden_id, person) in after {
            let before = before.get(golden_id);
            if before == Some(&*person) {
                continue;
            }
            if let Some(renewal) = person.renew(before, now) {
                events.push(event::customer_changed(person.customer.clone(), renewal));
            }
            changed.push(person.clone());
        }
        store::put_persons(tx.connection()?, &changed).await?;
        Ok(self.log.publish(tx, &events).await?)
    }
}
