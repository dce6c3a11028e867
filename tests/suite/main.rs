//! Everything that needs real servers: the broker and store laws on RabbitMQ and PostgreSQL, and the product as a
//! black box, through HTTP and the command line. Run by `cargo xtask test`, which starts the servers.

mod bad_input;
mod batches;
mod bodies;
mod broker_laws;
mod command_line;
mod disk;
mod duplicates;
mod faults;
mod feed;
mod footprint;
mod jobs;
mod main_job;
mod old_database;
mod operators;
mod outage;
mod power_cut;
mod rotation;
mod spool;
mod stalled_log;
mod store_laws;
mod subscriptions;
mod tls;
mod too_large;
mod topology;
mod upgrade;
mod views;

use tests::product;
