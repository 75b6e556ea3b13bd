//! The lake fed by real event logs: complete, the same after every kind of interruption, and healed after a torn write.

mod crash;
mod export;
mod sandbox;
mod world;
