//! A query as its text, its parameters and the versions that it reads: what tickets and handles carry.

use std::collections::BTreeMap;

use arrow::{
    array::{ArrayRef, RecordBatch},
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use arrow_flight::{
    FlightData,
    decode::FlightRecordBatchStream,
    error::FlightError,
    sql::{Any, Command},
};
use datafusion::common::ScalarValue;
use futures::{Stream, TryStreamExt};
use prost::Message;

use super::Failure;
use crate::Error;

/// What may be bound, in bytes: a handle travels with every call.
const PARAMETER_BYTES: usize = 1024 * 1024;

/// A query on its way between a caller and whichever replica answers. There is nothing in it that its holder could not
/// have asked for.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Statement {
    #[prost(string, tag = "1")]
    pub(super) sql: String,
    /// A row with a column for each parameter, as an Arrow stream; empty if nothing was bound.
    #[prost(bytes = "vec", tag = "2")]
    parameters: Vec<u8>,
    /// The version of each table that it reads; none until it is planned.
    #[prost(btree_map = "string, uint64", tag = "3")]
    pub(super) versions: BTreeMap<String, u64>,
    /// What it is cancelled by.
    #[prost(string, tag = "4")]
    pub(super) run: String,
}

impl Statement {
    pub(super) fn new(sql: String) -> Self {
        Self { sql, ..Self::default() }
    }

    pub(super) fn of_handle(handle: &[u8]) -> Result<Self, Failure> {
        Self::decode(handle).map_err(|_| Failure::Ticket)
    }

    pub(super) fn of_ticket(ticket: &[u8]) -> Result<Self, Failure> {
        let command = Any::decode(ticket).ok().and_then(|any| Command::try_from(any).ok());
        match command {
            Some(Command::TicketStatementQuery(ticket)) => Self::of_handle(&ticket.statement_handle),
            _ => Err(Failure::Ticket),
        }
    }

    /// Binds the one row that `messages` carry.
    pub(super) async fn bind(
        &mut self,
        messages: impl Stream<Item = Result<FlightData, FlightError>> + Send + 'static,
    ) -> Result<(), Failure> {
        let unreadable =
            |error: FlightError| Failure::Parameters(format!("the parameters are unreadable: {error}"));
        let mut rows = FlightRecordBatchStream::new_from_flight_data(messages);
        let mut bound: Option<RecordBatch> = None;
        while let Some(batch) = rows.try_next().await.map_err(unreadable)? {
            let found = batch.num_rows() + bound.as_ref().map_or(0, RecordBatch::num_rows);
            if found > 1 {
                return Err(Failure::Parameters("bind one row of parameters at a time".to_owned()));
            }
            bound = if batch.num_rows() == 1 { Some(batch) } else { bound };
        }
        self.parameters = bound.map(|row| encode(&row)).transpose()?.unwrap_or_default();
        if self.parameters.len() > PARAMETER_BYTES {
            return Err(Failure::Parameters(format!(
                "the parameters take more than {PARAMETER_BYTES} bytes"
            )));
        }
        Ok(())
    }

    /// The values that were bound, in order.
    pub(super) fn values(&self) -> Result<Vec<ScalarValue>, Failure> {
        if self.parameters.is_empty() {
            return Ok(Vec::new());
        }
        let mut rows =
            StreamReader::try_new(self.parameters.as_slice(), None).map_err(|_| Failure::Ticket)?;
        let row =
            rows.next().and_then(Result::ok).filter(|row| row.num_rows() == 1).ok_or(Failure::Ticket)?;
        let value = |column: &ArrayRef| ScalarValue::try_from_array(column, 0).map_err(Failure::of_query);
        row.columns().iter().map(value).collect()
    }
}

fn encode(row: &RecordBatch) -> Result<Vec<u8>, Failure> {
    let write = || {
        let mut writer = StreamWriter::try_new(Vec::new(), row.schema_ref())?;
        writer.write(row)?;
        writer.into_inner()
    };
    write().map_err(|error| Failure::Lake(Error::Arrow(error)))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow_flight::encode::FlightDataEncoderBuilder;
    use futures::stream;
    use std::sync::Arc;

    use super::*;

    async fn bound(rows: usize) -> Result<Statement, Failure> {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("'{row}"))));
        let batch = RecordBatch::try_from_iter([("0", numbers), ("1", texts)]).unwrap();
        let messages = FlightDataEncoderBuilder::new().build(stream::iter([Ok(batch)]));
        let mut statement = Statement::new("SELECT ?, ?".to_owned());
        statement.bind(messages).await?;
        Ok(statement)
    }

    #[tokio::test]
    async fn a_handle_brings_back_what_was_bound() {
        let statement = bound(1).await.unwrap();
        let again = Statement::of_handle(&statement.encode_to_vec()).unwrap();
        assert_eq!(again.values().unwrap(), [ScalarValue::from(0_i64), ScalarValue::from("'0")]);
        assert_eq!(bound(0).await.unwrap().values().unwrap(), []);
    }

    #[tokio::test]
    async fn more_than_one_row_is_not_bound() {
        assert!(matches!(bound(2).await, Err(Failure::Parameters(_))));
    }

    #[test]
    fn what_is_no_ticket_is_refused() {
        assert!(matches!(Statement::of_ticket(b"whatever"), Err(Failure::Ticket)));
        assert!(matches!(Statement::of_handle(&[0xff; 8]), Err(Failure::Ticket)));
    }
}
