//! The domains as ingest needs them: what a record becomes for them, and how they are given it.

mod identity;
mod order;
mod product;
mod send;
mod stock;

use std::collections::BTreeMap;

use omnimesh_proto::{
    catalog::v1::ProductImport, identity::v1::IdentityRecord, inventory::v1::StockMovement,
    order::v1::SourceOrder,
};

pub(crate) use send::Domains;

use crate::{
    definition::Maps,
    landing::Batch,
    mapping::{Parsed, Schema, Source},
    source::Entity,
};

/// A record of a portion: its batch, and its index in it.
pub(crate) type RecordId = (usize, usize);

/// Records that could not be taken, and why.
pub(crate) type Rejected = BTreeMap<RecordId, String>;

/// A command, and the records that it came from.
#[derive(Debug, Clone)]
pub(crate) struct Command<T> {
    pub(crate) message: T,
    pub(crate) records: Vec<RecordId>,
}

/// What a portion of records becomes.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    pub(crate) orders: Vec<Command<SourceOrder>>,
    pub(crate) identities: Vec<Command<IdentityRecord>>,
    pub(crate) products: Vec<Command<ProductImport>>,
    pub(crate) movements: Vec<Command<StockMovement>>,
    pub(crate) rejected: Rejected,
}

impl Commands {
    /// How many commands there are.
    pub(crate) fn count(&self) -> usize {
        self.orders.len() + self.identities.len() + self.products.len() + self.movements.len()
    }
}

/// What an entity's records become.
#[derive(Debug)]
pub(crate) struct Mapping {
    order: Option<order::Mapping>,
    identity: Option<identity::Mapping>,
    product: Option<product::Mapping>,
    stock: Option<stock::Mapping>,
}

/// What mappings know beside the record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'c> {
    pub(crate) system: &'c str,
    pub(crate) schema: &'c Schema,
    /// Version of a record that has none of its own.
    pub(crate) file_version: i64,
}

/// A file's version in its name counts more than its revision.
const REVISIONS: i64 = 1_000_000;

impl Mapping {
    pub(crate) fn new(maps: &Maps, schema: &Schema) -> Result<Self, String> {
        let source = Source { schema, each: None };
        Ok(Self {
            order: maps.order.as_ref().map(|map| order::Mapping::new(map, source)).transpose()?,
            identity: maps.identity.as_ref().map(|map| identity::Mapping::new(map, source)).transpose()?,
            product: maps.product.as_ref().map(|map| product::Mapping::new(map, source)).transpose()?,
            stock: maps.stock.as_ref().map(|map| stock::Mapping::new(map, source)).transpose()?,
        })
    }

    fn record(&self, context: Context<'_>, record: &Parsed<'_>) -> Result<Commands, String> {
        let mut commands = Commands::default();
        if let Some(identity) = &self.identity {
            commands.identities.push(one(identity.record(context, record)?));
        }
        if let Some(product) = &self.product {
            commands.products.push(one(product.record(context, record)?));
        }
        if let Some(stock) = &self.stock {
            commands.movements.push(one(stock.record(context, record)?));
        }
        if let Some(order) = &self.order {
            commands.orders.push(one(order.document(context, record)?));
        }
        Ok(commands)
    }
}

fn one<T>(message: T) -> Command<T> {
    Command { message, records: Vec::new() }
}

/// Maps the batch at `index` of a portion.
pub(crate) fn map(system: &str, entity: &Entity, batch: &Batch, index: usize, into: &mut Commands) {
    let file_version = file_version(&batch.object) * REVISIONS + batch.revision;
    let context = Context { system, schema: &entity.schema, file_version };
    if entity.group_by.is_empty() {
        for number in 0..batch.len() {
            let id = (index, number);
            let record = entity.parse(batch, number);
            match record.and_then(|record| entity.mapping.record(context, &record)) {
                Ok(commands) => into.take(commands, id),
                Err(reason) => drop(into.rejected.insert(id, reason)),
            }
        }
    } else {
        map_groups(context, entity, batch, index, into);
    }
}

fn map_groups(context: Context<'_>, entity: &Entity, batch: &Batch, index: usize, into: &mut Commands) {
    let mut rows = Vec::with_capacity(batch.len());
    for number in 0..batch.len() {
        match entity.parse(batch, number) {
            Ok(row) => rows.push((number, row)),
            Err(reason) => drop(into.rejected.insert((index, number), reason)),
        }
    }
    // Stable: the rows of a group keep their order. Groups are consecutive already but for what a clerk moved.
    rows.sort_by(|(_, a), (_, b)| key(a, &entity.group_by).cmp(key(b, &entity.group_by)));
    for group in rows.chunk_by(|(_, a), (_, b)| key(a, &entity.group_by).eq(key(b, &entity.group_by))) {
        let Some(order) = &entity.mapping.order else { continue };
        let (message, bad) = order.rows(context, group.iter().map(|(number, row)| (*number, row)));
        let bad_numbers: Vec<usize> = bad.iter().map(|(number, _)| *number).collect();
        into.rejected.extend(bad.into_iter().map(|(number, reason)| ((index, number), reason)));
        if let Some(message) = message {
            let good = group.iter().map(|(number, _)| *number).filter(|number| !bad_numbers.contains(number));
            into.orders.push(Command { message, records: good.map(|number| (index, number)).collect() });
        }
    }
}

fn key<'r>(row: &'r Parsed<'_>, fields: &'r [usize]) -> impl Iterator<Item = &'r str> {
    fields.iter().map(move |field| row.column(*field))
}

impl Commands {
    fn take(&mut self, commands: Self, id: RecordId) {
        fn from<T>(command: Command<T>, id: RecordId) -> Command<T> {
            Command { records: vec![id], ..command }
        }
        self.orders.extend(commands.orders.into_iter().map(|command| from(command, id)));
        self.identities.extend(commands.identities.into_iter().map(|command| from(command, id)));
        self.products.extend(commands.products.into_iter().map(|command| from(command, id)));
        self.movements.extend(commands.movements.into_iter().map(|command| from(command, id)));
    }
}

/// 2 of `330/2017-01-01.v2.csv`; 1 where the name has no version.
fn file_version(object: &str) -> i64 {
    let name = object.rsplit('/').next().unwrap_or(object);
    let version = |part: &str| part.strip_prefix('v').and_then(|digits| digits.parse::<i64>().ok());
    name.split('.').rev().find_map(version).filter(|version| (1..1_000_000).contains(version)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_versions() {
        for (object, version) in [
            ("330/2017-01-01.csv", 1),
            ("330/2017-01-01.late.csv", 1),
            ("330/2017-01-01.v2.csv", 2),
            ("v7/day.csv", 1),
            ("orders", 1),
        ] {
            assert_eq!(file_version(object), version, "{object}");
        }
    }
}
