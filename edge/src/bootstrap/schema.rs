//! What Envoy's descriptors say of its messages, each read once: fields, rules, what is deprecated.

use std::{collections::HashMap, rc::Rc};

use envoy_types::pb::validate::FieldRules;
use prost_reflect::{
    DescriptorError, DescriptorPool, DynamicMessage, EnumValueDescriptor, ExtensionDescriptor,
    FieldDescriptor, MessageDescriptor, OneofDescriptor, Value,
};

use crate::problem::{Path, Problem};

/// Compiled by build.rs from the files that `envoy-types` was made from.
static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/envoy.bin"));

/// Held while a file is read: the descriptors take more memory than everything an edge needs afterwards.
pub(super) struct Schema {
    pub(super) pool: DescriptorPool,
    rules: ExtensionDescriptor,
    required: ExtensionDescriptor,
    disallowed: ExtensionDescriptor,
    messages: HashMap<String, Rc<Message>>,
}

/// A message with what its fields' options say.
pub(super) struct Message {
    pub(super) rules: Vec<(FieldDescriptor, FieldRules)>,
    pub(super) required: Vec<OneofDescriptor>,
    pub(super) deprecated: HashMap<u32, Deprecation>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Deprecation {
    Warned,
    /// Envoy refuses it unless a runtime key allows it again.
    Refused,
}

/// Every message of Envoy's API that a file can hold.
#[cfg(not(feature = "fuzzing"))]
pub(crate) fn descriptors() -> Result<DescriptorPool, DescriptorError> {
    DescriptorPool::decode(DESCRIPTORS)
}

/// The same, kept for the next of many files.
#[cfg(feature = "fuzzing")]
pub(crate) fn descriptors() -> Result<DescriptorPool, DescriptorError> {
    static KEPT: std::sync::OnceLock<DescriptorPool> = std::sync::OnceLock::new();
    match KEPT.get() {
        Some(kept) => Ok(kept.clone()),
        None => DescriptorPool::decode(DESCRIPTORS).map(|read| KEPT.get_or_init(|| read).clone()),
    }
}

impl Schema {
    pub(super) fn read() -> Result<Schema, Problem> {
        let broken = |what: &str| Path::root().problem(format!("Envoy's descriptors are broken: {what}"));
        let pool = descriptors().map_err(|error| broken(&error.to_string()))?;
        let extension = |name: &str| pool.get_extension_by_name(name).ok_or_else(|| broken(name));
        Ok(Schema {
            rules: extension("validate.rules")?,
            required: extension("validate.required")?,
            disallowed: extension("envoy.annotations.disallowed_by_default")?,
            messages: HashMap::new(),
            pool,
        })
    }

    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Rc<Message> {
        if let Some(known) = self.messages.get(message.full_name()) {
            return Rc::clone(known);
        }
        let read = Rc::new(self.read_message(message));
        self.messages.insert(message.full_name().to_owned(), Rc::clone(&read));
        read
    }

    fn read_message(&self, message: &MessageDescriptor) -> Message {
        let (mut rules, mut deprecated) = (Vec::new(), HashMap::new());
        for field in message.fields() {
            let options = field.options();
            if options.has_extension(&self.rules)
                && let Value::Message(found) = &*options.get_extension(&self.rules)
                && let Ok(found) = found.transcode_to::<FieldRules>()
            {
                rules.push((field.clone(), found));
            }
            if set(&options, "deprecated") {
                let refused = options.get_extension(&self.disallowed).as_bool() == Some(true);
                let deprecation = if refused { Deprecation::Refused } else { Deprecation::Warned };
                deprecated.insert(field.number(), deprecation);
            }
        }
        let required = message
            .oneofs()
            .filter(|oneof| oneof.options().get_extension(&self.required).as_bool() == Some(true))
            .collect();
        Message { rules, required, deprecated }
    }
}

pub(super) fn is_deprecated(value: &EnumValueDescriptor) -> bool {
    set(&value.options(), "deprecated")
}

fn set(options: &DynamicMessage, name: &str) -> bool {
    options.get_field_by_name(name).is_some_and(|value| value.as_bool() == Some(true))
}
