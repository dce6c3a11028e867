//! One module for each command that is not a role.

pub mod configuration;
pub mod dead;
pub mod demo;
pub mod doctor;
pub mod jobs;
pub mod lists;
pub mod markdown;
pub mod queues;
pub mod reconcile;
pub mod resend;
pub mod simulate;
pub mod topology;
mod variation;
