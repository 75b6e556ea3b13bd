//! The lake fed by real event logs: complete, readable from Python, the same after every kind of interruption, and
//! healed after a torn write.

mod crash;
mod export;
mod python;
mod rpc_dataset;
mod rpc_feature;
mod run;
mod sandbox;
mod world;
