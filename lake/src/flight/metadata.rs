//! What a driver asks before it queries: which tables there are, and what the server can do.

use arrow::{array::RecordBatch, datatypes::Schema};
use arrow_flight::{
    error::Result,
    sql::{
        CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables, Nullable,
        Searchable, SqlInfo, SqlSupportedTransaction, XdbcDataType,
        metadata::{
            SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
        },
    },
};

use super::query::LAYERS;
use crate::{TableName, sql::CATALOG};

const TABLE: &str = "TABLE";

pub(super) fn catalogs(query: CommandGetCatalogs) -> Result<RecordBatch> {
    let mut rows = query.into_builder();
    rows.append(CATALOG);
    rows.build()
}

pub(super) fn schemas(query: CommandGetDbSchemas) -> Result<RecordBatch> {
    let mut rows = query.into_builder();
    LAYERS.iter().for_each(|layer| rows.append(CATALOG, layer.as_str()));
    rows.build()
}

pub(super) fn tables(query: CommandGetTables, tables: &[(TableName, Schema)]) -> Result<RecordBatch> {
    let mut rows = query.into_builder();
    for (name, schema) in tables {
        rows.append(CATALOG, name.layer().as_str(), name.as_str(), TABLE, schema)?;
    }
    rows.build()
}

pub(super) fn table_types(query: CommandGetTableTypes) -> Result<RecordBatch> {
    let mut rows = query.into_builder();
    rows.append(TABLE);
    rows.build()
}

pub(super) fn sql_info() -> Result<SqlInfoData> {
    let mut infos = SqlInfoDataBuilder::new();
    infos.append(SqlInfo::FlightSqlServerName, "Omnimesh");
    infos.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    infos.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    infos.append(SqlInfo::FlightSqlServerReadOnly, true);
    infos.append(SqlInfo::FlightSqlServerSql, true);
    infos.append(SqlInfo::FlightSqlServerSubstrait, false);
    infos.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    infos.append(SqlInfo::FlightSqlServerCancel, true);
    infos.append(SqlInfo::SqlDdlCatalog, false);
    infos.append(SqlInfo::SqlDdlSchema, false);
    infos.append(SqlInfo::SqlDdlTable, false);
    infos.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    infos.build()
}

/// The types of the tables' columns.
pub(super) fn types() -> Result<XdbcTypeInfoData> {
    let mut infos = XdbcTypeInfoDataBuilder::new();
    for (name, kind, size, is_quoted) in [
        ("BOOLEAN", XdbcDataType::XdbcBit, 1, false),
        ("INTEGER", XdbcDataType::XdbcInteger, 32, false),
        ("BIGINT", XdbcDataType::XdbcBigint, 64, false),
        ("FLOAT", XdbcDataType::XdbcFloat, 24, false),
        ("DOUBLE", XdbcDataType::XdbcDouble, 53, false),
        ("VARCHAR", XdbcDataType::XdbcVarchar, i32::MAX, true),
        ("VARBINARY", XdbcDataType::XdbcVarbinary, i32::MAX, true),
        ("DATE", XdbcDataType::XdbcDate, 10, true),
        ("TIMESTAMP", XdbcDataType::XdbcTimestamp, 26, true),
    ] {
        let quote = is_quoted.then(|| "'".to_owned());
        infos.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type: kind,
            sql_data_type: kind,
            column_size: Some(size),
            literal_prefix: quote.clone(),
            literal_suffix: quote,
            nullable: Nullable::NullabilityNullable,
            case_sensitive: kind == XdbcDataType::XdbcVarchar,
            searchable: Searchable::Full,
            ..XdbcTypeInfo::default()
        });
    }
    infos.build()
}
