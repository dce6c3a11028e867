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

mod access {
    access::access_laws!(super::fresh());
}

mod subscriptions {
    subscriptions::subscriptions_laws!(super::fresh());
}

mod documents {
    documents::documents_laws!(super::fresh());
}

mod polling {
    polling::polling_laws!(super::fresh());
}

macro_rules! laws {
    ($($domain:ident)+) => {
        $(mod $domain {
            domains::$domain::laws!(super::fresh());
        })+
    };
}

domains::each!(laws);
