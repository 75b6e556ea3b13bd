//! The definition of a source: a TOML file that says where a system's records are, what they should look like, and
//! which domain commands they become.
//!
//! - `system`, and the `name` of an `[[entity]]`: in snake_case, because the lake's tables are called after them.
//! - `[files]` (`root`, `format` = csv | jsonl | parquet) or `[sql]` (`url`, SQLite or PostgreSQL). Relative paths are
//!   below the directory that the definition is resolved against.
//! - `[[entity]]`: `files`, a glob below the root; or `table` with `key`, the columns that order it so that what is new
//!   or changed comes last (text or integers, and no two rows have the same; a row where one is NULL or empty is quarantined), and
//!   `children`, tables whose rows are nested into the record as arrays.
//! - `encoding` of an entity's CSV or JSON Lines files, if it is not UTF-8: a label of the WHATWG Encoding Standard, such
//!   as `windows-1252`. A file that was read before is read again in its new encoding once it is touched.
//! - `expect`: names and kinds of the fields. Of CSV it is the header. Of documents the names are paths, `a.b` of a
//!   nested field and `a[].b` of a field of an array's elements; further fields are kept but not looked at.
//!   Kinds: `text`, `integer`, `decimal`, `time` (RFC 3339), `datetime` (without zone, taken as UTC), `date`; a `?`
//!   after it says that the field may be missing.
//! - `group_by`: the fields that CSV rows of one order share; they stand together. A record is one line, whatever its
//!   quotes say.
//! - `map.order`, `map.identity`, `map.product`, `map.stock`: templates of the command's fields. `{field}` stands for
//!   a field's value, `{name|given}` and `{name|family}` for the parts of a full name, `{file.version}` for 2 of
//!   `day.v2.csv` (1 where the name has no version), anything else for itself. A template with a missing field is
//!   missing as a whole. Amounts are decimals of the currency, or integers of its minor unit.
//! - `subject_keys`: templates of the keys by which records name persons, so that the lake can erase them:
//!   `shop/{customer}` for an id that the system `shop` gave, `{mail}` for an e-mail address, a phone, a card, a device,
//!   or an id of their own system. What `map.identity` and the `customer` of `map.order` take need not be said again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{Error, mapping::Kind};

/// A source system.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Where it was written, for messages.
    #[serde(skip)]
    pub(crate) origin: String,
    /// The system's name.
    #[serde(deserialize_with = "name")]
    pub system: String,
    /// Its files.
    #[serde(default)]
    pub(crate) files: Option<Files>,
    /// Its database.
    #[serde(default)]
    pub(crate) sql: Option<Sql>,
    /// What it holds.
    #[serde(rename = "entity")]
    pub(crate) entities: Vec<Entity>,
}

/// Two names, and what stands around them, have to fit into the name of a directory.
const NAME_BYTES: usize = 64;

/// The name of a system or an entity. Together they name a table of the lake, `bronze_<system>__<entity>`, which takes
/// no other.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let is_word = |word: &str| {
        !word.is_empty() && word.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit())
    };
    let is_snake_case =
        name.starts_with(|letter: char| letter.is_ascii_lowercase()) && name.split('_').all(is_word);
    if is_snake_case && name.len() <= NAME_BYTES {
        return Ok(name);
    }
    Err(D::Error::custom(format!(
        "`{name}` is no name: use snake_case, such as `web_shop`, with no more than {NAME_BYTES} letters"
    )))
}

/// A folder of files.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Files {
    /// The folder.
    pub(crate) root: PathBuf,
    /// What is in its files.
    pub(crate) format: Format,
}

/// What a file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Rows with a header.
    Csv,
    /// A JSON document a line.
    Jsonl,
    /// Columns; each row is taken as a JSON document.
    Parquet,
}

/// A database.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sql {
    /// `sqlite:<file>` or `postgres://…`.
    pub(crate) url: String,
}

/// One kind of records.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entity {
    /// Its name.
    #[serde(deserialize_with = "name")]
    pub(crate) name: String,
    /// Glob of its files.
    #[serde(default)]
    pub(crate) files: Option<String>,
    /// Encoding of its files.
    #[serde(default)]
    pub(crate) encoding: Option<String>,
    /// Its table.
    #[serde(default)]
    pub(crate) table: Option<String>,
    /// The columns that order the table.
    #[serde(default)]
    pub(crate) key: Vec<String>,
    /// Tables nested into its records.
    #[serde(default)]
    pub(crate) children: Vec<Child>,
    /// The fields.
    pub(crate) expect: Vec<(String, Kind)>,
    /// The fields that rows of one order share.
    #[serde(default)]
    pub(crate) group_by: Vec<String>,
    /// Templates of the keys by which its records name persons, beside those that `map` tells of.
    #[serde(default)]
    pub(crate) subject_keys: Vec<String>,
    /// What its records become.
    #[serde(default)]
    pub(crate) map: Maps,
}

/// A table whose rows are part of another table's records.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Child {
    /// The array's name in the record.
    pub(crate) name: String,
    /// The table.
    pub(crate) table: String,
    /// The column, of the same name in both tables, that says whose part a row is.
    pub(crate) key: String,
    /// The column that orders the rows.
    pub(crate) order: String,
}

/// The commands that a record becomes.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Maps {
    /// An order.
    pub(crate) order: Option<OrderMap>,
    /// A person's record.
    pub(crate) identity: Option<IdentityMap>,
    /// A product.
    pub(crate) product: Option<ProductMap>,
    /// A stock movement.
    pub(crate) stock: Option<StockMap>,
}

/// Templates of an order's fields.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderMap {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) channel: String,
    pub(crate) location: Option<String>,
    pub(crate) time: String,
    pub(crate) status: Option<String>,
    /// The source's words for `placed`, `completed` and `cancelled`.
    #[serde(default)]
    pub(crate) statuses: BTreeMap<String, String>,
    pub(crate) currency: String,
    /// Decimals of the currency's minor unit.
    #[serde(default = "two")]
    pub(crate) decimals: u32,
    pub(crate) customer: Option<RefMap>,
    #[serde(default)]
    pub(crate) references: Vec<RefMap>,
    pub(crate) lines: LineMap,
    pub(crate) payments: Option<PaymentMap>,
}

fn two() -> u32 {
    2
}

/// Templates of a reference to a record of a system.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefMap {
    pub(crate) system: String,
    pub(crate) id: String,
}

/// Templates of a line: one for each element of the array `each`, or for each grouped row.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LineMap {
    pub(crate) each: Option<String>,
    pub(crate) sku: String,
    pub(crate) quantity: String,
    pub(crate) amount: String,
    #[serde(default)]
    pub(crate) discounts: Vec<String>,
}

/// Templates of a payment: one for each element of the array `each`, or one; without `amount` it is the order's total.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PaymentMap {
    pub(crate) each: Option<String>,
    pub(crate) psp_ref: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) auth_code: Option<String>,
    pub(crate) amount: Option<String>,
}

/// Templates of a person's record.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityMap {
    pub(crate) id: String,
    pub(crate) given_name: Option<String>,
    pub(crate) family_name: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) phone: Option<String>,
    pub(crate) loyalty_card: Option<String>,
    pub(crate) street: Option<String>,
    pub(crate) city: Option<String>,
    pub(crate) postcode: Option<String>,
    pub(crate) country: Option<String>,
    /// The first that is there; a record without any is older than all others.
    pub(crate) update_time: Vec<String>,
}

/// Templates of a product.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProductMap {
    pub(crate) sku: String,
    pub(crate) title: Option<String>,
    pub(crate) manufacturer_id: Option<String>,
    pub(crate) brand: Option<String>,
    /// From the top down; ends at the first that is missing.
    #[serde(default)]
    pub(crate) category_path: Vec<String>,
    pub(crate) package_size: Option<String>,
}

/// Templates of a stock movement.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StockMap {
    pub(crate) id: String,
    pub(crate) sku: String,
    pub(crate) location: String,
    /// `count`, `delivery`, `sale` or `adjustment`.
    pub(crate) kind: String,
    pub(crate) quantity: String,
    pub(crate) time: String,
}

impl Entity {
    /// Templates of all keys by which its records name persons; `system` is what it is of.
    pub(crate) fn all_subject_keys(&self, system: &str) -> BTreeSet<String> {
        let mut keys: BTreeSet<_> = self.subject_keys.iter().cloned().collect();
        if let Some(person) = &self.map.identity {
            keys.insert(format!("{system}/{}", person.id));
            keys.extend([&person.email, &person.phone, &person.loyalty_card].into_iter().flatten().cloned());
        }
        if let Some(RefMap { system, id }) = self.map.order.as_ref().and_then(|order| order.customer.as_ref())
        {
            keys.insert(format!("{system}/{id}"));
        }
        keys
    }
}

impl Definition {
    /// Reads a definition; `origin` is the file's name, for messages.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let definition: Self = toml::from_str(text)
            .map_err(|error| Error::Definition(format!("{origin}: {}", error.to_string().trim_end())))?;
        Ok(Self { origin: origin.to_owned(), ..definition })
    }

    /// The same source with its relative paths below `directory`.
    pub fn below(mut self, directory: &Path) -> Self {
        if let Some(files) = &mut self.files {
            files.root = directory.join(&files.root);
        }
        if let Some(sql) = &mut self.sql
            && let Some(file) = sql.url.strip_prefix("sqlite:")
        {
            sql.url = format!("sqlite:{}", directory.join(file).display());
        }
        self
    }
}
