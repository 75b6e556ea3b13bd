//! Records as persons' records.

use omnimesh_proto::{
    identity::v1::IdentityRecord,
    r#type::v1::{Address, SourceRef},
};
use types::Timestamp;

use super::Context;
use crate::{
    definition::IdentityMap,
    mapping::{Parsed, Source, Template, Time},
};

#[derive(Debug)]
pub(super) struct Mapping {
    id: Template,
    /// Given name, family name, e-mail, phone, loyalty card, street, city, postcode, country.
    texts: [Option<Template>; 9],
    update_time: Vec<Time>,
}

impl Mapping {
    pub(super) fn new(map: &IdentityMap, source: Source<'_>) -> Result<Self, String> {
        let at = |field: &'static str| move |reason: String| format!("map.identity.{field}: {reason}");
        let text = |field: &'static str, text: &Option<String>| {
            text.as_ref().map(|text| Template::new(text, source)).transpose().map_err(at(field))
        };
        let update_time: Result<_, _> = map.update_time.iter().map(|text| Time::new(text, source)).collect();
        Ok(Self {
            id: Template::new(&map.id, source).map_err(at("id"))?,
            texts: [
                text("given_name", &map.given_name)?,
                text("family_name", &map.family_name)?,
                text("email", &map.email)?,
                text("phone", &map.phone)?,
                text("loyalty_card", &map.loyalty_card)?,
                text("street", &map.street)?,
                text("city", &map.city)?,
                text("postcode", &map.postcode)?,
                text("country", &map.country)?,
            ],
            update_time: update_time.map_err(at("update_time"))?,
        })
    }

    pub(super) fn record(&self, context: Context<'_>, record: &Parsed<'_>) -> Result<IdentityRecord, String> {
        let (schema, scope) = (context.schema, record.scope());
        let id = self.id.required(schema, scope, "the record's id")?;
        let mut texts = [const { String::new() }; 9];
        for (text, template) in texts.iter_mut().zip(&self.texts) {
            if let Some(template) = template {
                *text = template.or_empty(schema, scope)?;
            }
        }
        let mut update_time = None;
        for time in &self.update_time {
            update_time = update_time.or(time.read(schema, scope)?);
        }
        let [given_name, family_name, email, phone, loyalty_card, street, city, postcode, country_code] =
            texts;
        let address = Address { street, city, postcode, country_code };
        Ok(IdentityRecord {
            source: Some(SourceRef { system: context.system.to_owned(), id }),
            given_name,
            family_name,
            email,
            phone,
            loyalty_card,
            address: (address != Address::default()).then_some(address),
            update_time: Some(update_time.unwrap_or(Timestamp::from_micros(0)).into()),
        })
    }
}
