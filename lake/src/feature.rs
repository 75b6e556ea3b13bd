//! Features: values of customers, products and orders at any time, as they were known at that time.
//!
//! [`fact`]s are what was bought, [`view`]s what is made of them, [`timeline`] when that changed and when it became known.
//! [`table`] keeps it as tables of the lake, [`asof`] finds what was current at a time, [`online`] answers for now and
//! [`historical`] for any time before, by the same rows: what the one said, the other says later.

mod asof;
mod error;
mod fact;
mod grpc;
mod historical;
mod online;
mod service;
mod table;
mod timeline;
mod view;
mod wire;
