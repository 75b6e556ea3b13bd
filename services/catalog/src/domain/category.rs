//! The category tree: a node's id is the path that leads to it.

use std::fmt;

use serde::{Deserialize, Serialize};
use types::InvalidId;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Which category: the titles on its path, in lower case and joined by dots, such as `grocery.cheese.shredded`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CategoryId(String);

impl CategoryId {
    /// The node called `title` below `parent`.
    fn below(parent: Option<&Self>, title: &str) -> Self {
        let label = label(title);
        Self(parent.map_or_else(|| label.clone(), |parent| format!("{parent}.{label}")))
    }

    /// Takes the text as it is: for ids that were stored.
    pub(crate) fn from_trusted(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The resource's name.
    pub(crate) fn name(&self) -> String {
        format!("categories/{self}")
    }

    /// Reads a resource's name.
    pub(crate) fn from_name(name: &str) -> Result<Self, InvalidId> {
        let id = name.strip_prefix("categories/").filter(|id| id.split('.').all(is_label));
        id.map(|id| Self(id.to_owned())).ok_or(InvalidId::NotName("categories/{category}"))
    }
}

/// A title as ids spell it: letters, their marks and digits of any script in lower case and NFC, `-` for all else.
/// Titles that it makes alike are one category; what is spelt so already stays as it is.
fn label(title: &str) -> String {
    let stays = |c: char| c.is_alphanumeric() || is_combining_mark(c);
    title.to_lowercase().nfc().map(|c| if stays(c) { c } else { '-' }).collect()
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && label(text) == text
}

impl fmt::Display for CategoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Category {
    pub(crate) id: CategoryId,
    pub(crate) title: String,
    pub(crate) parent: Option<CategoryId>,
}

/// The nodes that `titles` lead through, from the top of the tree down.
pub(crate) fn path(titles: Vec<String>) -> Vec<Category> {
    let mut path: Vec<Category> = Vec::with_capacity(titles.len());
    for title in titles {
        let parent = path.last().map(|above| above.id.clone());
        path.push(Category { id: CategoryId::below(parent.as_ref(), &title), title, parent });
    }
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_names_every_node_on_it() {
        let titles = ["GROCERY", "Cheese & Dairy", "SHREDDED/2%"].map(str::to_owned);
        let nodes = path(titles.to_vec());
        let ids: Vec<_> = nodes.iter().map(|node| node.id.as_str()).collect();
        assert_eq!(ids, ["grocery", "grocery.cheese---dairy", "grocery.cheese---dairy.shredded-2-"]);
        assert_eq!(nodes.iter().map(|node| node.title.clone()).collect::<Vec<_>>(), titles);
        let parents: Vec<_> = nodes.iter().map(|node| node.parent.clone()).collect();
        assert_eq!(parents, [None, Some(nodes[0].id.clone()), Some(nodes[1].id.clone())]);
        assert_eq!(path(Vec::new()), []);
    }

    #[test]
    fn titles_of_any_script_stay_apart() {
        for (title, expect) in [
            ("食品", "食品"),
            ("飲料", "飲料"),
            ("Käse", "käse"),
            ("Ka\u{308}se", "käse"),
            ("KÖSE", "köse"),
            ("ΟΔΟΣ", "οδος"),
            ("ข้าว", "ข้าว"),
            ("ข่าว", "ข่าว"),
            ("हिन्दी", "हिन्दी"),
            ("١٢%", "١٢-"),
            // These two are one category.
            ("K se", "k-se"),
            ("k-se", "k-se"),
        ] {
            let ids: Vec<_> = path(vec![title.to_owned()]).into_iter().map(|node| node.id.0).collect();
            assert_eq!(ids, [expect], "{title}");
        }
    }

    #[test]
    fn only_paths_are_names() {
        for name in [
            "",
            "grocery",
            "categories/",
            "categories/a..b",
            "categories/A",
            "categories/a/b",
            "categories/a.",
            "categories/É",
            "categories/e\u{301}",
            "categories/食 品",
        ] {
            assert_eq!(
                CategoryId::from_name(name),
                Err(InvalidId::NotName("categories/{category}")),
                "{name}"
            );
        }
    }

    proptest! {
        #[test]
        fn names_of_whatever_titles_round_trip(titles in prop::collection::vec("\\PC{1,20}", 1..4)) {
            for Category { id, .. } in path(titles) {
                prop_assert_eq!(CategoryId::from_name(&id.name()), Ok(id));
            }
        }
    }
}
