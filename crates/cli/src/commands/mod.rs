//! One module for each command that is not a role.

pub mod configuration;
pub mod demo;
pub mod doctor;
pub mod lists;
pub mod markdown;
pub mod simulate;
pub mod topology;
mod variation;
