//! Reading raw records in SQL: `json_record(payload, 'a', 'b')` and `csv_record(payload, 'a', 'b')` give a record with the
//! texts `a` and `b`, in one pass over the payload. A CSV record's names are those of its columns, in order.
//!
//! What is empty is null, as it is where records are mapped; so is every field of a payload that is none of its format.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, StringBuilder, StructArray},
    datatypes::{DataType, Field, FieldRef, Fields},
};
use datafusion::{
    common::{Result, exec_err, internal_err, plan_err},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
};
use serde_json::{Map, Value};
use types::csv;

/// The functions of this module.
pub(super) fn functions() -> impl Iterator<Item = ScalarUDF> {
    [Format::Json, Format::Csv].into_iter().map(|format| {
        let signature = Signature::variadic(vec![DataType::Utf8], Volatility::Immutable);
        ScalarUDF::from(RecordFunction { format, signature })
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Format {
    Json,
    Csv,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct RecordFunction {
    format: Format,
    signature: Signature,
}

impl ScalarUDFImpl for RecordFunction {
    fn name(&self) -> &'static str {
        match self.format {
            Format::Json => "json_record",
            Format::Csv => "csv_record",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the names of the fields tell the type of {}", self.name())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let names = args.scalar_arguments.iter().skip(1);
        let names: Option<Vec<_>> =
            names.map(|name| name.and_then(|name| name.try_as_str().flatten())).collect();
        let Some(names) = names.filter(|names| !names.is_empty()) else {
            return plan_err!("{} takes a payload and the names of its fields as literals", self.name());
        };
        let fields: Fields = names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
        Ok(Arc::new(Field::new(self.name(), DataType::Struct(fields), false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::Struct(fields) = args.return_field.data_type() else {
            return internal_err!("{} gives records", self.name());
        };
        let Some(payloads) = args.args.first() else {
            return exec_err!("{} takes a payload", self.name());
        };
        let payloads = payloads.to_array(args.number_rows)?;
        let mut columns: Vec<_> = fields.iter().map(|_| StringBuilder::new()).collect();
        for payload in payloads.as_string::<i32>() {
            let texts = payload.and_then(|payload| self.format.read(payload, fields)).unwrap_or_default();
            let texts = texts.into_iter().map(|text| text.filter(|text| !text.is_empty()));
            for (column, text) in columns.iter_mut().zip(texts.chain(std::iter::repeat(None))) {
                column.append_option(text);
            }
        }
        let columns = columns.into_iter().map(|mut column| Arc::new(column.finish()) as ArrayRef).collect();
        Ok(ColumnarValue::Array(Arc::new(StructArray::try_new(fields.clone(), columns, None)?)))
    }
}

impl Format {
    /// The texts of a payload's fields; none if it cannot be read.
    fn read(self, payload: &str, fields: &Fields) -> Option<Vec<Option<String>>> {
        if payload.contains(char::REPLACEMENT_CHARACTER) {
            return None;
        }
        match self {
            Self::Csv => {
                let columns = csv::row(payload).ok().filter(|columns| columns.len() == fields.len())?;
                Some(columns.into_iter().map(|column| Some(column.into_owned())).collect())
            }
            Self::Json => {
                let mut document: Map<String, Value> = serde_json::from_str(payload).ok()?;
                Some(fields.iter().map(|field| document.remove(field.name()).and_then(text)).collect())
            }
        }
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn ask(sql: &str) -> Result<String> {
        let context = SessionContext::new();
        functions().for_each(|function| context.register_udf(function));
        let batches = context.sql(sql).await?.collect().await?;
        let table = pretty_format_batches(&batches)?.to_string();
        let rows = table.lines().skip(3).filter(|line| !line.starts_with('+'));
        let cells = |row: &str| row.split('|').map(str::trim).collect::<Vec<_>>().join("|");
        Ok(rows.map(cells).collect::<Vec<_>>().join(" "))
    }

    #[tokio::test]
    async fn records_are_read_by_name() {
        let sql = r#"SELECT r['id'], r['n'], r['on'], r['in'], r['none'] FROM (
            SELECT json_record(payload, 'id', 'n', 'on', 'in', 'none') AS r FROM (VALUES
                ('{"id":"a","n":1.50,"on":true,"in":{"x":[1]},"none":null}'), ('{"id":"","n":0}'),
                ('{"id":"b","n":s-0}'), ('[1]'), ('{"id":'), (NULL)) AS landed (payload))"#;
        let found = ask(sql).await.unwrap();
        assert_eq!(found, r#"|a|1.5|true|{"x":[1]}|| ||0|||| |||||| |||||| |||||| ||||||"#);
        let sql = r#"SELECT r['a'], r['b'] FROM (SELECT csv_record(payload, 'a', 'b') AS r FROM (VALUES
            ('1,2'), ('"x, y",'), ('1'), ('1,2,3'), ('"1,2'), ('')) AS landed (payload))"#;
        assert_eq!(ask(sql).await.unwrap(), "|1|2| |x, y|| ||| ||| ||| |||");
    }

    #[tokio::test]
    async fn fields_are_named_by_literals() {
        for sql in ["SELECT json_record('{}')", "SELECT csv_record(a, a) FROM (VALUES ('1')) AS t (a)"] {
            let error = ask(sql).await.unwrap_err().to_string();
            assert!(error.contains("the names of its fields"), "{error}");
        }
    }
}
