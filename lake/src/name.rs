//! Names of tables, and the rules that make them predictable for whoever reads the lake.

use std::{fmt, str::FromStr};

use crate::Error;

/// A layer of the lake: how far its tables are from what the sources wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// What landed, unaltered.
    Bronze,
    /// Unified entities.
    Silver,
    /// Facts, dimensions and aggregates.
    Gold,
    /// Features for models, by the time they were known.
    Features,
    /// Vectors.
    Embeddings,
    /// What the lake knows about itself.
    Meta,
}

impl Layer {
    /// Every layer that holds data, from the sources up.
    pub const ALL: [Self; 5] = [Self::Bronze, Self::Silver, Self::Gold, Self::Features, Self::Embeddings];

    /// Its directory's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bronze => "bronze",
            Self::Silver => "silver",
            Self::Gold => "gold",
            Self::Features => "features",
            Self::Embeddings => "embeddings",
            Self::Meta => "_meta",
        }
    }

    /// What a name in this layer must be like, and whether `name` is.
    fn rule(self, name: &str) -> (&'static str, bool) {
        let parts: Vec<_> = name.split("__").collect();
        let snake_case = parts.iter().all(|part| is_snake_case(part));
        match self {
            Self::Bronze => (
                "use bronze_<source>__<entity>, both in snake_case; rename the source or its entity",
                snake_case && parts.len() == 2 && name.starts_with("bronze_"),
            ),
            Self::Silver | Self::Meta => ("use snake_case", snake_case && parts.len() == 1),
            Self::Gold => (
                "use snake_case that begins with dim_, fct_ or agg_",
                snake_case
                    && parts.len() == 1
                    && ["dim_", "fct_", "agg_"].iter().any(|kind| name.starts_with(kind)),
            ),
            Self::Features | Self::Embeddings => (
                "use snake_case, with at most one __ before a model or version",
                snake_case && parts.len() <= 2,
            ),
        }
    }
}

fn is_snake_case(part: &str) -> bool {
    part.starts_with(|letter: char| letter.is_ascii_lowercase())
        && !part.ends_with('_')
        && part.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}

/// The name of a table, which keeps its layer's rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    layer: Layer,
    name: String,
}

impl TableName {
    /// Checks a name against its layer's rule.
    pub fn new(layer: Layer, name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        match layer.rule(&name) {
            (_, true) => Ok(Self { layer, name }),
            (rule, false) => Err(Error::Name { layer: layer.as_str(), name, rule }),
        }
    }

    /// The table's layer.
    pub fn layer(&self) -> Layer {
        self.layer
    }

    /// The name within the layer.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Where the table is in the lake.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}.lance", self.layer.as_str(), self.name)
    }
}

impl FromStr for TableName {
    type Err = Error;

    /// Reads `<layer>/<name>`, or `<layer>.<name>` as queries write it.
    fn from_str(text: &str) -> Result<Self, Error> {
        let rule = "use <layer>/<name>, such as gold/dim_customer";
        let invalid = || Error::Name { layer: "lake", name: text.to_owned(), rule };
        let (layer, name) = text.split_once(['/', '.']).ok_or_else(invalid)?;
        let mut layers = Layer::ALL.into_iter().chain([Layer::Meta]);
        Self::new(layers.find(|known| known.as_str() == layer).ok_or_else(invalid)?, name)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.layer.as_str(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_layers_rule() {
        let good = [
            (Layer::Bronze, "bronze_shop__order_lines"),
            (Layer::Silver, "users_scd"),
            (Layer::Gold, "fct_order_line"),
            (Layer::Features, "customer_daily"),
            (Layer::Embeddings, "products__wl256"),
        ];
        for (layer, name) in good {
            assert_eq!(TableName::new(layer, name).unwrap().as_str(), name);
        }
        let bad = [
            (Layer::Bronze, "shop__orders"),
            (Layer::Bronze, "bronze_shop_orders"),
            (Layer::Bronze, "bronze_shop__"),
            (Layer::Bronze, "bronze_shop__orders__old"),
            (Layer::Bronze, "bronze_shop__Orders"),
            (Layer::Bronze, "bronze_shop__../escape"),
            (Layer::Silver, "users__scd"),
            (Layer::Silver, "2users"),
            (Layer::Silver, ""),
            (Layer::Gold, "order_line"),
            (Layer::Embeddings, "products__a__b"),
        ];
        for (layer, name) in bad {
            let error = TableName::new(layer, name).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("use "), "{error}");
        }
    }
}
