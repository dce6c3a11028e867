//! The three endpoints that operate a role: `/healthz`, `/readyz` and `/metrics`.
//!
//! The server answers them before the role's service sees the request, without a credential: what they tell is
//! the names of components and counters, so a component's trouble must hold no secret and no personal data.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::problem::Problem;

/// What the operations endpoints tell. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    health: Health,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
    version: &'static str,
}

impl Operations {
    /// `metrics` renders the Prometheus text format, version 0.0.4; `version` is the program's.
    pub fn new(
        health: Health,
        metrics: impl Fn() -> String + Send + Sync + 'static,
        version: &'static str,
    ) -> Self {
        Self { health, metrics: Arc::new(metrics), version }
    }

    /// The answer, if the path is one of the three. HEAD gets the headers of GET, and any other method 405.
    pub(crate) fn answer(&self, method: &Method, path: &str) -> Option<Response<Full<Bytes>>> {
        let endpoint = match path {
            "/healthz" => Self::healthz,
            "/readyz" => Self::readyz,
            "/metrics" => Self::metrics,
            _ => return None,
        };
        if method != Method::GET && method != Method::HEAD {
            return Some(Problem::new(StatusCode::METHOD_NOT_ALLOWED).allow("GET, HEAD").into_response());
        }
        let (status, content_type, text) = endpoint(self);
        let length = HeaderValue::from(text.len());
        let body = if method == Method::HEAD { Bytes::new() } else { Bytes::from(text) };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }

    /// Up for as long as the process can answer at all: a broken dependency is no reason to be restarted.
    fn healthz(&self) -> (StatusCode, &'static str, String) {
        (StatusCode::OK, JSON, json!({"status": "up", "version": self.version}).to_string())
    }

    fn readyz(&self) -> (StatusCode, &'static str, String) {
        let troubles = self.health.troubles();
        let ready = troubles.values().all(Option::is_none);
        let components: serde_json::Map<String, Value> = troubles
            .into_iter()
            .map(|(name, trouble)| match trouble {
                None => (name, json!({"status": "up"})),
                Some(trouble) => (name, json!({"status": "down", "trouble": trouble})),
            })
            .collect();
        let (status, text) =
            if ready { (StatusCode::OK, "up") } else { (StatusCode::SERVICE_UNAVAILABLE, "down") };
        (status, JSON, json!({"status": text, "components": components}).to_string())
    }

    fn metrics(&self) -> (StatusCode, &'static str, String) {
        (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", (self.metrics)())
    }
}

const JSON: &str = "application/json";

type Name = Cow<'static, str>;

/// What keeps a component down; `None` when it is up.
type Trouble = Option<Cow<'static, str>>;

/// The trouble of a component that has not been heard of yet.
const STARTING: &str = "starting";

/// The components that a role needs in order to be ready. A clone is the same registry.
#[derive(Clone, Debug, Default)]
pub struct Health {
    components: Arc<Mutex<BTreeMap<Name, Arc<Mutex<Trouble>>>>>,
}

impl Health {
    /// Registers a component, which is down ("starting") until it says otherwise. A name that is there already
    /// gives the same component, in the state that it has.
    pub fn component(&self, name: impl Into<Name>) -> Component {
        let name = name.into();
        let trouble = Arc::clone(
            lock(&self.components)
                .entry(name.clone())
                .or_insert_with(|| Arc::new(Mutex::new(Some(STARTING.into())))),
        );
        Component { name, trouble }
    }

    /// The components that are down, each with its trouble. Empty means ready.
    pub fn down(&self) -> BTreeMap<String, String> {
        let down = |(name, trouble): (String, Trouble)| Some((name, trouble?.into_owned()));
        self.troubles().into_iter().filter_map(down).collect()
    }

    fn troubles(&self) -> BTreeMap<String, Trouble> {
        let state = |(name, trouble): (&Name, &Arc<Mutex<Trouble>>)| {
            (name.clone().into_owned(), lock(trouble).clone())
        };
        lock(&self.components).iter().map(state).collect()
    }
}

/// One part of a role that can be up or down: a broker, a store. A clone is the same component.
#[derive(Clone, Debug)]
pub struct Component {
    name: Name,
    trouble: Arc<Mutex<Trouble>>,
}

impl Component {
    /// The component works. Cheap when nothing changes; an end of trouble is logged.
    pub fn up(&self) {
        match lock(&self.trouble).take() {
            None => {}
            Some(trouble) if trouble == STARTING => tracing::debug!(component = %self.name, "up"),
            Some(_) => tracing::info!(component = %self.name, "up"),
        }
    }

    /// The component does not work. A change from up to down is logged.
    pub fn down(&self, trouble: impl Into<Cow<'static, str>>) {
        let trouble = trouble.into();
        let before = lock(&self.trouble).replace(trouble.clone());
        if before.is_none() {
            tracing::warn!(component = %self.name, %trouble, "down");
        }
    }
}

/// No lock here is held across code that can panic, so a poisoned one still holds whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_starts_down_and_is_the_same_under_its_name() {
        let health = Health::default();
        let broker = health.component("broker");
        let store = health.component("store");
        store.up();
        assert_eq!(health.down(), BTreeMap::from([("broker".into(), "starting".into())]));
        broker.down("connection refused");
        assert_eq!(health.down(), BTreeMap::from([("broker".into(), "connection refused".into())]));
        health.clone().component("broker").up();
        assert!(health.down().is_empty());
    }
}
