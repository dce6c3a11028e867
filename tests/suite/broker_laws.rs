//! The broker laws on RabbitMQ.
