//! The whole system as its users meet it: the binary in processes of its own, a small demo, calls through the edge.

mod process;
mod deployment;
mod client;
mod report;
mod cli;
mod demo;
mod crash;
mod topology;
mod split;
mod certificates;
