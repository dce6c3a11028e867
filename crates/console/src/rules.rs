//! What each route needs: a role, and whether the audit has it.

use access::Role;
use http::Method;

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The least role.
    pub(crate) role: Role,
    /// What the audit has of it.
    pub(crate) audit: Audit,
    /// Whether its answers have what is personal as it is.
    pub(crate) is_unmasked: bool,
}

/// What the audit has of a route's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audit {
    /// Nothing: lists show no body.
    Nothing,
    /// Every request, written down after it was answered.
    Change,
    /// Every request, written down before the answer is given: what nobody could write down nobody sees.
    Look,
    /// The same for who reads on and on: once an hour.
    Following,
}

/// Routes that give bodies with what is personal masked.
const MASKED_BODIES: [&str; 4] = ["/events/{id}", "/rejected/{id}", "/dead/{id}", "/attempts/{id}"];

/// Routes that give bodies of events and contents of documents as they are.
const BODIES: [&str; 2] = ["/events/{id}/body", "/documents/{id}/body"];

/// Routes that give one body after the other.
const FOLLOWING: [&str; 2] = ["/feed", "/subscriptions/{name}/events"];

/// What an operator changes. Every other change is an administrator's.
const OPERATIONS: [&str; 12] = [
    "/jobs",
    "/jobs/{id}/cancel",
    "/jobs/{id}/pause",
    "/jobs/{id}/resume",
    "/dead/groups/{group}/note",
    "/dead/{id}/{consumer}/edit",
    "/attempts/retry",
    "/undelivered/discard",
    "/subscriptions/{name}/pause",
    "/subscriptions/{name}/resume",
    "/subscriptions/{name}/seek",
    // Shows bodies and changes nothing.
    "/subscriptions/{name}/test",
];

/// What an administrator alone reads.
const ADMINISTRATION: [&str; 4] = ["/tokens", "/tokens/{name}", "/users", "/audit"];

impl Rule {
    /// The rule of a request that asks for personal data.
    pub(crate) fn revealing(self) -> Self {
        let audit = if self.audit == Audit::Nothing { Audit::Look } else { self.audit };
        Self { role: self.role.max(Role::Operator), audit, is_unmasked: true }
    }

    /// The rule of a method of a route. What is no route shows and changes nothing.
    pub(crate) fn new(method: &Method, route: &str) -> Self {
        let path = route.strip_prefix("/api/v1").unwrap_or(route);
        if matches!(*method, Method::GET | Method::HEAD) {
            let (role, audit) = match path {
                path if ADMINISTRATION.contains(&path) => (Role::Admin, Audit::Nothing),
                path if MASKED_BODIES.contains(&path) => (Role::Viewer, Audit::Look),
                path if BODIES.contains(&path) => (Role::Operator, Audit::Look),
                path if FOLLOWING.contains(&path) => (Role::Operator, Audit::Following),
                _ => (Role::Viewer, Audit::Nothing),
            };
            return Self { role, audit, is_unmasked: BODIES.contains(&path) };
        }
        let role = if OPERATIONS.contains(&path) { Role::Operator } else { Role::Admin };
        Self { role, audit: Audit::Change, is_unmasked: false }
    }
}
