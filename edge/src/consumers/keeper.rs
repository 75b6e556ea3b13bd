//! Keeps a roster and its database of one mind: what operators change, what is leased of quotas, what was used.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use super::roster::{Held, Shared};
use super::{Account, ApiKey, Consumers, ConsumersError, Plan};

/// How often an edge looks for what other processes have changed.
const REFRESH: Duration = Duration::from_secs(1);
/// How often it tells what was used: so much is missing in the report after it was killed.
const REPORT: Duration = Duration::from_secs(10);
/// A database that takes longer for one answer does not answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Consumers whose leases and usage are written at once.
const AT_ONCE: usize = 8;

/// What goes on between a roster and its database.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    consumers: Option<Consumers>,
    accounts: HashMap<String, Arc<Account>>,
    reported: Instant,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, consumers: None, accounts: HashMap::new(), reported: Instant::now() }
    }

    /// Goes on until `stop`; then what is left of the leases is given back.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = shared.wake.notified() => self.lease().await,
                _ = ticks.tick() => self.keep_up().await,
            }
        }
        if let Some(consumers) = &self.consumers {
            settle(consumers, self.accounts.values(), true).await;
        }
    }

    /// While the database does not answer, what it said last holds.
    async fn keep_up(&mut self) {
        if let Err(error) = answer(self.refresh()).await {
            let error: &(dyn std::error::Error + 'static) = &error;
            let database = storage::redacted(&self.shared.database.url);
            tracing::warn!(error, database, "cannot look for changed consumers; the known ones stay");
        }
        self.lease().await;
        if self.reported.elapsed() >= REPORT
            && let Some(consumers) = &self.consumers
        {
            settle(consumers, self.accounts.values(), false).await;
            self.reported = Instant::now();
        }
    }

    async fn refresh(&mut self) -> Result<(), ConsumersError> {
        let consumers = match &self.consumers {
            Some(consumers) => consumers.clone(),
            None => self.consumers.insert(Consumers::open(&self.shared.database).await?).clone(),
        };
        let keys = consumers.list().await?;
        let plans = consumers.plans().await?.into_iter();
        let plans = plans.flat_map(|(plan, on)| on.into_iter().map(move |consumer| (consumer, plan.clone())));
        let gone = self.take_over(&keys, &plans.collect());
        settle(&consumers, gone.iter(), true).await;
        let held = keys.into_iter().filter_map(|key| {
            let account = self.accounts.get(&key.grant.consumer)?;
            Some((key.id.clone(), Held::new(key, Arc::clone(account))?))
        });
        self.shared.keys.store(Some(Arc::new(held.collect())));
        self.shared.warm.send_replace(true);
        Ok(())
    }

    /// Has an account for each holder of a key, on the plan of today; those of consumers that are gone are returned.
    fn take_over(&mut self, keys: &[ApiKey], plans: &HashMap<String, Plan>) -> Vec<Arc<Account>> {
        let mut before = std::mem::take(&mut self.accounts);
        for consumer in keys.iter().map(|key| &key.grant.consumer) {
            if self.accounts.contains_key(consumer) {
                continue;
            }
            let plan = plans.get(consumer);
            let account = match before.remove(consumer) {
                Some(account) if account.plan.as_ref() == plan => account,
                other => {
                    let ledger = other.map(|account| Arc::clone(&account.ledger));
                    let ledger = ledger.unwrap_or_else(|| Arc::new(Ledger::new(Timestamp::now())));
                    let wake = Arc::clone(&self.shared.wake);
                    Arc::new(Account::new(consumer.clone(), plan.cloned(), ledger, wake))
                }
            };
            self.accounts.insert(consumer.clone(), account);
        }
        before.into_values().collect()
    }

    /// Leases portions for whoever wants one.
    async fn lease(&self) {
        let Some(consumers) = &self.consumers else { return };
        let wanting = self.accounts.values().filter(|account| account.ledger.wants_lease());
        let leasing = stream::iter(wanting).for_each_concurrent(AT_ONCE, |account| async move {
            let (ledger, quota) = (&account.ledger, account.quota());
            let Some(quota) = quota else { return };
            let month = ledger.month();
            match answer(consumers.lease(&account.consumer, month, quota)).await {
                Ok((granted, beyond)) => ledger.leased(month, granted, beyond),
                Err(error) if ledger.failed() => {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::warn!(error, consumer = account.consumer, "cannot lease from a quota");
                }
                Err(_) => {}
            }
        });
        leasing.await;
    }
}

/// Tells the database what was used; with `all`, also what of the leases is given back.
async fn settle<'a>(consumers: &Consumers, accounts: impl Iterator<Item = &'a Arc<Account>>, all: bool) {
    let now = Timestamp::now();
    let told = accounts.map(|account| (account, account.ledger.settle(all, now)));
    let told: Vec<_> = told.filter(|(_, counts)| !counts.is_empty()).collect();
    let settling = stream::iter(told).for_each_concurrent(AT_ONCE, |(account, counts)| async move {
        if let Err(error) = answer(consumers.settle(&account.consumer, &counts)).await {
            account.ledger.keep(counts);
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(error, consumer = account.consumer, "cannot tell what was used; it is told later");
        }
    });
    settling.await;
}

/// The database's answer, if it comes in time.
async fn answer<T>(asked: impl Future<Output = Result<T, ConsumersError>>) -> Result<T, ConsumersError> {
    timeout(ANSWER, asked).await.unwrap_or(Err(ConsumersError::Late))
}
