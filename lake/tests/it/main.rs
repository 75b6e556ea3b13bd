//! The lake fed by real event logs: complete, readable from Python, the same after every kind of interruption, healed
//! after a torn write, queried by SQL, and rid of whoever is erased.

mod broken;
mod bucket;
mod crash;
mod described;
mod erase;
mod erase_fields;
mod erase_ids;
mod export;
mod flight;
mod gold;
mod history;
mod landed;
mod lineage;
mod mirror;
mod python;
mod rpc_dataset;
mod rpc_feature;
mod rpc_vectors;
mod run;
mod sandbox;
mod silver;
mod world;
