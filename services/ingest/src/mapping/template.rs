//! Templates, compiled: which fields make up a command's field.

use std::borrow::Cow;

use types::Timestamp;

use super::{Schema, Scope, Type, kind};

/// What a template is compiled against: an entity's fields, seen from within the array `each` or from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'s> {
    pub(crate) schema: &'s Schema,
    pub(crate) each: Option<usize>,
}

/// A text.
#[derive(Debug)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    Field(usize),
    Given(usize),
    Family(usize),
}

const FILE_VERSION: &str = "{file.version}";

impl Template {
    pub(crate) fn new(text: &str, source: Source<'_>) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("`{text}` lacks a closing brace"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let (name, filter) =
                name.split_once('|').map_or((name, None), |(name, filter)| (name, Some(filter)));
            let field = field(name, source)?;
            parts.push(match filter {
                None => Part::Field(field),
                Some("given") => Part::Given(field),
                Some("family") => Part::Family(field),
                Some(other) => return Err(format!("`{other}` is no filter; these are: given, family")),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Fails if `text` is no template of fields, wherever they are in a record.
    pub(crate) fn check(text: &str, schema: &Schema) -> Result<(), String> {
        let array = text.split_once("[].").and_then(|(before, _)| before.rsplit('{').next());
        let each = array.map(|name| schema.array_named(name)).transpose()?;
        match Self::new(text, Source { schema, each })?.0.iter().all(|part| matches!(part, Part::Text(_))) {
            true => Err(format!("`{text}` names no field; write it between braces, such as `{{name}}`")),
            false => Ok(()),
        }
    }

    /// The template's text, unless it stands for fields.
    pub(crate) fn constant(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    fn only_field(&self) -> Option<usize> {
        match self.0.as_slice() {
            [Part::Field(field)] => Some(*field),
            _ => None,
        }
    }

    /// The text, or nothing if one of its fields is missing.
    pub(crate) fn text<'r>(&self, schema: &Schema, scope: Scope<'r>) -> Result<Option<Cow<'r, str>>, String> {
        if let [part] = self.0.as_slice() {
            return part.text(schema, scope);
        }
        let mut text = String::new();
        for part in &self.0 {
            match part.text(schema, scope)? {
                Some(part) => text.push_str(&part),
                None => return Ok(None),
            }
        }
        Ok(Some(Cow::Owned(text)))
    }

    /// The text, empty if it is missing: what the contract takes for an absent field.
    pub(crate) fn or_empty(&self, schema: &Schema, scope: Scope<'_>) -> Result<String, String> {
        Ok(self.text(schema, scope)?.map(Cow::into_owned).unwrap_or_default())
    }

    /// The text, which must be there.
    pub(crate) fn required(&self, schema: &Schema, scope: Scope<'_>, what: &str) -> Result<String, String> {
        self.text(schema, scope)?.map(Cow::into_owned).ok_or_else(|| format!("{what}: is missing"))
    }
}

impl Part {
    fn text<'r>(&self, schema: &Schema, scope: Scope<'r>) -> Result<Option<Cow<'r, str>>, String> {
        let value = |field: &usize| scope.text(&schema.fields()[*field], *field);
        Ok(match self {
            Self::Text(text) => Some(Cow::Owned(text.clone())),
            Self::Field(field) => value(field)?,
            Self::Given(field) => value(field)?.map(|name| Cow::Owned(names(&name).0.to_owned())),
            Self::Family(field) => value(field)?.map(|name| Cow::Owned(names(&name).1.to_owned())),
        })
    }
}

fn field(name: &str, source: Source<'_>) -> Result<usize, String> {
    let index = source.schema.field(name)?;
    let each = source.schema.fields()[index].each;
    if each.is_some() && each != source.each {
        return Err(format!(
            "`{name}` is of an array's elements and can only be used where `each` names the array"
        ));
    }
    Ok(index)
}

/// Given and family name of `Maria Lopez` and of `LOPEZ, MARIA`.
fn names(full: &str) -> (&str, &str) {
    if let Some((family, given)) = full.split_once(',') {
        return (given.trim(), family.trim());
    }
    full.trim().rsplit_once(' ').map_or((full.trim(), ""), |(given, family)| (given.trim(), family))
}

fn typed(text: &str, source: Source<'_>, of: fn(Type) -> bool, due: &str) -> Result<(usize, Type), String> {
    let field = Template::new(text, source)?.only_field();
    let field = field.ok_or_else(|| format!("`{text}` is not one field, such as `{{name}}`"))?;
    let r#type = source.schema.fields()[field].kind.r#type;
    if of(r#type) { Ok((field, r#type)) } else { Err(format!("`{text}` is no {due} in `expect`")) }
}

/// A time.
#[derive(Debug)]
pub(crate) struct Time(usize, Type);

impl Time {
    pub(crate) fn new(text: &str, source: Source<'_>) -> Result<Self, String> {
        typed(text, source, Type::is_time, "time, datetime or date").map(|(field, kind)| Self(field, kind))
    }

    pub(crate) fn read(&self, schema: &Schema, scope: Scope<'_>) -> Result<Option<Timestamp>, String> {
        let text = scope.text(&schema.fields()[self.0], self.0)?;
        text.map(|text| self.1.time(&text)).transpose()
    }
}

/// An integer.
#[derive(Debug)]
pub(crate) struct Number(usize);

impl Number {
    pub(crate) fn new(text: &str, source: Source<'_>) -> Result<Self, String> {
        typed(text, source, |kind| kind == Type::Integer, "integer").map(|(field, _)| Self(field))
    }

    pub(crate) fn read(&self, schema: &Schema, scope: Scope<'_>) -> Result<i64, String> {
        let field = &schema.fields()[self.0];
        let text = scope.text(field, self.0)?.ok_or_else(|| format!("{}: is missing", field.name))?;
        kind::integer(&text)
    }
}

/// An amount of money, in minor units.
#[derive(Debug)]
pub(crate) struct Amount {
    field: usize,
    /// Nothing where the source writes minor units itself.
    decimals: Option<u32>,
}

impl Amount {
    pub(crate) fn new(text: &str, source: Source<'_>, decimals: u32) -> Result<Self, String> {
        let is_amount = |kind| matches!(kind, Type::Decimal | Type::Integer);
        let (field, kind) = typed(text, source, is_amount, "decimal or integer")?;
        Ok(Self { field, decimals: (kind == Type::Decimal).then_some(decimals) })
    }

    /// The amount; what is missing is 0.
    pub(crate) fn read(&self, schema: &Schema, scope: Scope<'_>) -> Result<i64, String> {
        let field = &schema.fields()[self.field];
        let Some(text) = scope.text(field, self.field)? else { return Ok(0) };
        let amount = match self.decimals {
            Some(decimals) => kind::minor(&text, decimals),
            None => kind::integer(&text),
        };
        amount.map_err(|reason| format!("{}: {reason}", field.name))
    }
}

/// A record's version: what a newer one has more of.
#[derive(Debug)]
pub(crate) enum Version {
    File,
    Time(Time),
    Number(Number),
}

impl Version {
    pub(crate) fn new(text: &str, source: Source<'_>) -> Result<Self, String> {
        if text == FILE_VERSION {
            return Ok(Self::File);
        }
        let number = Number::new(text, source).map(Self::Number);
        number.or_else(|_| Time::new(text, source).map(Self::Time)).map_err(|_| {
            format!(
                "`{text}` is neither `{FILE_VERSION}` nor one field that is an integer or a time in `expect`"
            )
        })
    }

    pub(crate) fn read(&self, schema: &Schema, scope: Scope<'_>, file_version: i64) -> Result<i64, String> {
        match self {
            Self::File => Ok(file_version),
            Self::Number(number) => number.read(schema, scope),
            Self::Time(time) => time
                .read(schema, scope)?
                .map(Timestamp::micros)
                .ok_or_else(|| "the version is missing".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names_have_two_parts() {
        for (full, given, family) in [
            ("Maria Lopez", "Maria", "Lopez"),
            ("LOPEZ, MARIA", "MARIA", "LOPEZ"),
            ("Mary Ann Smith", "Mary Ann", "Smith"),
            ("Cher", "Cher", ""),
        ] {
            assert_eq!(names(full), (given, family));
        }
    }
}
