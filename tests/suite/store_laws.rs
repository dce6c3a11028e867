//! The store laws on PostgreSQL.
