//! The order in which tables are computed.

use std::collections::BTreeMap;

use crate::{Error, TableName, table::Derived};

/// `wanted`, or all of `tables`, each after those that it is computed from.
pub(super) fn order<'a>(
    tables: impl Iterator<Item = &'a dyn Derived>,
    wanted: &[TableName],
) -> Result<Vec<&'a dyn Derived>, Error> {
    let mut left = BTreeMap::new();
    for table in tables {
        left.insert(table.name()?, (table, table.inputs()?));
    }
    if let Some(unknown) = wanted.iter().find(|name| !left.contains_key(name)) {
        let known: Vec<_> = left.keys().map(ToString::to_string).collect();
        return Err(Error::Definition {
            table: unknown.to_string(),
            reason: format!("no run makes it; those that runs make are {}", known.join(", ")),
        });
    }
    let mut ordered = Vec::new();
    while !left.is_empty() {
        let ready: Vec<_> = left
            .iter()
            .filter(|(_, (_, inputs))| !inputs.iter().any(|input| left.contains_key(input)))
            .map(|(name, _)| name.clone())
            .collect();
        if ready.is_empty() {
            let names: Vec<_> = left.keys().map(ToString::to_string).collect();
            return Err(Error::Definition {
                table: names.join(", "),
                reason: "they are computed from each other".to_owned(),
            });
        }
        for name in ready {
            if let Some((table, _)) = left.remove(&name)
                && (wanted.is_empty() || wanted.contains(&name))
            {
                ordered.push(table);
            }
        }
    }
    Ok(ordered)
}
