//! The border to the contract.

mod request;

pub(crate) use request::{clue, golden_id, golden_ids, list, update, watch};

use omnimesh_proto::{customer::v1 as pb, identity::v1::Identity, r#type::v1::ChangeType};
use types::{
    GoldenId, InvalidRequest, Violations,
    contact::{self, Address},
    wire,
};

use crate::{
    domain::{Attributes, Customer, IdentityChange, Profile, Provenance, Record, Rule, Version},
    event::Change,
};

/// The customer's resource name.
pub(crate) fn name(golden_id: GoldenId) -> String {
    format!("customers/{golden_id}")
}

impl From<Provenance> for pb::Provenance {
    fn from(provenance: Provenance) -> Self {
        let rule = match provenance.rule {
            Rule::MostRecent => "MOST_RECENT",
            Rule::Operator => "OPERATOR",
        };
        Self {
            source: provenance.source.map(Into::into),
            update_time: Some(provenance.update_time.into()),
            rule: rule.to_owned(),
        }
    }
}

/// A customer's name and profile, without what is true of the resource only.
fn profile(golden_id: GoldenId, profile: Profile) -> pb::Customer {
    let Profile { attributes, loyalty_cards, source_refs, provenance } = profile;
    let Attributes { given_name, family_name, email, phone, address } = attributes;
    pb::Customer {
        name: name(golden_id),
        golden_id: golden_id.to_string(),
        given_name,
        family_name,
        email,
        phone,
        address: address.into_message(),
        loyalty_cards: loyalty_cards.into_iter().collect(),
        source_refs: source_refs.into_iter().map(Into::into).collect(),
        provenance: provenance
            .into_iter()
            .map(|(field, from)| (field.name().to_owned(), from.into()))
            .collect(),
        ..pb::Customer::default()
    }
}

impl From<Customer> for pb::Customer {
    fn from(customer: Customer) -> Self {
        Self {
            etag: customer.etag(),
            merged_into: customer.merged_into.map(|golden_id| golden_id.to_string()).unwrap_or_default(),
            create_time: Some(customer.create_time.into()),
            update_time: Some(customer.update_time.into()),
            identity_version: customer.identity_version,
            ..profile(customer.golden_id, customer.profile)
        }
    }
}

/// One version of a customer's profile.
pub(crate) fn version(golden_id: GoldenId, version: Version) -> pb::CustomerVersion {
    let Version { number, period, recorded, superseded } = version;
    pb::CustomerVersion {
        version: number,
        valid_from_time: Some(period.from.into()),
        valid_to_time: period.to.map(Into::into),
        record_from_time: Some(recorded.time.into()),
        record_to_time: superseded.map(Into::into),
        customer: Some(pb::Customer {
            identity_version: recorded.identity_version,
            ..profile(golden_id, period.profile)
        }),
    }
}

impl From<Change> for pb::WatchCustomersResponse {
    fn from(change: Change) -> Self {
        match change {
            // No token: a stream that breaks among the initial customers has to begin again.
            Change::Initial(customer) => Self {
                change_type: ChangeType::Initial.into(),
                event_time: Some(customer.update_time.into()),
                customer: Some(customer.into()),
                resume_token: String::new(),
            },
            Change::Logged(events::Change::Event { payload, event }) => {
                let is_merged =
                    payload.customer.as_ref().is_some_and(|customer| !customer.merged_into.is_empty());
                Self {
                    change_type: if is_merged { ChangeType::Deleted } else { ChangeType::Changed }.into(),
                    customer: payload.customer,
                    event_time: event.event_time,
                    resume_token: event.cursor,
                }
            }
            Change::Logged(events::Change::Bookmark(cursor)) => Self {
                change_type: ChangeType::Bookmark.into(),
                resume_token: cursor.to_string(),
                ..Self::default()
            },
        }
    }
}

/// A person as the identity service tells of it. What cannot be an e-mail address or a phone number is left out.
pub(crate) fn identity(message: Identity) -> Result<IdentityChange, InvalidRequest> {
    let mut violations = Violations::default();
    let golden_id = violations.check("golden_id", message.golden_id.parse());
    let create_time = violations.check("create_time", wire::time(message.create_time));
    let merged_into = match message.merged_into.as_str() {
        "" => Some(None),
        text => violations.check("merged_into", text.parse()).map(Some),
    };
    let mut records = Vec::with_capacity(message.records.len());
    for (index, record) in message.records.into_iter().enumerate() {
        let source = violations.check(format!("records[{index}].source"), wire::source(record.source));
        let time = violations.check(format!("records[{index}].update_time"), wire::time(record.update_time));
        records.extend(source.zip(time).map(|(source, update_time)| Record {
            source,
            update_time,
            loyalty_card: contact::loyalty_card(&record.loyalty_card).unwrap_or_default(),
            attributes: Attributes {
                given_name: record.given_name.trim().to_owned(),
                family_name: record.family_name.trim().to_owned(),
                email: contact::email(&record.email).unwrap_or_default(),
                phone: contact::phone(&record.phone).unwrap_or_default(),
                address: Address::from(record.address),
            },
        }));
    }
    let ids = golden_id.zip(create_time).zip(merged_into);
    violations.finish(ids.map(|((golden_id, create_time), merged_into)| IdentityChange {
        golden_id,
        records,
        merged_into,
        create_time,
        version: message.version,
    }))
}
