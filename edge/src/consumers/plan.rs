//! Plans: how much their consumers may call.

use super::keys::is_name;
use super::{Consumers, ConsumersError, store};

/// What is none is without bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub name: String,
    /// On each edge.
    pub rate: Option<Rate>,
    /// Calls in a calendar month, UTC, over all edges.
    pub monthly_quota: Option<u64>,
}

/// Calls that come back steadily.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls a second.
    pub per_second: u32,
    /// Calls at once.
    pub burst: u32,
}

impl Consumers {
    /// Makes a plan, or changes the one of that name for all who are on it.
    pub async fn set_plan(&self, plan: &Plan) -> Result<(), ConsumersError> {
        let rates = plan.rate.is_none_or(|rate| rate.per_second > 0 && rate.burst > 0);
        if !is_name(&plan.name) || !rates {
            return Err(ConsumersError::Plan(plan.name.clone()));
        }
        let mut tx = self.database.begin().await?;
        store::upsert_plan(&mut tx, plan).await?;
        Ok(tx.commit().await?)
    }

    /// Every plan with its consumers, by name.
    pub async fn plans(&self) -> Result<Vec<(Plan, Vec<String>)>, ConsumersError> {
        let consumers = store::list_consumer_plans(&self.database).await?;
        let plans = store::list_plans(&self.database).await?.into_iter();
        let on = |plan: &Plan| {
            let on = consumers.iter().filter(|(_, name)| *name == plan.name);
            on.map(|(consumer, _)| consumer.clone()).collect()
        };
        Ok(plans.map(|plan| (plan.clone(), on(&plan))).collect())
    }

    /// Forgets a plan that nobody is on.
    pub async fn remove_plan(&self, name: &str) -> Result<(), ConsumersError> {
        let on = store::list_consumer_plans(&self.database).await?.into_iter();
        let on: Vec<_> = on.filter(|(_, plan)| plan == name).map(|(consumer, _)| consumer).collect();
        if !on.is_empty() {
            return Err(ConsumersError::PlanInUse { plan: name.to_owned(), consumers: on.join(", ") });
        }
        let mut tx = self.database.begin().await?;
        if store::delete_plan(&mut tx, name).await? == 0 {
            return Err(ConsumersError::NoPlan(name.to_owned()));
        }
        Ok(tx.commit().await?)
    }

    /// Puts a consumer on a plan, or on none.
    pub async fn assign_plan(&self, consumer: &str, plan: Option<&str>) -> Result<(), ConsumersError> {
        if !store::list_keys(&self.database).await?.iter().any(|key| key.grant.consumer == consumer) {
            return Err(ConsumersError::NoConsumer(consumer.to_owned()));
        }
        if let Some(plan) = plan {
            self.check_plan(plan).await?;
        }
        let mut tx = self.database.begin().await?;
        store::assign_plan(&mut tx, consumer, plan).await?;
        Ok(tx.commit().await?)
    }

    /// That there is such a plan.
    pub(super) async fn check_plan(&self, name: &str) -> Result<(), ConsumersError> {
        match store::list_plans(&self.database).await?.iter().any(|plan| plan.name == name) {
            true => Ok(()),
            false => Err(ConsumersError::NoPlan(name.to_owned())),
        }
    }
}
