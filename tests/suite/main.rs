//! Everything that needs real servers: the broker and store laws on RabbitMQ and PostgreSQL, and the product as a
//! black box, through HTTP and the command line. Run by `cargo xtask test`, which starts the servers.

mod broker_laws;
mod store_laws;
