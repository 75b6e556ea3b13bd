//! Profiles as a fold of records: which value wins, and where it says it came from.

use super::*;

fn record(system: &str, time: i64, given_name: &str, email: &str) -> Record {
    Record {
        source: SourceRef::new(system, "1").expect("valid"),
        attributes: Attributes {
            given_name: given_name.to_owned(),
            email: email.to_owned(),
            ..Attributes::default()
        },
        loyalty_card: String::new(),
        update_time: Timestamp::from_micros(time),
    }
}

fn correction(time: i64, field: Field, given_name: &str) -> Correction {
    let attributes = Attributes { given_name: given_name.to_owned(), ..Attributes::default() };
    Correction { fields: BTreeSet::from([field]), attributes, time: Timestamp::from_micros(time) }
}

fn evidence(records: &[Record], corrections: &[Correction]) -> Evidence {
    Evidence { records: records.to_vec(), corrections: corrections.to_vec(), ..Evidence::default() }
}

/// A field's value with its provenance: `value < rule system@time`.
fn given_name(evidence: &Evidence, at: i64) -> String {
    let profile = evidence.profile(Timestamp::from_micros(at));
    let Some(provenance) = profile.provenance.get(&Field::GivenName) else { return "unknown".to_owned() };
    let system = provenance.source.as_ref().map_or("-", |source| source.system.as_str());
    let (value, time) = (profile.attributes.given_name, provenance.update_time.micros());
    format!("{value} < {:?} {system}@{time}", provenance.rule)
}

#[test]
fn the_newest_value_that_is_known_survives() {
    let mail = record("shop", 3, "", "a@x.example");
    for (records, at, expect) in [
        (vec![], 9, "unknown"),
        (vec![record("shop", 1, "Pat", "")], 0, "unknown"),
        (
            vec![record("shop", 1, "Pat", ""), record("loyalty", 2, "Patricia", "")],
            9,
            "Patricia < MostRecent loyalty@2",
        ),
        (
            vec![record("shop", 1, "Pat", ""), record("loyalty", 2, "Patricia", "")],
            1,
            "Pat < MostRecent shop@1",
        ),
        (
            vec![record("shop", 2, "Pat", ""), record("loyalty", 2, "Patricia", "")],
            9,
            "Patricia < MostRecent loyalty@2",
        ),
        (vec![record("loyalty", 1, "Pat", ""), mail.clone()], 9, "Pat < MostRecent loyalty@1"),
        // A record's older versions no longer speak.
        (vec![record("shop", 1, "Pat", ""), mail.clone()], 9, "unknown"),
        (vec![mail, record("shop", 1, "Pat", "")], 9, "unknown"),
    ] {
        assert_eq!(given_name(&evidence(&records, &[]), at), expect);
    }
}

#[test]
fn an_operators_word_wins_over_every_source() {
    let records = [record("shop", 1, "Pat", ""), record("shop", 7, "Patty", "")];
    for (corrections, at, expect) in [
        (vec![correction(5, Field::GivenName, "Trish")], 4, "Pat < MostRecent shop@1"),
        (vec![correction(5, Field::GivenName, "Trish")], 9, "Trish < Operator -@5"),
        (vec![correction(5, Field::GivenName, "")], 9, " < Operator -@5"),
        (vec![correction(5, Field::Email, "Trish")], 9, "Patty < MostRecent shop@7"),
        (
            vec![correction(5, Field::GivenName, "Trish"), correction(6, Field::GivenName, "Tricia")],
            9,
            "Tricia < Operator -@6",
        ),
    ] {
        assert_eq!(given_name(&evidence(&records, &corrections), at), expect);
    }
}

#[test]
fn the_history_has_a_version_where_something_changed() {
    let records = [
        record("shop", 1, "Pat", ""),
        record("shop", 4, "Pat", "a@x.example"),
        record("loyalty", 4, "Patricia", ""),
    ];
    let evidence =
        evidence(&records, &[correction(6, Field::GivenName, "Trish"), correction(6, Field::Email, "")]);
    let history = evidence.history();
    let times: Vec<_> =
        history.iter().map(|period| (period.from.micros(), period.to.map(Timestamp::micros))).collect();
    assert_eq!(times, [(1, Some(4)), (4, Some(6)), (6, None)]);
    assert_eq!(history[1].profile, evidence.profile(Timestamp::from_micros(5)));
    let repeated = self::evidence(&[records[1].clone(), records[1].clone()], &[]);
    assert_eq!(repeated.history().len(), 1);
}

#[test]
fn a_correction_that_says_nothing_new_is_not_kept() {
    let mut evidence = evidence(&[record("shop", 1, "Pat", "")], &[]);
    for (time, name) in [(2, "Trish"), (3, "Trish"), (4, "Tricia"), (5, "Trish")] {
        evidence.correct(correction(time, Field::GivenName, name));
    }
    let times: Vec<i64> = evidence.corrections.iter().map(|correction| correction.time.micros()).collect();
    assert_eq!(times, [2, 4, 5]);
}

#[test]
fn cards_and_references_are_those_of_the_newest_versions() {
    let card =
        |time, number: &str| Record { loyalty_card: number.to_owned(), ..record("loyalty", time, "", "") };
    let evidence = evidence(&[card(1, "98"), card(3, "99"), record("shop", 2, "", "")], &[]);
    let profile = |at| evidence.profile(Timestamp::from_micros(at));
    assert_eq!(profile(1).loyalty_cards, BTreeSet::from(["98".to_owned()]));
    assert_eq!(profile(3).loyalty_cards, BTreeSet::from(["99".to_owned()]));
    let systems: Vec<_> =
        profile(3).source_refs.into_iter().map(|source| source.system.into_string()).collect();
    assert_eq!(systems, ["loyalty", "shop"]);
}
