//! The commands that work on an installation directly: one module for each.

pub mod complete;
pub mod configuration;
pub mod demo;
pub mod doctor;
pub mod markdown;
pub mod provider_page;
pub mod shell;
pub mod sources;
pub mod topology;
