//! The lake fed by real event logs: complete, readable from Python, the same after every kind of interruption, and
//! healed after a torn write.

mod crash;
mod export;
mod gold;
mod history;
mod landed;
mod python;
mod rpc_dataset;
mod rpc_vectors;
mod run;
mod sandbox;
mod silver;
mod world;
