//! Everything that needs real servers: the broker and store laws on RabbitMQ and PostgreSQL, and the product as a
//! black box, through HTTP and the command line. Run by `cargo xtask test`, which starts the servers.

mod applying;
mod bad_input;
mod batches;
mod bodies;
mod broker_laws;
mod browser;
mod by_hand;
mod client_certificates;
mod command_line;
mod consumers;
mod disk;
mod documents;
mod domain_events;
mod duplicates;
mod faults;
mod feed;
mod footprint;
mod jobs;
mod main_job;
mod old_database;
mod operators;
mod outage;
mod polling;
mod power_cut;
mod pulling;
mod pushes;
mod queue_door;
mod readiness;
mod receipts;
mod rotation;
mod senders;
mod spool;
mod stalled_log;
mod store_laws;
mod subscriptions;
mod system_roots;
mod tls;
mod too_large;
mod topology;
mod upgrade;
mod views;

use tests::product;
