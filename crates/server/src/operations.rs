//! The endpoints that operate a role: `/healthz`, `/readyz`, `/metrics` and `/version`.
//!
//! The server answers them before the service of the role, without authentication. They show names of components, their
//! errors and counters, so an error must contain no secrets and no personal data. A public port serves the
//! [public](Operations::public) ones, which only say up or down.
//!
//! `/readyz` answers 503 while a component of [`Health`] is down; the roles register the components.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::problem::Problem;

/// What `/readyz` answers: one type for the server and its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// The state of each component, by name.
    #[serde(default)]
    pub components: BTreeMap<String, ComponentStatus>,
    /// That of the role.
    pub status: HealthStatus,
}

/// Whether something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// It does.
    Up,
    /// It is in trouble, but the role can do its work.
    Degraded,
    /// It does not.
    Down,
}

/// The state of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStatus {
    /// Whether it works.
    pub status: HealthStatus,
    /// What is wrong, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What the operations endpoints report. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    health: Health,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
    version: &'static str,
    is_public: bool,
}

impl Operations {
    /// `metrics` renders the Prometheus text format, version 0.0.4; `version` is the program's.
    pub fn new(
        health: Health,
        metrics: impl Fn() -> String + Send + Sync + 'static,
        version: &'static str,
    ) -> Self {
        Self { health, metrics: Arc::new(metrics), version, is_public: false }
    }

    /// The endpoints for a public port: `/healthz`, and `/readyz` without a body.
    pub fn public(&self) -> Self {
        Self { is_public: true, ..self.clone() }
    }

    /// Whether the path is one of these.
    pub(crate) fn has(path: &str) -> bool {
        matches!(path, "/healthz" | "/readyz" | "/metrics" | "/version")
    }

    /// The answer, if the path is served. HEAD gets the headers of GET, and any other method 405.
    pub(crate) fn answer(&self, method: &Method, path: &str) -> Option<Response<Full<Bytes>>> {
        let endpoint = match path {
            "/healthz" => Self::healthz,
            "/readyz" => Self::readyz,
            "/metrics" if !self.is_public => Self::metrics,
            "/version" if !self.is_public => Self::version,
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
        if length != "0" {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }

    /// Up for as long as the process can answer at all: a broken dependency is no reason to be restarted.
    fn healthz(&self) -> (StatusCode, &'static str, String) {
        let text = match self.is_public {
            true => json!({"status": "up"}),
            false => json!({"status": "up", "version": self.version}),
        };
        (StatusCode::OK, JSON, text.to_string())
    }

    fn version(&self) -> (StatusCode, &'static str, String) {
        (StatusCode::OK, JSON, json!({"version": self.version}).to_string())
    }

    fn readyz(&self) -> (StatusCode, &'static str, String) {
        let states = self.health.states();
        let is_down = states.values().any(|state| matches!(state, ComponentState::Down(_)));
        let is_up = states.values().all(|state| matches!(state, ComponentState::Up));
        if self.is_public {
            let status = if is_down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            return (status, JSON, String::new());
        }
        let component = |(name, state)| {
            let (status, trouble) = match state {
                ComponentState::Up => (HealthStatus::Up, None),
                ComponentState::Degraded(trouble) => (HealthStatus::Degraded, Some(trouble.into_owned())),
                ComponentState::Down(trouble) => (HealthStatus::Down, Some(trouble.into_owned())),
            };
            (name, ComponentStatus { status, trouble })
        };
        let components = states.into_iter().map(component).collect();
        let (code, status) = match (is_down, is_up) {
            (true, _) => (StatusCode::SERVICE_UNAVAILABLE, HealthStatus::Down),
            (false, false) => (StatusCode::OK, HealthStatus::Degraded),
            (false, true) => (StatusCode::OK, HealthStatus::Up),
        };
        let readiness = Readiness { components, status };
        (code, JSON, serde_json::to_string(&readiness).expect("names and texts are JSON"))
    }

    fn metrics(&self) -> (StatusCode, &'static str, String) {
        (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", (self.metrics)())
    }
}

const JSON: &str = "application/json";

type Name = Cow<'static, str>;

/// How a component is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ComponentState {
    Up,
    /// In trouble, but the role can do its work.
    Degraded(Cow<'static, str>),
    /// In trouble, and the role cannot do its work.
    Down(Cow<'static, str>),
}

/// The trouble of a component that has not been heard of yet.
const STARTING: &str = "starting";

/// The components of a role. It is ready while none is down. A clone is the same registry.
#[derive(Clone, Debug, Default)]
pub struct Health {
    components: Arc<Mutex<BTreeMap<Name, Arc<Mutex<ComponentState>>>>>,
}

impl Health {
    /// Registers a component that the role needs, which is down ("starting") until it says otherwise. A name that is
    /// there already gives the same component, in the state that it has.
    pub fn component(&self, name: impl Into<Name>) -> ComponentHealth {
        self.register(name.into(), false)
    }

    /// Registers a component that the role can do without: when it is down, the role is degraded and ready.
    pub fn secondary(&self, name: impl Into<Name>) -> ComponentHealth {
        self.register(name.into(), true)
    }

    fn register(&self, name: Name, is_secondary: bool) -> ComponentHealth {
        let starting = if is_secondary { ComponentState::Degraded } else { ComponentState::Down };
        let state = Arc::clone(
            lock(&self.components)
                .entry(name.clone())
                .or_insert_with(|| Arc::new(Mutex::new(starting(STARTING.into())))),
        );
        ComponentHealth { name, state, is_secondary }
    }

    /// The components that are down, each with its trouble. Empty means ready.
    pub fn down(&self) -> BTreeMap<String, String> {
        let down = |(name, state)| match state {
            ComponentState::Down(trouble) => Some((name, trouble.into_owned())),
            ComponentState::Up | ComponentState::Degraded(_) => None,
        };
        self.states().into_iter().filter_map(down).collect()
    }

    /// Every component, with its trouble if it has any.
    pub fn troubles(&self) -> BTreeMap<String, Option<String>> {
        let trouble = |state| match state {
            ComponentState::Up => None,
            ComponentState::Degraded(trouble) | ComponentState::Down(trouble) => Some(trouble.into_owned()),
        };
        self.states().into_iter().map(|(name, state)| (name, trouble(state))).collect()
    }

    /// Why a component is down; `None` if it is up or does not exist.
    pub fn trouble(&self, name: &str) -> Option<String> {
        match &*lock(lock(&self.components).get(name)?) {
            ComponentState::Up => None,
            ComponentState::Degraded(trouble) | ComponentState::Down(trouble) => {
                Some(trouble.clone().into_owned())
            }
        }
    }

    fn states(&self) -> BTreeMap<String, ComponentState> {
        let state = |(name, state): (&Name, &Arc<Mutex<ComponentState>>)| {
            (name.clone().into_owned(), lock(state).clone())
        };
        lock(&self.components).iter().map(state).collect()
    }
}

/// One part of a role that can be up or in trouble: a broker, a store. A clone is the same component.
#[derive(Clone, Debug)]
pub struct ComponentHealth {
    name: Name,
    state: Arc<Mutex<ComponentState>>,
    is_secondary: bool,
}

impl ComponentHealth {
    /// The component works. Cheap when nothing changes; an end of trouble is logged.
    pub fn up(&self) {
        match std::mem::replace(&mut *lock(&self.state), ComponentState::Up) {
            ComponentState::Up => {}
            ComponentState::Down(trouble) | ComponentState::Degraded(trouble) if trouble == STARTING => {
                tracing::debug!(component = %self.name, "up");
            }
            ComponentState::Down(_) | ComponentState::Degraded(_) => {
                tracing::info!(component = %self.name, "up")
            }
        }
    }

    /// The component does not work. The beginning of trouble is logged.
    pub fn down(&self, trouble: impl Into<Cow<'static, str>>) {
        let trouble = trouble.into();
        match self.is_secondary {
            true => self.degraded(trouble),
            false => self.change(ComponentState::Down(trouble.clone()), &trouble),
        }
    }

    /// The component is in trouble that the role can live with. The beginning of trouble is logged.
    pub fn degraded(&self, trouble: impl Into<Cow<'static, str>>) {
        let trouble = trouble.into();
        self.change(ComponentState::Degraded(trouble.clone()), &trouble);
    }

    fn change(&self, state: ComponentState, trouble: &str) {
        if std::mem::replace(&mut *lock(&self.state), state) == ComponentState::Up {
            tracing::warn!(component = %self.name, %trouble, "in trouble");
        }
    }
}

/// No lock here is held across code that can panic, so a poisoned one still holds whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

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

    #[test]
    fn trouble_that_the_role_can_live_with_is_shown_and_leaves_it_ready() {
        let operations = Operations::new(Health::default(), String::new, "1.2.3");
        let (spool, store) = (operations.health.component("spool"), operations.health.secondary("store"));
        spool.up();
        let readyz = || {
            let (status, _, text) = operations.readyz();
            (status.as_u16(), serde_json::from_str::<Value>(&text).unwrap())
        };
        assert_eq!((readyz().0, &readyz().1["components"]["store"]["trouble"]), (200, &json!("starting")));
        store.down("connection refused");
        assert_eq!(operations.health.trouble("store").as_deref(), Some("connection refused"));
        assert_eq!((operations.health.trouble("spool"), operations.health.trouble("none")), (None, None));
        let troubles = [("spool", None), ("store", Some("connection refused".to_owned()))];
        assert_eq!(operations.health.troubles(), troubles.map(|(name, text)| (name.to_owned(), text)).into());
        spool.degraded("the broker is down");
        let (status, body) = readyz();
        assert_eq!((status, &body["status"]), (200, &json!("degraded")));
        assert_eq!(
            body["components"]["spool"],
            json!({"status": "degraded", "trouble": "the broker is down"})
        );
        spool.down("it is full");
        assert_eq!((readyz().0, &readyz().1["status"]), (503, &json!("down")));
        spool.up();
        store.up();
        assert_eq!((readyz().0, &readyz().1["status"]), (200, &json!("up")));
    }

    #[tokio::test]
    async fn strangers_learn_whether_a_role_is_up_and_nothing_else() {
        use http_body_util::BodyExt;

        let operations = Operations::new(Health::default(), || "metric 1".to_owned(), "1.2.3");
        let broker = operations.health.component("broker");
        let ask = async |operations: &Operations, path: &str| {
            let answer = operations.answer(&Method::GET, path)?;
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            Some((status, String::from_utf8(body.to_vec()).unwrap()))
        };
        let public = operations.public();
        let up = |text: &str| Some((200, text.to_owned()));
        assert_eq!(ask(&public, "/healthz").await, up(r#"{"status":"up"}"#));
        assert_eq!(ask(&public, "/readyz").await, Some((503, String::new())));
        broker.up();
        assert_eq!(ask(&public, "/readyz").await, up(""));
        assert_eq!(ask(&public, "/metrics").await, None);
        assert_eq!(ask(&public, "/version").await, None);
        assert_eq!(ask(&operations, "/metrics").await, up("metric 1"));
        assert_eq!(ask(&operations, "/version").await, up(r#"{"version":"1.2.3"}"#));
    }
}
