//! Calls to real servers in this process.

mod calls;
mod servers;
