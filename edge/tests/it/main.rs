//! The edge in front of a real gRPC server, called by real clients.

mod access_log;
mod admin;
mod auth;
mod backend;
mod bootstrap;
mod failure;
mod grpc;
mod grpc_web;
mod harness;
mod lifecycle;
mod operators;
mod quota;
mod tls;
