//! Calls to real servers in this process.

mod calls;
mod connections;
mod hosts;
mod secure;
mod servers;
mod streams;
