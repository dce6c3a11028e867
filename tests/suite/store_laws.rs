//! The store laws on PostgreSQL.

use store::{Config, Store};

async fn fresh() -> (Store, ()) {
    let url = harness::Shared::from_env().expect("servers").fresh_database().expect("a database");
    let config = Config { url, max_connections: 8, acquire_timeout_ms: 5_000 };
    (Store::open(&config, std::path::Path::new(".")).expect("the address is fine"), ())
}

store::store_laws!(fresh());
