//! SQL for BI: DataFusion over the lake's tables behind Arrow Flight SQL, which ADBC and JDBC drivers speak.
//!
//! Nothing is kept between calls: a ticket carries its query and the versions that it reads, the handle of a prepared
//! statement its text and what was bound to it. So any replica answers any call; only what runs is known here alone.

mod error;
mod metadata;
mod parse;
mod query;
mod running;
mod statement;
mod workers;

use std::{pin::Pin, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
    ipc::writer::IpcWriteOptions,
};
use arrow_flight::{
    Action, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket,
    encode::FlightDataEncoderBuilder,
    error::FlightError,
    flight_service_server::{FlightService, FlightServiceServer},
    sql::{
        ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
        ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, CommandGetCatalogs,
        CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
        CommandGetXdbcTypeInfo, CommandPreparedStatementQuery, CommandStatementQuery,
        DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
        server::{FlightSqlService, PeekableFlightDataStream},
    },
};
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use mesh::{Foreign, MAX_MESSAGE_BYTES, ServerBuilder, Streams};
use prost::Message;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{Config, Error, Version, dataset::Store};
use error::Failure;
use query::Engine;
use running::Running;
use statement::Statement;

/// The service, for who may call it and where it is found.
pub const FLIGHT: Foreign = Foreign {
    service: "arrow.flight.protocol.FlightService",
    permission: "lake.query",
    methods: &[
        ("Handshake", Streams::Both),
        ("ListFlights", Streams::Server),
        ("GetFlightInfo", Streams::Neither),
        ("PollFlightInfo", Streams::Neither),
        ("GetSchema", Streams::Neither),
        ("DoGet", Streams::Server),
        ("DoPut", Streams::Both),
        ("DoExchange", Streams::Both),
        ("DoAction", Streams::Server),
        ("ListActions", Streams::Server),
    ],
};
/// The header by which a caller asks for the tables as they were at a tag.
const TAG_HEADER: &str = "omnimesh-tag";

/// Adds the service to `server`.
pub(crate) fn serve(
    config: &Config,
    store: Arc<Store>,
    runtime: Arc<RuntimeEnv>,
    server: &mut ServerBuilder,
) -> Result<(), Error> {
    let flight = Flight { engine: Engine::new(config, store, runtime)?, running: Running::default() };
    let service = FlightServiceServer::new(flight)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    server.add_foreign(service, FLIGHT);
    Ok(())
}

struct Flight {
    engine: Engine,
    running: Running,
}

type Batches = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

impl Flight {
    /// Says how to get a query's rows, which are those of the versions that are now published, or tagged.
    async fn plan(
        &self,
        mut statement: Statement,
        request: &Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let query = self.engine.prepare(&statement, version(request.metadata())?).await?;
        statement.versions = query.versions;
        statement.run = running::name();
        let ticket = TicketStatementQuery { statement_handle: statement.encode_to_vec().into() };
        info(&ticket, &query.schema, request)
    }

    /// Stops a query that runs here.
    fn cancel(&self, info: &FlightInfo) -> Result<(), Failure> {
        let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref());
        let statements =
            tickets.map(|ticket| Statement::of_ticket(&ticket.ticket)).collect::<Result<Vec<_>, _>>()?;
        // All of them, whichever is found first.
        let found = statements.iter().filter(|statement| self.running.cancel(&statement.run)).count();
        if found == 0 { Err(Failure::NotRunning) } else { Ok(()) }
    }
}

/// Which version of the tables a caller asks for.
fn version(metadata: &MetadataMap) -> Result<Version, Failure> {
    match metadata.get(TAG_HEADER) {
        None => Ok(Version::Published),
        Some(tag) => tag.to_str().map(|tag| Version::Tag(tag.to_owned())).map_err(|_| Failure::Header),
    }
}

fn info(
    ticket: &impl ProstMessageExt,
    schema: &Schema,
    request: &Request<FlightDescriptor>,
) -> Result<Response<FlightInfo>, Status> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.as_any().encode_to_vec()));
    let info = FlightInfo::new().try_with_schema(schema).map_err(Error::Arrow).map_err(Failure::Lake)?;
    Ok(Response::new(info.with_endpoint(endpoint).with_descriptor(request.get_ref().clone())))
}

/// The rows of a list that is known at once.
fn list(rows: Result<RecordBatch, FlightError>) -> Result<Response<Batches>, Status> {
    let rows = rows?;
    Ok(Response::new(encode(rows.schema(), stream::once(async { Ok(rows) }))))
}

fn encode(
    schema: SchemaRef,
    rows: impl Stream<Item = Result<RecordBatch, Failure>> + Send + 'static,
) -> Batches {
    let rows = rows.map_err(|failure| FlightError::Tonic(Box::new(failure.into())));
    let messages = FlightDataEncoderBuilder::new().with_schema(schema).build(rows);
    messages.map_err(Status::from).boxed()
}

/// A schema as messages carry it, beside rows or alone.
fn schema_bytes(schema: &Schema) -> Result<IpcMessage, Failure> {
    let options = IpcWriteOptions::default();
    IpcMessage::try_from(SchemaAsIpc::new(schema, &options)).map_err(|error| Failure::Lake(error.into()))
}

#[tonic::async_trait]
impl FlightSqlService for Flight {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.plan(Statement::new(query.query), &request).await
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.plan(Statement::of_handle(&query.prepared_statement_handle)?, &request).await
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        _: Request<Ticket>,
    ) -> Result<Response<Batches>, Status> {
        let statement = Statement::of_handle(&ticket.statement_handle)?;
        let run = self.running.begin(statement.run.clone());
        let (schema, rows) = self.engine.run(statement, run).await?;
        Ok(Response::new(encode(schema, rows)))
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let statement = Statement::new(query.query);
        let (schema, parameters) = self.engine.describe(&statement, version(request.metadata())?).await?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: statement.encode_to_vec().into(),
            dataset_schema: schema_bytes(&schema)?.0,
            parameter_schema: schema_bytes(&parameters)?.0,
        })
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let mut statement = Statement::of_handle(&query.prepared_statement_handle)?;
        statement.bind(request.into_inner().map_err(|status| FlightError::Tonic(Box::new(status)))).await?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(statement.encode_to_vec().into()) })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _: ActionClosePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        Ok(())
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        _: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        self.cancel(&FlightInfo::decode(query.info).map_err(|_| Failure::Ticket)?)?;
        Ok(ActionCancelQueryResult { result: running::CANCELLED })
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<arrow_flight::ActionType, Status>>> {
        Some(
            running::ACTIONS
                .map(|(name, what)| {
                    Ok(arrow_flight::ActionType { r#type: name.to_owned(), description: what.to_owned() })
                })
                .into(),
        )
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        let action = request.into_inner();
        let body = match action.r#type.as_str() {
            running::CANCEL => {
                let asked = arrow_flight::CancelFlightInfoRequest::decode(action.body);
                self.cancel(&asked.ok().and_then(|asked| asked.info).ok_or(Failure::Ticket)?)?;
                arrow_flight::CancelFlightInfoResult { status: running::CANCELLED }.encode_to_vec()
            }
            running::CLOSE => running::CloseSessionResult { status: running::CLOSED }.encode_to_vec(),
            _ => return Err(Failure::Action(action.r#type).into()),
        };
        Ok(Response::new(stream::iter([Ok(arrow_flight::Result::new(body))]).boxed()))
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query, &query.into_builder().schema(), &request)
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        _: Request<Ticket>,
    ) -> Result<Response<Batches>, Status> {
        list(metadata::catalogs(query))
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query, &query.clone().into_builder().schema(), &request)
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        _: Request<Ticket>,
    ) -> Result<Response<Batches>, Status> {
        list(metadata::schemas(query))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query, &query.clone().into_builder().schema(), &request)
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        request: Request<Ticket>,
    ) -> Result<Response<Batches>, Status> {
        let tables = self.engine.tables(version(request.metadata())?, query.include_schema).await?;
        list(metadata::tables(query, &tables))
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query, &query.into_builder().schema(), &request)
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        _: Request<Ticket>,
    ) -> Result<Response<Batches>, Status> {
        list(metadata::table_types(query))
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query, &metadata::sql_info()?.schema(), &request)
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        _: Request<Ticket>,
    ) -> Result<Response<Batches>, Status> {
        list(metadata::sql_info()?.record_batch(query.info))
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query, &metadata::types()?.schema(), &request)
    }

    async fn do_get_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        _: Request<Ticket>,
    ) -> Result<Response<Batches>, Status> {
        list(metadata::types()?.record_batch(query.data_type))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
