//! Requests as they come in, and what is wrong with them.

use std::collections::BTreeSet;

use events::Begin;
use omnimesh_proto::customer::v1::{self as pb, lookup_customer_request::Key};
use prost_types::FieldMask;
use types::{
    GoldenId, InvalidId, InvalidRequest, Request, Timestamp, Violations,
    contact::{self, Address},
    filter::{self, Condition, Kind, Value},
    page::Page,
    wire,
};

use crate::{
    Error,
    domain::{Attributes, Clue, Correction, Field},
    service::{Query, Update},
    store::Order,
};

const MAX_NAMES: usize = 1000;
const NO_EMAIL: &str = "is no e-mail address";
const NO_PHONE: &str = "is no phone number with its area code";

const GOLDEN_ID: filter::Field = filter::Field { name: "golden_id", kind: Kind::Text };
const FILTER: [filter::Field; 3] = [
    filter::Field { name: "family_name", kind: Kind::Text },
    filter::Field { name: "email", kind: Kind::Text },
    filter::Field { name: "phone", kind: Kind::Text },
];

fn parse_name(name: &str) -> Result<GoldenId, InvalidId> {
    name.strip_prefix("customers/").ok_or(InvalidId::NotName("customers/{golden_id}"))?.parse()
}

pub(crate) fn golden_id(name: &str) -> Result<GoldenId, InvalidRequest> {
    parse_name(name).map_err(|error| InvalidRequest::new("name", error))
}

pub(crate) fn golden_ids(names: &[String]) -> Result<Vec<GoldenId>, InvalidRequest> {
    if names.len() > MAX_NAMES {
        return Err(InvalidRequest::new("names", format!("holds more than {MAX_NAMES} names")));
    }
    let mut violations = Violations::default();
    let golden_ids = names.iter().enumerate();
    let golden_ids = golden_ids
        .filter_map(|(index, name)| violations.check(format!("names[{index}]"), parse_name(name)))
        .collect();
    violations.finish(Some(golden_ids))
}

pub(crate) fn list(message: &pb::ListCustomersRequest) -> Result<(Query, Page), InvalidRequest> {
    let mut conditions = filter::parse(&message.filter, &FILTER)?;
    for condition in &mut conditions {
        // Any spelling finds what is stored normalised.
        if let Value::Text(text) = &mut condition.value {
            let normalised = match condition.field {
                "email" => contact::email(text),
                "phone" => contact::phone(text),
                _ => None,
            };
            *text = normalised.unwrap_or_else(|| text.clone());
        }
    }
    let order = match message.order_by.as_str() {
        "" | "golden_id" => Order::GoldenId,
        "family_name" => Order::FamilyName,
        _ => return Err(InvalidRequest::new("order_by", "must be `golden_id` or `family_name`")),
    };
    let page = Page::new(message.page_size, &message.page_token, &[&message.filter, &message.order_by])?;
    Ok((Query { conditions, order }, page))
}

pub(crate) fn clue(message: pb::LookupCustomerRequest) -> Result<Clue, InvalidRequest> {
    let invalid = |field, description| move || InvalidRequest::new(field, description);
    match message.key {
        None => Err(InvalidRequest::new("key", "is required")),
        Some(Key::Email(text)) => {
            contact::email(&text).map(Clue::Email).ok_or_else(invalid("email", NO_EMAIL))
        }
        Some(Key::Phone(text)) => {
            contact::phone(&text).map(Clue::Phone).ok_or_else(invalid("phone", NO_PHONE))
        }
        Some(Key::LoyaltyCard(text)) => contact::loyalty_card(&text)
            .map(Clue::LoyaltyCard)
            .ok_or_else(invalid("loyalty_card", "is no card number")),
        Some(Key::Source(source)) => {
            wire::source(Some(source)).map(Clue::Source).map_err(|error| InvalidRequest::new("source", error))
        }
    }
}

pub(crate) fn update(message: pb::UpdateCustomerRequest, now: Timestamp) -> Result<Update, InvalidRequest> {
    let request =
        Request::new("omnimesh.customer.v1.CustomerService/UpdateCustomer", &message.request_id, &message)?;
    let mut violations = Violations::default();
    let fields = fields(message.update_mask, &mut violations);
    let customer = message.customer.unwrap_or_default();
    let golden_id = violations.check("customer.name", parse_name(&customer.name));
    let mut contact =
        |field: Field, text: &str, normalise: fn(&str) -> Option<String>, expected| match text.trim() {
            text if text.is_empty() || !fields.contains(&field) => String::new(),
            text => normalise(text).unwrap_or_else(|| {
                violations.add(format!("customer.{}", field.name()), expected);
                String::new()
            }),
        };
    let attributes = Attributes {
        email: contact(Field::Email, &customer.email, contact::email, NO_EMAIL),
        phone: contact(Field::Phone, &customer.phone, contact::phone, NO_PHONE),
        given_name: customer.given_name.trim().to_owned(),
        family_name: customer.family_name.trim().to_owned(),
        address: Address::from(customer.address),
    };
    let correction = Correction { fields, attributes, time: now };
    violations.finish(golden_id.map(|golden_id| Update {
        golden_id,
        correction,
        etag: customer.etag,
        request,
    }))
}

fn fields(mask: Option<FieldMask>, violations: &mut Violations) -> BTreeSet<Field> {
    let paths = mask.unwrap_or_default().paths;
    if paths.is_empty() {
        violations.add("update_mask", "is required");
    }
    let mut fields = BTreeSet::new();
    for path in paths {
        match Field::ALL.into_iter().find(|field| field.name() == path) {
            Some(field) => drop(fields.insert(field)),
            None if path == "*" => fields.extend(Field::ALL),
            None => {
                let known = Field::ALL.map(Field::name).join(", ");
                violations.add("update_mask", format!("`{path}` cannot be set; these can: {known}"));
            }
        }
    }
    fields
}

pub(crate) fn watch(message: &pb::WatchCustomersRequest) -> Result<(Begin, Vec<Condition>), Error> {
    // Of a customer's fields only the golden id never changes: by any other one a watcher would not learn who left.
    let filter = filter::parse(&message.filter, &[GOLDEN_ID])?;
    let begin = Begin::new(&message.resume_token, message.include_initial);
    Ok((begin.map_err(|_| Error::ResumeTokenInvalid)?, filter))
}
