//! The laws of the store, and of every domain's tables, on PostgreSQL.

use store::{Config, Store};

pub async fn fresh() -> (Store, ()) {
    let url = harness::Shared::from_env()
        .and_then(|shared| shared.fresh_database())
        .expect("a database of its own");
    let config = Config { max_connections: 8, acquire_timeout_ms: 5_000, ..Config::new(url) };
    (Store::open(&config, std::path::Path::new(".")).expect("the address is fine"), ())
}

store::store_laws!(fresh());

mod ledger {
    ledger::ledger_laws!(super::fresh());
}

mod receivables {
    receivables::receivables_laws!(super::fresh());
}

mod invoices {
    invoices::invoices_laws!(super::fresh());
}

mod prescriptions {
    prescriptions::prescriptions_laws!(super::fresh());
}
