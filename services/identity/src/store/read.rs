//! What the database knows.

use std::collections::{BTreeMap, BTreeSet};

use storage::{
    Statement,
    sqlx::{AnyConnection, Row, any::AnyRow},
};
use types::{GoldenId, SourceRef, Timestamp};

use super::{LIST, VERSION, golden_id, source, source_text, version};
use crate::{
    domain::{Identity, Key, Node, SourceRecord, chronology},
    service::List,
};

type Result<T> = std::result::Result<T, storage::Error>;

/// Runs `head IN (values) tail` as often as the values need.
async fn fetch_in(
    connection: &mut AnyConnection,
    head: &str,
    values: impl IntoIterator<Item = String>,
    tail: &str,
) -> Result<Vec<AnyRow>> {
    let values: Vec<String> = values.into_iter().collect();
    let mut rows = Vec::new();
    for list in values.chunks(LIST) {
        let mut statement = Statement::default();
        statement.push(head).push(" IN (").bind_all(list.iter().map(String::as_str)).push(")").push(tail);
        rows.extend(statement.fetch_all(connection).await?);
    }
    Ok(rows)
}

fn texts(golden_ids: &BTreeSet<GoldenId>) -> impl Iterator<Item = String> {
    golden_ids.iter().map(GoldenId::to_string)
}

/// The records of these sources that are known, with every version.
pub(crate) async fn versions(
    connection: &mut AnyConnection,
    sources: &BTreeSet<SourceRef>,
) -> Result<BTreeMap<SourceRef, SourceRecord>> {
    let head = format!(
        "SELECT {VERSION}, r.golden_id FROM record_versions v JOIN records r ON r.source = v.source WHERE v.source"
    );
    let mut records: BTreeMap<SourceRef, SourceRecord> = BTreeMap::new();
    for row in fetch_in(connection, &head, sources.iter().map(source_text), "").await? {
        let version = version(&row)?;
        let record = records.entry(version.source.clone()).or_default();
        record.golden_id = Some(golden_id(row.try_get(11)?)?);
        record.learn(&version);
    }
    Ok(records)
}

/// Fills in what the records of these persons said.
pub(crate) async fn chronicle(
    connection: &mut AnyConnection,
    identities: &mut BTreeMap<GoldenId, Identity>,
) -> Result<()> {
    let head = format!(
        "SELECT {VERSION}, r.golden_id FROM records r JOIN record_versions v ON v.source = r.source WHERE r.golden_id"
    );
    let golden_ids = identities.keys().map(GoldenId::to_string);
    let mut records: BTreeMap<GoldenId, BTreeMap<SourceRef, SourceRecord>> = BTreeMap::new();
    for row in fetch_in(connection, &head, golden_ids, "").await? {
        let version = version(&row)?;
        let of_person = records.entry(golden_id(row.try_get(11)?)?).or_default();
        of_person.entry(version.source.clone()).or_default().learn(&version);
    }
    for (golden_id, of_person) in records {
        if let Some(identity) = identities.get_mut(&golden_id) {
            identity.records = chronology(of_person);
        }
    }
    Ok(())
}

/// How many records hold each key; a key that none holds is left out.
pub(crate) async fn key_counts(
    connection: &mut AnyConnection,
    keys: &BTreeSet<Key>,
) -> Result<BTreeMap<Key, usize>> {
    let head = "SELECT record_key, count(*) FROM record_keys WHERE record_key";
    let keys = keys.iter().map(|key| key.as_str().to_owned());
    fetch_in(connection, head, keys, " GROUP BY record_key")
        .await?
        .iter()
        .map(|row| {
            let count: i64 = row.try_get(1)?;
            Ok((Key::from_trusted(row.try_get(0)?), usize::try_from(count).unwrap_or_default()))
        })
        .collect()
}

/// The persons whose records hold one of the keys.
pub(crate) async fn holders(
    connection: &mut AnyConnection,
    keys: &BTreeSet<Key>,
) -> Result<BTreeSet<GoldenId>> {
    let head = "SELECT DISTINCT r.golden_id FROM record_keys k JOIN records r ON r.source = k.source WHERE k.record_key";
    let keys = keys.iter().map(|key| key.as_str().to_owned());
    fetch_in(connection, head, keys, "").await?.iter().map(|row| golden_id(row.try_get(0)?)).collect()
}

/// Whose the record is.
pub(crate) async fn owner_of_source(
    connection: &mut AnyConnection,
    source: &SourceRef,
) -> Result<Option<GoldenId>> {
    let mut statement = Statement::new("SELECT golden_id FROM records WHERE source = ");
    statement.bind(source_text(source));
    let row = statement.fetch_optional(connection).await?;
    row.map(|row| golden_id(row.try_get(0)?)).transpose()
}

/// Whose each of the first `limit` records is that hold the key.
pub(crate) async fn owners_of_key(
    connection: &mut AnyConnection,
    key: &Key,
    limit: usize,
) -> Result<Vec<GoldenId>> {
    let mut statement = Statement::new(
        "SELECT r.golden_id FROM record_keys k JOIN records r ON r.source = k.source WHERE k.record_key = ",
    );
    statement.bind(key.as_str()).push(" LIMIT ").bind(i64::try_from(limit).unwrap_or(i64::MAX));
    statement.fetch_all(connection).await?.iter().map(|row| golden_id(row.try_get(0)?)).collect()
}

/// The records of these persons, with the keys that they hold.
pub(crate) async fn members(
    connection: &mut AnyConnection,
    golden_ids: &BTreeSet<GoldenId>,
) -> Result<Vec<Node>> {
    let head = "SELECT r.source, r.golden_id, r.link_time, (SELECT min(v.update_time) FROM record_versions v \
        WHERE v.source = r.source) FROM records r WHERE r.golden_id";
    let mut nodes = BTreeMap::new();
    for row in fetch_in(connection, head, texts(golden_ids), "").await? {
        let node = Node {
            source: source(row.try_get(0)?)?,
            golden_id: Some(golden_id(row.try_get(1)?)?),
            link_time: Timestamp::from_micros(row.try_get(2)?),
            first_time: Timestamp::from_micros(row.try_get(3)?),
            keys: BTreeSet::new(),
        };
        nodes.insert(node.source.clone(), node);
    }
    let head = "SELECT k.source, k.record_key FROM records r JOIN record_keys k ON k.source = r.source WHERE r.golden_id";
    for row in fetch_in(connection, head, texts(golden_ids), "").await? {
        if let Some(node) = nodes.get_mut(&source(row.try_get(0)?)?) {
            node.keys.insert(Key::from_trusted(row.try_get(1)?));
        }
    }
    Ok(nodes.into_values().collect())
}

/// What operators said of the records of these persons.
pub(crate) async fn must_links(
    connection: &mut AnyConnection,
    golden_ids: &BTreeSet<GoldenId>,
) -> Result<Vec<(SourceRef, SourceRef)>> {
    let head =
        "SELECT l.source, l.other FROM records r JOIN must_links l ON l.source = r.source WHERE r.golden_id";
    fetch_in(connection, head, texts(golden_ids), "")
        .await?
        .iter()
        .map(|row| Ok((source(row.try_get(0)?)?, source(row.try_get(1)?)?)))
        .collect()
}

const IDENTITY: &str = "SELECT golden_id, merged_into, create_time, update_time, revision FROM identities";

fn identity(row: &AnyRow) -> Result<Identity> {
    let merged_into: &str = row.try_get(1)?;
    Ok(Identity {
        golden_id: golden_id(row.try_get(0)?)?,
        records: Vec::new(),
        merged_into: if merged_into.is_empty() { None } else { Some(golden_id(merged_into)?) },
        create_time: Timestamp::from_micros(row.try_get(2)?),
        update_time: Timestamp::from_micros(row.try_get(3)?),
        revision: row.try_get(4)?,
    })
}

/// These persons, without their records.
pub(crate) async fn identities(
    connection: &mut AnyConnection,
    golden_ids: &BTreeSet<GoldenId>,
) -> Result<BTreeMap<GoldenId, Identity>> {
    let rows = fetch_in(connection, &format!("{IDENTITY} WHERE golden_id"), texts(golden_ids), "").await?;
    rows.iter().map(|row| identity(row).map(|identity| (identity.golden_id, identity))).collect()
}

/// The person that a golden id leads to, with records; none if there never was one.
pub(crate) async fn standing(
    connection: &mut AnyConnection,
    golden_id: GoldenId,
) -> Result<Option<Identity>> {
    let mut next = Some(golden_id);
    while let Some(golden_id) = next {
        let mut found = identities(connection, &BTreeSet::from([golden_id])).await?;
        next = found.get(&golden_id).and_then(|identity| identity.merged_into);
        if next.is_none() {
            chronicle(connection, &mut found).await?;
            return Ok(found.remove(&golden_id));
        }
    }
    Ok(None)
}

/// A page of the persons that stand, by the time they were made, with records.
pub(crate) async fn identities_page(connection: &mut AnyConnection, list: &List) -> Result<Vec<Identity>> {
    let mut statement = Statement::new(IDENTITY);
    statement.push(" WHERE merged_into = ''").and(&list.conditions);
    let (beyond, order) = match list.newest_first {
        true => ("<", " ORDER BY create_time DESC, golden_id DESC LIMIT "),
        false => (">", " ORDER BY create_time, golden_id LIMIT "),
    };
    if let Some([create_time, golden_id]) = list.page.after.as_deref() {
        let create_time: i64 = create_time.parse().unwrap_or(i64::MAX);
        statement.push(" AND (create_time, golden_id) ").push(beyond).push(" (");
        statement.bind(create_time).push(", ").bind(golden_id.as_str()).push(")");
    }
    statement.push(order).bind(list.page.limit());
    let rows = statement.fetch_all(connection).await?;
    let order = rows.iter().map(identity).collect::<Result<Vec<_>>>()?;
    let mut filled = order.iter().map(|identity| (identity.golden_id, identity.clone())).collect();
    chronicle(connection, &mut filled).await?;
    Ok(order.iter().filter_map(|identity| filled.remove(&identity.golden_id)).collect())
}
