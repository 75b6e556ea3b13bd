//! The whole system as its users meet it: the binary in processes of its own, a small demo, calls through the edge.

mod arrival;
mod certificates;
mod chart;
mod cli;
mod client;
mod consumer;
mod crash;
mod demo;
mod deployment;
mod lakes;
mod process;
mod report;
mod sources;
mod split;
mod topology;
