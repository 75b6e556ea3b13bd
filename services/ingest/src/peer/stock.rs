//! Records as stock movements.

use omnimesh_proto::{
    inventory::v1::{MovementKind, StockMovement},
    r#type::v1::SourceRef,
};

use super::Context;
use crate::{
    definition::StockMap,
    mapping::{Number, Parsed, Source, Template, Time},
};

#[derive(Debug)]
pub(super) struct Mapping {
    id: Template,
    sku: Template,
    location: Template,
    kind: MovementKind,
    quantity: Number,
    time: Time,
}

fn kind(name: &str) -> Result<MovementKind, String> {
    match name {
        "count" => Ok(MovementKind::Count),
        "delivery" => Ok(MovementKind::Delivery),
        "sale" => Ok(MovementKind::Sale),
        "adjustment" => Ok(MovementKind::Adjustment),
        _ => Err(format!("`{name}` is no kind; these are: count, delivery, sale, adjustment")),
    }
}

impl Mapping {
    pub(super) fn new(map: &StockMap, source: Source<'_>) -> Result<Self, String> {
        let at = |field: &'static str| move |reason: String| format!("map.stock.{field}: {reason}");
        Ok(Self {
            id: Template::new(&map.id, source).map_err(at("id"))?,
            sku: Template::new(&map.sku, source).map_err(at("sku"))?,
            location: Template::new(&map.location, source).map_err(at("location"))?,
            kind: kind(&map.kind).map_err(at("kind"))?,
            quantity: Number::new(&map.quantity, source).map_err(at("quantity"))?,
            time: Time::new(&map.time, source).map_err(at("time"))?,
        })
    }

    pub(super) fn record(&self, context: Context<'_>, record: &Parsed<'_>) -> Result<StockMovement, String> {
        let (schema, scope) = (context.schema, record.scope());
        let id = self.id.required(schema, scope, "the movement's id")?;
        let time = self.time.read(schema, scope)?.ok_or("the movement's time is missing")?;
        Ok(StockMovement {
            sku: self.sku.required(schema, scope, "the sku")?,
            location_id: self.location.required(schema, scope, "the location")?,
            kind: self.kind.into(),
            quantity: self.quantity.read(schema, scope)?,
            event_time: Some(time.into()),
            source: Some(SourceRef { system: context.system.to_owned(), id }),
            ..StockMovement::default()
        })
    }
}
