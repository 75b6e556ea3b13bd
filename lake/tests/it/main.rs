//! The lake fed by real event logs: complete, readable from Python, the same after every kind of interruption,
//! healed after a torn write, and rid of whoever is erased.

mod crash;
mod erase;
mod export;
mod python;
mod rpc_dataset;
mod run;
mod sandbox;
mod world;
