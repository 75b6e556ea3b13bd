//! What stays recorded of a customer when something else turns out to be true.

use std::collections::BTreeSet;

use super::*;

fn golden_id() -> GoldenId {
    "00000000-0000-7000-8000-000000000001".parse().expect("valid")
}

fn record(time: i64, given_name: &str) -> Record {
    Record {
        source: SourceRef::new("shop", "1").expect("valid"),
        attributes: Attributes { given_name: given_name.to_owned(), ..Attributes::default() },
        loyalty_card: String::new(),
        update_time: Timestamp::from_micros(time),
    }
}

/// Renews a person with each of `evidences` at its time; what was recorded, closed where it is superseded, as
/// `name@valid from-to recorded from-to`.
fn recorded(evidences: &[(i64, &[Record])]) -> BTreeSet<String> {
    let mut all = BTreeMap::new();
    let mut person = Person::new(golden_id(), Timestamp::default());
    let mut before = None;
    for (now, records) in evidences {
        person.evidence.records = records.to_vec();
        let renewal = person.renew(before.as_ref(), Timestamp::from_micros(*now)).unwrap_or_default();
        for version in renewal.history.into_iter().chain(renewal.superseded) {
            all.insert((version.period.from, version.recorded.time), version);
        }
        before = Some(person.clone());
    }
    let shown = |time: Option<Timestamp>| time.map_or_else(String::new, |time| time.micros().to_string());
    let versions = all.into_values().map(|Version { period, recorded, superseded, .. }| {
        let name = period.profile.attributes.given_name;
        let valid = format!("{}-{}", period.from.micros(), shown(period.to));
        format!("{name}@{valid} {}-{}", recorded.time.micros(), shown(superseded))
    });
    versions.collect()
}

#[test]
fn a_period_stands_as_long_as_nothing_about_it_changes() {
    let [pat, patty, trish] = [record(1, "Pat"), record(4, "Patty"), record(2, "Trish")];
    for (evidences, expect) in [
        (vec![(10, vec![pat.clone()])], vec!["Pat@1- 10-"]),
        (vec![(10, vec![pat.clone()]), (20, vec![pat.clone()])], vec!["Pat@1- 10-"]),
        (
            vec![(10, vec![pat.clone()]), (20, vec![pat.clone(), patty.clone()])],
            vec!["Pat@1- 10-20", "Pat@1-4 20-", "Patty@4- 20-"],
        ),
        (
            vec![
                (10, vec![pat.clone(), trish.clone()]),
                (20, vec![pat.clone(), trish.clone(), patty.clone()]),
            ],
            vec!["Pat@1-2 10-", "Patty@4- 20-", "Trish@2- 10-20", "Trish@2-4 20-"],
        ),
        // A late record moves the place of what follows it.
        (
            vec![(10, vec![pat.clone(), patty.clone()]), (20, vec![pat.clone(), trish, patty.clone()])],
            vec!["Pat@1-2 20-", "Pat@1-4 10-20", "Patty@4- 10-20", "Patty@4- 20-", "Trish@2-4 20-"],
        ),
        (vec![(10, vec![pat.clone(), patty.clone()]), (20, vec![])], vec!["Pat@1-4 10-20", "Patty@4- 10-20"]),
        // A clock that goes back does not undo what is recorded.
        (vec![(10, vec![pat.clone()]), (5, vec![patty])], vec!["Pat@1- 10-11", "Patty@4- 11-"]),
    ] {
        let evidences: Vec<_> = evidences.iter().map(|(time, records)| (*time, records.as_slice())).collect();
        assert_eq!(recorded(&evidences), expect.into_iter().map(str::to_owned).collect());
    }
}
