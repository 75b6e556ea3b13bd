//! The lake fed by real event logs: complete, readable from Python, the same after every kind of interruption, healed
//! after a torn write, and queried by SQL.

mod bucket;
mod crash;
mod export;
mod flight;
mod gold;
mod history;
mod landed;
mod mirror;
mod python;
mod rpc_dataset;
mod rpc_feature;
mod rpc_vectors;
mod run;
mod sandbox;
mod silver;
mod world;
