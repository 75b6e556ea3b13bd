//! The architecture, kept by tests: each guard is one rule of ARCHITECTURE.md and says what to do when it is broken.

mod anatomy;
mod borders;
mod chart;
mod contract;
mod dependencies;
mod hygiene;
mod manifests;
mod size;
mod source;
mod workspace;
