//! Which line of the file a path means.

use std::sync::Arc;

use super::yaml::{Content, Entry, Node};
use crate::problem::{Problem, Step, steps};

/// The file's tree, kept for as long as problems may turn up.
#[derive(Debug, Clone)]
pub struct Lines(pub(super) Arc<Node>);

impl Lines {
    /// Fills in the line of the place that the problem names, or of the nearest one around it that the file has.
    pub fn locate(&self, problem: Problem) -> Problem {
        let (mut node, mut line) = (&*self.0, self.0.line);
        for step in steps(&problem.path) {
            let next = match (step, &node.content) {
                (Step::Field(name), Content::Mapping(entries)) => field(entries, name),
                (Step::Key(key), Content::Mapping(entries)) => entries.iter().find(|entry| entry.key == key),
                (Step::Index(index), Content::Sequence(items)) => {
                    let Some(item) = items.get(index) else { break };
                    (node, line) = (item, item.line);
                    continue;
                }
                // One value may stand where a list is due.
                (Step::Index(0), _) => continue,
                _ => None,
            };
            let Some(entry) = next else { break };
            (node, line) = (&entry.value, entry.line);
        }
        Problem { line: problem.line.or(Some(line)), ..problem }
    }
}

/// In either of the two spellings that proto3's JSON allows.
fn field<'a>(entries: &'a [Entry], name: &str) -> Option<&'a Entry> {
    entries.iter().find(|entry| entry.key == name || entry.key.chars().eq(camel_case(name)))
}

fn camel_case(name: &str) -> impl Iterator<Item = char> {
    let mut letters = name.chars();
    std::iter::from_fn(move || match letters.next()? {
        '_' => letters.next().map(|letter| letter.to_ascii_uppercase()),
        letter => Some(letter),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::yaml, *};
    use crate::problem::Path;

    #[test]
    fn the_nearest_known_place_gives_the_line() {
        let text =
            "static_resources:\n  clusters:\n  - name: a\n    connectTimeout: 5\n  listeners: {name: b}\n";
        let lines = Lines(yaml::parse(text).unwrap());
        let root = Path::root();
        let resources = root.field("static_resources");
        let (clusters, listeners) = (resources.field("clusters"), resources.field("listeners"));
        let (cluster, listener) = (clusters.index(0), listeners.index(0));
        let cases = [
            (cluster.field("name"), 3),
            (cluster.field("connect_timeout"), 4),
            (cluster.field("lb_policy"), 3),
            (listener.field("name"), 5),
            (root.field("admin"), 1),
        ];
        for (path, line) in cases {
            assert_eq!(lines.locate(path.problem("")).line, Some(line), "{path}");
        }
    }
}
