//! Records as orders.

use omnimesh_proto::{
    order::v1::{Channel, OrderLine, OrderStatus, Payment, SourceOrder},
    r#type::v1::SourceRef,
};

use super::Context;
use crate::{
    definition::{LineMap, OrderMap, PaymentMap, RefMap},
    mapping::{Amount, Number, Parsed, Schema, Scope, Shape, Source, Template, Time, Version},
};

#[derive(Debug)]
pub(super) struct Mapping {
    id: Template,
    version: Version,
    channel: Channel,
    location: Option<Template>,
    time: Time,
    status: Status,
    currency: Template,
    customer: Option<Reference>,
    references: Vec<Reference>,
    lines: Lines,
    payments: Option<Payments>,
}

#[derive(Debug)]
enum Status {
    Always(OrderStatus),
    Word(Template, Vec<(String, OrderStatus)>),
}

#[derive(Debug)]
struct Reference {
    system: String,
    id: Template,
}

#[derive(Debug)]
struct Lines {
    each: Option<usize>,
    sku: Template,
    quantity: Number,
    amount: Amount,
    discounts: Vec<Amount>,
}

#[derive(Debug)]
struct Payments {
    each: Option<usize>,
    psp_ref: Option<Template>,
    method: Option<Template>,
    auth_code: Option<Template>,
    amount: Option<Amount>,
}

/// The field that a mistake is in.
fn at(field: &str) -> impl Fn(String) -> String {
    move |reason| format!("map.order.{field}: {reason}")
}

fn channel(name: &str) -> Result<Channel, String> {
    match name {
        "web" => Ok(Channel::Web),
        "marketplace" => Ok(Channel::Marketplace),
        "pos" => Ok(Channel::Pos),
        _ => Err(format!("`{name}` is no channel; these are: web, marketplace, pos")),
    }
}

fn status(name: &str) -> Result<OrderStatus, String> {
    match name {
        "placed" => Ok(OrderStatus::Placed),
        "completed" => Ok(OrderStatus::Completed),
        "cancelled" => Ok(OrderStatus::Cancelled),
        _ => Err(format!("`{name}` is no status; these are: placed, completed, cancelled")),
    }
}

fn optional(text: Option<&String>, source: Source<'_>) -> Result<Option<Template>, String> {
    text.map(|text| Template::new(text, source)).transpose()
}

impl Mapping {
    pub(super) fn new(map: &OrderMap, source: Source<'_>) -> Result<Self, String> {
        let customer = map.customer.as_ref().map(|map| Reference::new(map, source)).transpose();
        let references: Result<_, _> = map.references.iter().map(|map| Reference::new(map, source)).collect();
        let payments = map.payments.as_ref().map(|payments| Payments::new(payments, map.decimals, source));
        Ok(Self {
            id: Template::new(&map.id, source).map_err(at("id"))?,
            version: Version::new(&map.version, source).map_err(at("version"))?,
            channel: channel(&map.channel).map_err(at("channel"))?,
            location: optional(map.location.as_ref(), source).map_err(at("location"))?,
            time: Time::new(&map.time, source).map_err(at("time"))?,
            status: Status::new(map, source)?,
            currency: Template::new(&map.currency, source).map_err(at("currency"))?,
            customer: customer.map_err(at("customer"))?,
            references: references.map_err(at("references"))?,
            lines: Lines::new(&map.lines, map.decimals, source).map_err(at("lines"))?,
            payments: payments.transpose().map_err(at("payments"))?,
        })
    }

    /// The order that a document is.
    pub(super) fn document(&self, context: Context<'_>, record: &Parsed<'_>) -> Result<SourceOrder, String> {
        let schema = context.schema;
        let mut order = self.head(context, record.scope())?;
        let scopes = scopes(schema, record, self.lines.each)?;
        for scope in scopes {
            order.lines.push(self.lines.line(schema, scope)?);
        }
        if order.lines.is_empty() {
            return Err("the order has no lines".to_owned());
        }
        self.pay(context, record, &mut order)?;
        Ok(order)
    }

    /// The order that a group of rows is, and the rows that are no part of it.
    pub(super) fn rows<'r>(
        &self,
        context: Context<'_>,
        rows: impl Iterator<Item = (usize, &'r Parsed<'r>)> + Clone,
    ) -> (Option<SourceOrder>, Vec<(usize, String)>) {
        let mut order = None;
        let mut first = None;
        let mut bad = Vec::new();
        for (number, row) in rows.clone() {
            let taken = self.lines.line(context.schema, row.scope()).and_then(|line| {
                if order.is_none() {
                    order = Some(self.head(context, row.scope())?);
                    first = Some(row);
                }
                Ok(line)
            });
            match (taken, &mut order) {
                (Ok(line), Some(order)) => order.lines.push(line),
                (Err(reason), _) => bad.push((number, reason)),
                (Ok(_), None) => {}
            }
        }
        if let (Some(order), Some(first)) = (&mut order, first)
            && let Err(reason) = self.pay(context, first, order)
        {
            return (None, rows.map(|(number, _)| (number, reason.clone())).chain(bad).collect());
        }
        (order, bad)
    }

    fn head(&self, context: Context<'_>, scope: Scope<'_>) -> Result<SourceOrder, String> {
        let Context { system, schema, file_version } = context;
        let id = self.id.required(schema, scope, "the order's id")?;
        let time = self.time.read(schema, scope)?.ok_or("the order's time is missing")?;
        let reference = |reference: &Reference| reference.read(schema, scope).transpose();
        let references: Result<_, String> = self.references.iter().filter_map(reference).collect();
        Ok(SourceOrder {
            source: Some(SourceRef { system: system.to_owned(), id }),
            version: self.version.read(schema, scope, file_version)?,
            channel: self.channel.into(),
            location_id: self
                .location
                .as_ref()
                .map_or(Ok(String::new()), |text| text.or_empty(schema, scope))?,
            order_time: Some(time.into()),
            status: self.status.read(schema, scope)?.into(),
            currency_code: self.currency.required(schema, scope, "the currency")?,
            lines: Vec::new(),
            payments: Vec::new(),
            customer: self.customer.as_ref().and_then(reference).transpose()?,
            references: references?,
        })
    }

    fn pay(&self, context: Context<'_>, record: &Parsed<'_>, order: &mut SourceOrder) -> Result<(), String> {
        let total = order.lines.iter().try_fold(0_i64, |sum, line| sum.checked_add(line.amount_minor));
        let total = total.ok_or("the lines' amounts are too large")?;
        let Some(payments) = &self.payments else { return Ok(()) };
        for scope in scopes(context.schema, record, payments.each)? {
            order.payments.push(payments.payment(context.schema, scope, total)?);
        }
        Ok(())
    }
}

fn scopes<'r>(
    schema: &Schema,
    record: &'r Parsed<'_>,
    each: Option<usize>,
) -> Result<Vec<Scope<'r>>, String> {
    match each {
        Some(array) => record.each(schema, array),
        None => Ok(vec![record.scope()]),
    }
}

impl Status {
    fn new(map: &OrderMap, source: Source<'_>) -> Result<Self, String> {
        let Some(text) = &map.status else { return Ok(Self::Always(OrderStatus::Unspecified)) };
        let template = Template::new(text, source).map_err(at("status"))?;
        if let Some(constant) = template.constant() {
            return status(constant).map(Self::Always).map_err(at("status"));
        }
        let words = map.statuses.iter().map(|(word, name)| Ok((word.clone(), status(name)?)));
        let words: Result<_, String> = words.collect();
        Ok(Self::Word(template, words.map_err(at("statuses"))?))
    }

    fn read(&self, schema: &Schema, scope: Scope<'_>) -> Result<OrderStatus, String> {
        match self {
            Self::Always(status) => Ok(*status),
            Self::Word(template, words) => match template.text(schema, scope)? {
                None => Ok(OrderStatus::Unspecified),
                Some(word) => {
                    let found = words.iter().find(|(known, _)| **known == *word).map(|(_, status)| *status);
                    found.ok_or_else(|| format!("`{word}` is no status that the mapping knows"))
                }
            },
        }
    }
}

impl Reference {
    fn new(map: &RefMap, source: Source<'_>) -> Result<Self, String> {
        Ok(Self { system: map.system.clone(), id: Template::new(&map.id, source)? })
    }

    fn read(&self, schema: &Schema, scope: Scope<'_>) -> Result<Option<SourceRef>, String> {
        let id = self.id.text(schema, scope)?;
        Ok(id.map(|id| SourceRef { system: self.system.clone(), id: id.into_owned() }))
    }
}

/// The array that `each` names; documents have one, rows are lines themselves.
fn within<'s>(each: Option<&String>, source: Source<'s>) -> Result<Source<'s>, String> {
    let each = each.map(|name| source.schema.array_named(name)).transpose()?;
    Ok(Source { each, ..source })
}

impl Lines {
    fn new(map: &LineMap, decimals: u32, source: Source<'_>) -> Result<Self, String> {
        let source = within(map.each.as_ref(), source)?;
        if source.each.is_none() && source.schema.shape() == Shape::Document {
            return Err("each: the name of the array of lines is due".to_owned());
        }
        let discounts: Result<_, _> =
            map.discounts.iter().map(|text| Amount::new(text, source, decimals)).collect();
        Ok(Self {
            each: source.each,
            sku: Template::new(&map.sku, source).map_err(|reason| format!("sku: {reason}"))?,
            quantity: Number::new(&map.quantity, source).map_err(|reason| format!("quantity: {reason}"))?,
            amount: Amount::new(&map.amount, source, decimals)
                .map_err(|reason| format!("amount: {reason}"))?,
            discounts: discounts.map_err(|reason| format!("discounts: {reason}"))?,
        })
    }

    fn line(&self, schema: &Schema, scope: Scope<'_>) -> Result<OrderLine, String> {
        let discount_minor = self.discounts.iter().try_fold(0_i64, |sum, amount| {
            let sum = sum.checked_add(amount.read(schema, scope)?);
            sum.ok_or_else(|| "the discounts are too large".to_owned())
        })?;
        Ok(OrderLine {
            sku: self.sku.required(schema, scope, "the sku")?,
            quantity: self.quantity.read(schema, scope)?,
            amount_minor: self.amount.read(schema, scope)?,
            discount_minor,
        })
    }
}

impl Payments {
    fn new(map: &PaymentMap, decimals: u32, source: Source<'_>) -> Result<Self, String> {
        let source = within(map.each.as_ref(), source)?;
        let amount = map.amount.as_ref().map(|text| Amount::new(text, source, decimals));
        let text = |field: &str, template: &Option<String>| {
            optional(template.as_ref(), source).map_err(|reason| format!("{field}: {reason}"))
        };
        Ok(Self {
            each: source.each,
            psp_ref: text("psp_ref", &map.psp_ref)?,
            method: text("method", &map.method)?,
            auth_code: text("auth_code", &map.auth_code)?,
            amount: amount.transpose().map_err(|reason| format!("amount: {reason}"))?,
        })
    }

    fn payment(&self, schema: &Schema, scope: Scope<'_>, total: i64) -> Result<Payment, String> {
        let text = |template: &Option<Template>| {
            template.as_ref().map_or(Ok(String::new()), |template| template.or_empty(schema, scope))
        };
        Ok(Payment {
            psp_ref: text(&self.psp_ref)?,
            method: text(&self.method)?,
            auth_code: text(&self.auth_code)?,
            amount_minor: self.amount.as_ref().map_or(Ok(total), |amount| amount.read(schema, scope))?,
        })
    }
}
