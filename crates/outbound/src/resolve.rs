//! Names to addresses. A lookup that is already running is joined, so that a slow name occupies one thread, however many
//! requests wait for it; nothing is kept after its end.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::lookup_host;
use tokio::sync::OnceCell;

/// How a name is looked up.
pub(crate) type Lookup = Box<dyn Fn(String) -> Looking + Send + Sync>;

/// A lookup in progress.
pub(crate) type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

type Found = Result<Arc<[IpAddr]>, Arc<io::Error>>;

pub(crate) struct Resolver {
    lookup: Lookup,
    running: Mutex<HashMap<String, Arc<OnceCell<Found>>>>,
}

impl Resolver {
    /// That of the system.
    pub(crate) fn system() -> Self {
        Self::new(Box::new(|host| {
            Box::pin(async move { Ok(lookup_host((host, 0)).await?.map(|address| address.ip()).collect()) })
        }))
    }

    pub(crate) fn new(lookup: Lookup) -> Self {
        Self { lookup, running: Mutex::default() }
    }

    /// All addresses of a host, at least one.
    pub(crate) async fn resolve(&self, host: &str) -> Found {
        let running = || self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = Arc::clone(running().entry(host.to_owned()).or_default());
        // If the request that began it is dropped, the next one begins again.
        let found = cell.get_or_init(|| self.look_up(host)).await.clone();
        let mut running = running();
        if running.get(host).is_some_and(|current| Arc::ptr_eq(current, &cell)) {
            running.remove(host);
        }
        found
    }

    async fn look_up(&self, host: &str) -> Found {
        let addresses = (self.lookup)(host.to_owned()).await.map_err(Arc::new)?;
        if addresses.is_empty() {
            return Err(Arc::new(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
        }
        Ok(addresses.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn requests_for_one_name_share_a_running_lookup_and_later_ones_look_again() {
        let (lookups, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, passed) = (lookups.clone(), gate.clone());
        let resolver = Resolver::new(Box::new(move |_| {
            let number = counted.fetch_add(1, Ordering::SeqCst) as u8;
            let passed = passed.clone();
            Box::pin(async move {
                passed.acquire().await.unwrap().forget();
                Ok(vec![IpAddr::from([10, 0, 0, number])])
            })
        }));
        let both = async { tokio::join!(resolver.resolve("a"), resolver.resolve("a")) };
        let open = async { gate.add_permits(1) };
        let ((one, other), ()) = tokio::join!(both, open);
        assert_eq!(one.unwrap(), other.unwrap());
        assert_eq!(lookups.load(Ordering::SeqCst), 1);
        gate.add_permits(1);
        assert_eq!(*resolver.resolve("a").await.unwrap(), [IpAddr::from([10, 0, 0, 1])]);
    }

    #[tokio::test]
    async fn a_dropped_lookup_does_not_hold_up_the_next_one() {
        let lookups = Arc::new(AtomicUsize::new(0));
        let counted = lookups.clone();
        let resolver = Resolver::new(Box::new(move |_| {
            let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            Box::pin(async move {
                if is_first {
                    std::future::pending::<()>().await;
                }
                Ok(vec![IpAddr::from([10, 0, 0, 1])])
            })
        }));
        let first = tokio::time::timeout(std::time::Duration::from_millis(10), resolver.resolve("a")).await;
        assert!(first.is_err());
        assert!(resolver.resolve("a").await.is_ok());
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_an_error() {
        let resolver = Resolver::new(Box::new(|_| Box::pin(async { Ok(Vec::new()) })));
        assert_eq!(resolver.resolve("a").await.unwrap_err().to_string(), "the name has no address");
        let error = Resolver::system().resolve("does-not-exist.invalid").await.unwrap_err();
        assert!(!error.to_string().is_empty());
    }
}
