//! What an operator wants every span to tell besides.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::r#type::tracing::v3::CustomTag;
use envoy_types::pb::envoy::r#type::tracing::v3::custom_tag::Type;
use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::super::otlp::attribute;
use crate::call::Call;
use crate::head::{Field, Fields};
use crate::problem::{Path, Problem};

/// Where a tag's value comes from.
#[derive(Clone, Debug)]
pub(super) enum Tag {
    Text(String),
    Header { field: Field, default: String },
}

/// Tags by name.
pub(super) fn compile(config: &[CustomTag], at: &Path<'_>) -> Result<BTreeMap<String, Tag>, Problem> {
    let at = at.field("custom_tags");
    let tags = config.iter().enumerate().map(|(index, tag)| {
        let at = at.index(index);
        let read = match &tag.r#type {
            Some(Type::Literal(literal)) => Tag::Text(literal.value.clone()),
            Some(Type::Environment(variable)) => {
                Tag::Text(std::env::var(&variable.name).unwrap_or_else(|_| variable.default_value.clone()))
            }
            Some(Type::RequestHeader(header)) => Tag::Header {
                field: Field::parse(&header.name, &at.field("request_header").field("name"))?,
                default: header.default_value.clone(),
            },
            _ => return Err(at.problem("say literal, environment or request_header")),
        };
        Ok((tag.tag.clone(), read))
    });
    tags.collect()
}

/// What the tags say of a call; those of its route go before the others.
pub(super) fn read(
    tags: &BTreeMap<String, Tag>,
    own: Option<&BTreeMap<String, Tag>>,
    call: &Call,
) -> Vec<KeyValue> {
    let own = own.into_iter().flatten();
    let others = tags.iter().filter(|(name, _)| !own.clone().any(|(own, _)| own == *name));
    let all = own.clone().chain(others).map(|(name, tag)| (name, tag.read(call)));
    all.filter(|(_, value)| !value.is_empty()).map(|(name, value)| attribute(name, value)).collect()
}

impl Tag {
    fn read(&self, call: &Call) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Header { field, default } => match call.request.first(field) {
                Some(value) => String::from_utf8_lossy(value).into_owned(),
                None => default.clone(),
            },
        }
    }
}
