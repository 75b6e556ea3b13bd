//! An Envoy v3 bootstrap, read as strictly as Envoy reads it, into Envoy's own types.
//!
//! `yaml` makes a tree that remembers lines; `decode` walks it along the descriptors of Envoy's messages (`schema`),
//! with `scalar` for single values, `rules` for the constraints that the messages carry, `support` for what this edge
//! does with each field, and `advice` for what to tell the author; `migrate` rewrites what older Envoys read.

mod advice;
mod decode;
mod lines;
mod migrate;
mod names;
mod rules;
mod scalar;
mod schema;
mod support;
mod tree;
mod yaml;

use std::sync::Arc;

use envoy_types::pb::{envoy::config::bootstrap::v3::Bootstrap, google::protobuf::Any};
use prost::{Message, Name};

use crate::problem::{Path, Problem};
use decode::Decoder;
pub use lines::Lines;
pub use migrate::migrate;
pub(crate) use schema::descriptors;
pub use support::{Report, Support};

/// A bootstrap whose every field is known, well formed, and implemented or without effect.
#[derive(Debug)]
pub struct Loaded {
    pub bootstrap: Bootstrap,
    /// Deprecated fields, and fields without effect here.
    pub warnings: Vec<Problem>,
    pub lines: Lines,
}

/// Reads YAML or JSON. All problems are told at once, in the file's order.
pub fn load(text: &str) -> Result<Loaded, Vec<Problem>> {
    let (mut decoder, lines, bytes) = decode(text)?;
    decoder.problems.append(&mut decoder.unsupported);
    refuse(decoder.problems)?;
    let bootstrap =
        Bootstrap::decode(&*bytes).map_err(|error| vec![lines.locate(undecodable(&Path::root(), &error))])?;
    Ok(Loaded { bootstrap, warnings: sorted(decoder.warnings), lines })
}

/// What a well-formed file uses, and whether it is implemented here.
pub fn support_report(text: &str) -> Result<Report, Vec<Problem>> {
    let (decoder, ..) = decode(text)?;
    refuse(decoder.problems)?;
    Ok(decoder.report)
}

/// Writes JSON as the YAML that people edit.
pub(crate) fn to_yaml(value: &serde_json::Value) -> String {
    tree::Tree::from(value).to_yaml()
}

/// The name of the message that a type URL names.
pub(crate) fn type_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or_default()
}

/// The message inside, which `load` has checked, or a complaint that another one is due.
pub fn unpack<T: Message + Name + Default>(any: &Any, at: &Path<'_>) -> Result<T, Problem> {
    let name = type_name(&any.type_url);
    if name != T::full_name() {
        return Err(at.problem(format!("{} is due here, not {name}", T::full_name())));
    }
    T::decode(&*any.value).map_err(|error| undecodable(at, &error))
}

fn decode(text: &str) -> Result<(Decoder, Lines, Vec<u8>), Vec<Problem>> {
    let root = yaml::parse(text).map_err(|problem| vec![problem])?;
    let lines = Lines(Arc::clone(&root));
    let at = Path::root();
    if root.entries().is_none() {
        return Err(vec![lines.locate(at.problem(format!("a mapping is due, not {}", root.kind())))]);
    }
    let mut decoder = Decoder::new().map_err(|problem| vec![problem])?;
    let kind = decoder.schema.pool.get_message_by_name(&Bootstrap::full_name());
    let message = kind.and_then(|kind| decoder.message(&kind, &root, &at));
    // What the rules found has no line yet.
    decoder.problems =
        std::mem::take(&mut decoder.problems).into_iter().map(|problem| lines.locate(problem)).collect();
    Ok((decoder, lines, message.map(|message| message.encode_to_vec()).unwrap_or_default()))
}

fn refuse(problems: Vec<Problem>) -> Result<(), Vec<Problem>> {
    if problems.is_empty() { Ok(()) } else { Err(sorted(problems)) }
}

fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.line);
    problems
}

fn undecodable(at: &Path<'_>, error: &prost::DecodeError) -> Problem {
    at.problem(format!("cannot be held: {error}"))
}
