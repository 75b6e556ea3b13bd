//! The ingest service behind a real server, reading small silos that the tests write.

mod definitions;
mod rpc_quarantined_records;
mod rpc_run_source;
mod rpc_run_source_again;
mod rpc_run_source_encoding;
mod rpc_run_source_parquet;
mod rpc_run_source_silos;
mod rpc_run_source_sql;
mod rpc_run_source_subjects;
mod rpc_sources;
mod sandbox;
mod silo;
mod store_engines;
mod store_recovery;
