//! The silos are built from the real dataset, in small.

mod build;
mod dataset;
mod persons;
mod sales;
mod shop;
mod world;
