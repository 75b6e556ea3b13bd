//! The use cases.

mod reconcile;

use std::collections::BTreeSet;

use events::{Begin, Log};
use futures::Stream;
use storage::Database;
use types::{GoldenId, Imported, Request, SourceRef, Timestamp, filter::Condition, page::Page};

use crate::{
    Config, Error,
    domain::{Identity, Key, Record, is_generic},
    event::{self, Change},
    store,
};

/// Who is one person depends on all records, so only one transaction at a time may decide it.
const LOCK: &str = "identities";

/// What is known of a person who is looked for.
#[derive(Debug)]
pub(crate) enum Clue {
    /// One of the person's records.
    Source(SourceRef),
    /// A key; none if the text is one that is nobody's own.
    Key(Option<Key>),
}

/// Which persons a list is asked for.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) newest_first: bool,
    pub(crate) page: Page,
}

/// A page of persons and the token of the page after.
pub(crate) type Identities = (Vec<Identity>, String);

/// The identity service.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    config: Config,
    database: Database,
    log: Log,
}

impl Service {
    pub(crate) fn new(config: Config, database: Database, log: Log) -> Self {
        Self { config, database, log }
    }

    pub(crate) async fn import_identity_records(&self, records: Vec<Record>) -> Result<Imported, Error> {
        let now = Timestamp::now();
        let mut tx = self.database.begin().await?;
        tx.lock(LOCK).await?;
        let sources: BTreeSet<_> = records.iter().map(|record| record.source.clone()).collect();
        let before = store::versions(tx.connection()?, &sources).await?;
        let mut after = before.clone();
        let received = records.len();
        let fresh: Vec<Record> = records
            .into_iter()
            .filter(|record| after.entry(record.source.clone()).or_default().learn(record))
            .collect();
        if !fresh.is_empty() {
            store::put_versions(tx.connection()?, &fresh).await?;
            let affected = self.rekey(&mut tx, &before, &after).await?;
            self.reconcile(&mut tx, affected, now).await?;
        }
        // Even if nothing was new: what made it known may not be durable yet.
        tx.commit().await?;
        Ok(Imported::new(received, fresh.len()))
    }

    pub(crate) async fn get_identity(&self, golden_id: GoldenId) -> Result<Identity, Error> {
        let mut reader = self.database.reader().await?;
        let mut found = store::identities(&mut reader, &BTreeSet::from([golden_id])).await?;
        store::chronicle(&mut reader, &mut found).await?;
        found.remove(&golden_id).ok_or_else(|| Error::IdentityNotFound(golden_id.name()))
    }

    pub(crate) async fn list_identities(&self, list: &List) -> Result<Identities, Error> {
        let mut reader = self.database.reader().await?;
        let identities = store::identities_page(&mut reader, list).await?;
        let key = |last: &Identity| vec![last.create_time.micros().to_string(), last.golden_id.to_string()];
        Ok(list.page.cut(identities, key))
    }

    pub(crate) async fn resolve_identity(&self, clue: Clue) -> Result<Identity, Error> {
        let mut reader = self.database.reader().await?;
        let golden_id = match clue {
            Clue::Source(source) => store::owner_of_source(&mut reader, &source).await?,
            Clue::Key(None) => None,
            Clue::Key(Some(key)) => {
                let limit = self.config.max_records_per_key;
                let owners = store::owners_of_key(&mut reader, &key, limit.saturating_add(1)).await?;
                if is_generic(owners.len(), limit) { None } else { owners.first().copied() }
            }
        };
        let identity = match golden_id {
            Some(golden_id) => store::standing(&mut reader, golden_id).await?,
            None => None,
        };
        identity.ok_or_else(|| Error::IdentityNotFound("with this key".to_owned()))
    }

    pub(crate) async fn merge_identities(
        &self,
        one: GoldenId,
        other: GoldenId,
        etag: &str,
        request: &Request,
    ) -> Result<Identity, Error> {
        let now = Timestamp::now();
        let mut tx = self.database.begin().await?;
        if let Some(answer) = tx.remembered(request).await? {
            return Ok(answer);
        }
        tx.lock(LOCK).await?;
        let named = store::identities(tx.connection()?, &BTreeSet::from([one])).await?;
        if named.get(&one).is_some_and(|identity| !etag.is_empty() && identity.etag() != etag) {
            return Err(Error::EtagMismatch(one.name()));
        }
        let mut persons = Vec::new();
        for golden_id in [one, other] {
            let person = store::standing(tx.connection()?, golden_id).await?;
            persons.push(person.ok_or_else(|| Error::IdentityNotFound(golden_id.name()))?);
        }
        // The word is about records: golden ids may part and join again.
        if let [Some(source), Some(other)] =
            persons.iter().map(|person| person.records.first()).collect::<Vec<_>>()[..]
            && persons[0].golden_id != persons[1].golden_id
        {
            store::put_must_link(tx.connection()?, &source.source, &other.source, now).await?;
            let golden_ids = persons.iter().map(|person| person.golden_id).collect();
            self.reconcile(&mut tx, reconcile::Affected { golden_ids, ..Default::default() }, now).await?;
        }
        let survivor = store::standing(tx.connection()?, one).await?;
        let survivor = survivor.ok_or_else(|| Error::IdentityNotFound(one.name()))?;
        tx.remember(request, &survivor).await?;
        tx.commit().await?;
        Ok(survivor)
    }

    /// Streams changes of the persons that `filter` lets through.
    pub(crate) async fn watch_identities(
        &self,
        begin: Begin,
        filter: Vec<Condition>,
    ) -> Result<impl Stream<Item = Result<Change, Error>> + Send + use<>, Error> {
        // Before the first answer: a caller that has it misses nothing from then on.
        let after = begin.position(&self.log).await?;
        let service = self.clone();
        Ok(async_stream::try_stream! {
            let mut next = matches!(begin, Begin::WithInitial).then(String::new);
            while let Some(token) = next {
                let page = Page::new(i32::MAX, &token, &[])?;
                let list = List { conditions: filter.clone(), newest_first: false, page };
                let (identities, token) = service.list_identities(&list).await?;
                for identity in identities {
                    yield Change::Initial(identity);
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
}
