//! Resolution by examples and by its laws: the order of arrival does not matter, and golden ids persist.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

fn source(id: &str) -> SourceRef {
    SourceRef::new("shop", id).expect("valid")
}

fn golden(number: u8) -> GoldenId {
    format!("00000000-0000-7000-8000-0000000000{number:02}").parse().expect("a UUID")
}

fn node(id: &str, first_time: i64, golden_id: Option<u8>, keys: &[&str]) -> Node {
    Node {
        source: source(id),
        first_time: Timestamp::from_micros(first_time),
        golden_id: golden_id.map(golden),
        link_time: Timestamp::default(),
        keys: keys.iter().map(|key| Key::from_trusted((*key).to_owned())).collect(),
    }
}

fn names(parts: &[Vec<&Node>]) -> Vec<Vec<String>> {
    parts.iter().map(|part| part.iter().map(|node| node.source.id.clone()).collect()).collect()
}

/// Persons as `kept ← absorbed: members`.
fn outcome(nodes: &[Node], created: &[(u8, i64)]) -> Vec<String> {
    let created = created.iter().map(|(id, time)| (golden(*id), Timestamp::from_micros(*time))).collect();
    let short = |id: &GoldenId| id.to_string()[34..].to_owned();
    assign(resolve(nodes, &[], &BTreeSet::new()), &created)
        .iter()
        .map(|person| {
            let kept = person.golden_id.as_ref().map_or("new".to_owned(), short);
            let absorbed: Vec<_> = person.absorbed.iter().map(short).collect();
            let members: Vec<_> = person.members.iter().map(|node| node.source.id.as_str()).collect();
            format!("{kept} <- {}: {}", absorbed.join(","), members.join(","))
        })
        .collect()
}

#[test]
fn records_join_through_others() {
    let nodes = [
        node("a", 1, None, &["email:x"]),
        node("b", 2, None, &["phone:y"]),
        node("c", 3, None, &["email:x", "phone:y"]),
        node("d", 4, None, &[]),
        node("e", 5, None, &["card:z"]),
    ];
    let generic = BTreeSet::new();
    assert_eq!(names(&resolve(&nodes, &[], &generic)), [vec!["a", "b", "c"], vec!["d"], vec!["e"]]);
    let said = [(source("e"), source("d")), (source("e"), source("unknown"))];
    assert_eq!(names(&resolve(&nodes, &said, &generic)), [vec!["a", "b", "c"], vec!["d", "e"]]);
    let generic = BTreeSet::from([Key::from_trusted("phone:y".to_owned())]);
    assert_eq!(names(&resolve(&nodes, &[], &generic)), [vec!["a", "c"], vec!["b"], vec!["d"], vec!["e"]]);
}

#[test]
fn a_key_turns_generic_beyond_its_limit() {
    assert!(!is_generic(50, 50));
    assert!(is_generic(51, 50));
}

#[test]
fn the_oldest_golden_id_survives_a_merge() {
    let nodes = [node("a", 1, Some(2), &["k"]), node("b", 2, Some(1), &["k"]), node("c", 3, None, &["k"])];
    assert_eq!(outcome(&nodes, &[(1, 10), (2, 20)]), ["01 <- 02: a,b,c"]);
    assert_eq!(outcome(&nodes, &[(1, 20), (2, 10)]), ["02 <- 01: a,b,c"]);
    assert_eq!(outcome(&nodes, &[(1, 10), (2, 10)]), ["01 <- 02: a,b,c"], "then the smaller id");
}

#[test]
fn the_larger_part_keeps_the_golden_id_of_a_split() {
    let created = [(1, 10)];
    let larger =
        [node("a", 1, Some(1), &["x"]), node("b", 2, Some(1), &["y"]), node("c", 3, Some(1), &["y"])];
    assert_eq!(outcome(&larger, &created), ["new <- : a", "01 <- : b,c"]);
    let equal = [node("b", 2, Some(1), &["y"]), node("a", 1, Some(1), &["x"])];
    assert_eq!(outcome(&equal, &created), ["01 <- : a", "new <- : b"]);
}

#[test]
fn a_record_that_moves_takes_no_golden_id_along() {
    let nodes = [
        node("a", 1, Some(1), &["x"]),
        node("b", 2, Some(1), &["x"]),
        node("moved", 3, Some(1), &["y"]),
        node("c", 4, Some(2), &["y"]),
    ];
    assert_eq!(outcome(&nodes, &[(1, 10), (2, 20)]), ["01 <- : a,b", "02 <- : moved,c"]);
}

prop_compose! {
    fn any_nodes()(rows in vec((0_i64..5, proptest::option::of(1_u8..6), vec(0_usize..8, 0..3)), 0..24)) -> Vec<Node> {
        const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
        rows.iter()
            .enumerate()
            .map(|(index, (time, golden_id, keys))| {
                let keys: Vec<_> = keys.iter().map(|key| KEYS[*key]).collect();
                node(&format!("{index:02}"), *time, *golden_id, &keys)
            })
            .collect()
    }
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter(nodes in any_nodes(), swaps in vec(any::<(Index, Index)>(), 24)) {
        let mut shuffled = nodes.clone();
        for (a, b) in swaps {
            if !nodes.is_empty() {
                shuffled.swap(a.index(nodes.len()), b.index(nodes.len()));
            }
        }
        let (parts, again) = (resolve(&nodes, &[], &BTreeSet::new()), resolve(&shuffled, &[], &BTreeSet::new()));
        prop_assert_eq!(&parts, &again);
        prop_assert_eq!(assign(parts, &BTreeMap::new()), assign(again, &BTreeMap::new()));
    }

    #[test]
    fn no_record_and_no_golden_id_is_lost_or_doubled(nodes in any_nodes()) {
        let persons = assign(resolve(&nodes, &[], &BTreeSet::new()), &BTreeMap::new());
        let mut members: Vec<_> = persons.iter().flat_map(|person| &person.members).map(|node| &node.source).collect();
        members.sort();
        prop_assert_eq!(members, nodes.iter().map(|node| &node.source).collect::<Vec<_>>());
        let mut ids: Vec<_> =
            persons.iter().flat_map(|person| person.golden_id.iter().chain(&person.absorbed)).copied().collect();
        ids.sort();
        let before: BTreeSet<_> = nodes.iter().filter_map(|node| node.golden_id).collect();
        prop_assert_eq!(ids, before.into_iter().collect::<Vec<_>>());
    }
}
