//! Taking in what others tell: source orders, and who their customers are.

use std::collections::{BTreeMap, BTreeSet};

use storage::Tx;
use types::{Imported, SourceRef};

use super::{Service, reunify::Touched};
use crate::{
    Error,
    domain::{CustomerLinks, Person, Sighting, SourceOrder},
};

/// Customers whose orders are decided anew at one time, so that memory stays bounded.
const CUSTOMERS: usize = 100;

impl Service {
    /// Takes in one portion; it is durable when this returns.
    pub(crate) async fn import_orders(&self, orders: Vec<SourceOrder>) -> Result<Imported, Error> {
        let received = orders.len();
        let mut newest = newest(orders);
        let mut tx = self.store.begin().await?;
        tx.lock("orders").await?;
        let stored = self.store.sightings(tx.connection()?, newest.keys()).await?;
        let mut stored: BTreeMap<_, _> =
            stored.into_iter().map(|sighting| (sighting.record.source.clone(), sighting)).collect();
        newest.retain(|source, order| {
            stored.get(source).is_none_or(|known| known.record.version < order.version)
        });
        let customers = newest.values().filter_map(|order| order.customer.as_ref()).collect();
        let golden_ids = self.store.golden_ids(tx.connection()?, &customers).await?;

        let accepted = newest.len();
        let touched = newest.into_values().map(|record| {
            let golden_id = record.customer.as_ref().and_then(|customer| golden_ids.get(customer)).copied();
            let before = stored.remove(&record.source);
            Touched { after: Sighting::new(record, golden_id), before }
        });
        self.reunify(&mut tx, touched.collect(), None).await?;
        // Even if nothing was new: what made it known may not be durable yet.
        tx.commit().await?;
        Ok(Imported::new(received, accepted))
    }

    /// Takes over who customers are, and decides their orders anew.
    pub(crate) async fn relink_customers(&self, tx: &mut Tx, persons: Vec<Person>) -> Result<(), Error> {
        tx.lock("orders").await?;
        let former = self.former_links(tx, &persons).await?;
        let mut links = former.clone();
        persons.into_iter().for_each(|person| links.apply(person));

        let changed: Vec<_> =
            links.0.iter().filter(|(source, golden_id)| former.0.get(source) != Some(golden_id)).collect();
        let gone: Vec<_> = former.0.keys().filter(|source| !links.0.contains_key(source)).collect();
        self.store.save_customer_links(tx.connection()?, &changed).await?;
        self.store.delete_customer_links(tx.connection()?, gone.iter().copied()).await?;

        let customers: Vec<_> = changed.into_iter().map(|(source, _)| source).chain(gone).collect();
        for customers in customers.chunks(CUSTOMERS) {
            let found =
                self.store.sightings_of_customers(tx.connection()?, customers.iter().copied()).await?;
            let touched = found.into_iter().map(|after| {
                let mut before = after.clone();
                before.golden_id =
                    after.record.customer.as_ref().and_then(|customer| former.0.get(customer)).copied();
                Touched { before: Some(before), after }
            });
            self.reunify(tx, touched.collect(), None).await?;
        }
        Ok(())
    }

    /// The links that news of `persons` may change.
    async fn former_links(&self, tx: &mut Tx, persons: &[Person]) -> Result<CustomerLinks, Error> {
        let golden_ids: BTreeSet<_> = persons.iter().map(|person| person.golden_id).collect();
        let sources: BTreeSet<_> = persons.iter().flat_map(|person| &person.records).collect();
        let mut links = self.store.customer_links(tx.connection()?, &golden_ids).await?;
        links.0.extend(self.store.golden_ids(tx.connection()?, &sources).await?);
        Ok(links)
    }
}

/// The newest version of each record; of equal versions the first.
fn newest(orders: Vec<SourceOrder>) -> BTreeMap<SourceRef, SourceOrder> {
    let mut newest: BTreeMap<SourceRef, SourceOrder> = BTreeMap::new();
    for order in orders {
        if newest.get(&order.source).is_none_or(|known| known.version < order.version) {
            newest.insert(order.source.clone(), order);
        }
    }
    newest
}
