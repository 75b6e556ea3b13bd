//! The border to the contract.

use events::Begin;
use omnimesh_proto::{
    identity::v1::{self as pb, resolve_identity_request},
    r#type::v1::ChangeType,
};
use types::{
    GoldenId, Imported, InvalidRequest, Request, Violations,
    contact::{self, Address},
    filter::{self, Condition, Field, Kind},
    page::Page,
    wire,
};

use crate::{
    Error,
    domain::{Attributes, Identity, Key, Link, Record},
    event::Change,
    service::{Clue, List},
};

const MAX_RECORDS: usize = 10_000;

const GOLDEN_ID: Field = Field { name: "golden_id", kind: Kind::Text };
const CREATE_TIME: Field = Field { name: "create_time", kind: Kind::Time };
const UPDATE_TIME: Field = Field { name: "update_time", kind: Kind::Time };

impl From<Record> for pb::IdentityRecord {
    fn from(record: Record) -> Self {
        let Attributes { given_name, family_name, email, phone, loyalty_card, address } = record.attributes;
        Self {
            source: Some(record.source.into()),
            given_name,
            family_name,
            email,
            phone,
            loyalty_card,
            address: address.into_message(),
            update_time: Some(record.update_time.into()),
        }
    }
}

impl From<Identity> for pb::Identity {
    fn from(identity: Identity) -> Self {
        Self {
            name: identity.golden_id.name(),
            golden_id: identity.golden_id.to_string(),
            etag: identity.etag(),
            version: identity.revision,
            records: identity.records.into_iter().map(Into::into).collect(),
            merged_into: identity.merged_into.map(|golden_id| golden_id.to_string()).unwrap_or_default(),
            create_time: Some(identity.create_time.into()),
            update_time: Some(identity.update_time.into()),
        }
    }
}

impl From<Link> for pb::IdentityLink {
    fn from(link: Link) -> Self {
        Self {
            source: Some(link.source.into()),
            golden_id: link.golden_id.to_string(),
            link_time: Some(link.link_time.into()),
            unlink_time: link.unlink_time.map(Into::into),
        }
    }
}

impl From<Change> for pb::WatchIdentitiesResponse {
    fn from(change: Change) -> Self {
        match change {
            // No token: a stream that breaks among the initial persons has to begin again.
            Change::Initial(identity) => Self {
                change_type: ChangeType::Initial.into(),
                event_time: Some(identity.update_time.into()),
                identity: Some(identity.into()),
                resume_token: String::new(),
            },
            Change::Logged(events::Change::Event {
                payload: pb::IdentityChanged { identity, .. },
                event,
            }) => {
                let is_merged = identity.as_ref().is_some_and(|identity| !identity.merged_into.is_empty());
                Self {
                    change_type: if is_merged { ChangeType::Deleted } else { ChangeType::Changed }.into(),
                    identity,
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

pub(crate) fn imported(imported: Imported) -> pb::ImportIdentityRecordsResponse {
    pb::ImportIdentityRecordsResponse {
        accepted_count: imported.accepted,
        unchanged_count: imported.unchanged,
    }
}

/// The records of a portion.
pub(crate) fn records(message: pb::ImportIdentityRecordsRequest) -> Result<Vec<Record>, InvalidRequest> {
    if message.records.len() > MAX_RECORDS {
        return Err(InvalidRequest::new("records", format!("holds more than {MAX_RECORDS} records")));
    }
    let mut violations = Violations::default();
    let records = message.records.into_iter().enumerate().filter_map(|(index, record)| {
        let source = violations.check(format!("records[{index}].source"), wire::source(record.source));
        let time =
            violations.check(format!("records[{index}].update_time"), wire::past_time(record.update_time));
        Some(Record {
            source: source?,
            update_time: time?,
            attributes: Attributes {
                given_name: record.given_name,
                family_name: record.family_name,
                email: record.email,
                phone: record.phone,
                loyalty_card: record.loyalty_card,
                address: Address::from(record.address),
            },
        })
    });
    let records = records.collect();
    violations.finish(Some(records))
}

pub(crate) fn golden_id(field: &str, name: &str) -> Result<GoldenId, InvalidRequest> {
    GoldenId::from_name(name).map_err(|error| InvalidRequest::new(field, error))
}

pub(crate) fn list(message: &pb::ListIdentitiesRequest) -> Result<List, InvalidRequest> {
    let conditions = filter::parse(&message.filter, &[CREATE_TIME, UPDATE_TIME])?;
    let newest_first = match message.order_by.as_str() {
        "" | "create_time" => false,
        "create_time desc" => true,
        _ => return Err(InvalidRequest::new("order_by", "is neither `create_time` nor `create_time desc`")),
    };
    let page = Page::new(message.page_size, &message.page_token, &[&message.filter, &message.order_by])?;
    Ok(List { conditions, newest_first, page })
}

pub(crate) fn clue(message: pb::ResolveIdentityRequest) -> Result<Clue, InvalidRequest> {
    use resolve_identity_request::Key as Asked;
    let readable = |field, normalised: Option<String>, expected| match normalised {
        Some(_) => Ok(()),
        None => Err(InvalidRequest::new(field, expected)),
    };
    match message.key {
        None => Err(InvalidRequest::new("key", "is required")),
        Some(Asked::Source(source)) => match wire::source(Some(source)) {
            Ok(source) => Ok(Clue::Source(source)),
            Err(error) => Err(InvalidRequest::new("source", error)),
        },
        Some(Asked::Email(text)) => {
            readable("email", contact::email(&text), "is no e-mail address")?;
            Ok(Clue::Key(Key::email(&text)))
        }
        Some(Asked::Phone(text)) => {
            readable("phone", contact::phone(&text), "is no phone number with its area code")?;
            Ok(Clue::Key(Key::phone(&text)))
        }
        Some(Asked::LoyaltyCard(text)) => {
            readable("loyalty_card", contact::loyalty_card(&text), "is no card number")?;
            Ok(Clue::Key(Key::loyalty_card(&text)))
        }
    }
}

/// The two persons of a merge, and the request as its caller named it.
pub(crate) fn merge(
    message: &pb::MergeIdentitiesRequest,
) -> Result<(GoldenId, GoldenId, Request), InvalidRequest> {
    let mut violations = Violations::default();
    let one = violations.check("name", GoldenId::from_name(&message.name));
    let other = violations.check("other", GoldenId::from_name(&message.other));
    if one.is_some() && one == other {
        violations.add("other", "is the same person as `name`");
    }
    let (one, other) = violations.finish(one.zip(other))?;
    let request =
        Request::new("omnimesh.identity.v1.IdentityService/MergeIdentities", &message.request_id, message)?;
    Ok((one, other, request))
}

/// Where a watch begins, and whom it is of.
pub(crate) fn watch(message: &pb::WatchIdentitiesRequest) -> Result<(Begin, Vec<Condition>), Error> {
    let filter = filter::parse(&message.filter, &[GOLDEN_ID])?;
    let begin = Begin::new(&message.resume_token, message.include_initial);
    Ok((begin.map_err(|_| Error::ResumeTokenInvalid)?, filter))
}
