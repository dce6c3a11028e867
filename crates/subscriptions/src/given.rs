//! Secrets as management gives them, put together with those that a subscription has.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use event::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::secrets::header;
use crate::{Auth, Declaration, NotASigningSecret, Push, Secrets, SigningKey, SigningSecret};

/// How long a signing secret is used beside its successor, unless something else is asked for.
pub const OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

/// The secrets of a push subscription. What is not given stays. `Debug` shows nothing of them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenSecrets {
    /// The secret that requests are signed with: `whsec_…`. One is made where a new subscription is given none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<String>,
    /// The values of the headers that `push.headers` names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The password, the token or the client secret of `push.auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// The key of `push.tls.certificate`, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<String>,
}

impl fmt::Debug for GivenSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenSecrets").finish_non_exhaustive()
    }
}

/// Why secrets do not fit a declaration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecrets {
    /// The signing secret cannot be used.
    #[error("secrets.signing: {0}")]
    Signing(#[from] NotASigningSecret),
    /// The value of a header is missing.
    #[error("secrets.headers: the value of {0} is missing")]
    NoHeader(String),
    /// The value of a header that no request has.
    #[error("secrets.headers: {0:?} is not among push.headers")]
    NoSuchHeader(String),
    /// The secret of the authentication is missing.
    #[error("secrets.auth: the password, the token or the client secret of push.auth is missing")]
    NoAuth,
    /// The secret of the former authentication is not sent where the new one goes.
    #[error(
        "secrets.auth: push.auth is of another kind than before, or has another token endpoint, which is not sent the former \
         secret: give the new one"
    )]
    OtherAuth,
    /// Something that the declaration does not use.
    #[error("secrets.{0}: {1} is missing, which this secret belongs to")]
    Unused(&'static str, &'static str),
    /// The door has no secrets.
    #[error("secrets: only a push subscription has secrets of its own")]
    Door,
}

/// The secrets of a subscription from now on.
#[derive(Clone, Default)]
pub struct Merged {
    /// All of them.
    pub secrets: Secrets,
    /// Which of them are others than before: `signing`, `headers.x-api-key`.
    pub changed: Vec<String>,
    /// The signing secret that was made.
    pub made: Option<String>,
}

impl GivenSecrets {
    /// What is given, and for the rest what the subscription has, with the declaration that this is for. A signing secret is used
    /// beside its successor for a time. The secret of an authentication stays with it.
    pub fn merged(
        self,
        known: Option<(&Declaration, &Secrets)>,
        declaration: &Declaration,
        now: Timestamp,
    ) -> Result<Merged, BadSecrets> {
        let Some(push) = &declaration.push else {
            return if self == Self::default() { Ok(Merged::default()) } else { Err(BadSecrets::Door) };
        };
        let before = known.map(|(_, secrets)| secrets.clone()).unwrap_or_default();
        let (mut secrets, mut made) = (before.clone(), None);
        let signing = match self.signing {
            None if before.signing.is_empty() => {
                let text = SigningSecret::generate().expose().to_owned();
                made = Some(text.clone());
                Some(text)
            }
            given => given,
        };
        if let Some(text) = signing {
            text.parse::<SigningSecret>()?;
            let newest = before.signing.first();
            if newest.is_none_or(|newest| newest.secret != text) {
                let predecessor = newest.map(|key| SigningKey { until: Some(now + OVERLAP), ..key.clone() });
                secrets.signing =
                    [SigningKey { secret: text, until: None }].into_iter().chain(predecessor).collect();
            }
        }
        secrets.headers = headers(&self.headers, &before, push)?;
        let has_certificate = push.tls.as_ref().is_some_and(|tls| tls.certificate.is_some());
        let auth_before = known.and_then(|(declaration, _)| declaration.push.as_ref()?.auth.as_ref());
        let is_other = auth_before.zip(push.auth.as_ref()).is_some_and(|(before, now)| !is_for(before, now));
        if is_other && self.auth.is_none() {
            return Err(BadSecrets::OtherAuth);
        }
        secrets.auth = one(self.auth, secrets.auth, push.auth.is_some(), ("auth", "push.auth"))?;
        secrets.tls_key =
            one(self.tls_key, secrets.tls_key, has_certificate, ("tls_key", "push.tls.certificate"))?;
        if push.auth.is_some() && secrets.auth.is_none() {
            return Err(BadSecrets::NoAuth);
        }
        Ok(Merged { changed: changed(&before, &secrets), secrets, made })
    }
}

/// The values of the headers that a declaration names, under these names.
fn headers(
    given: &BTreeMap<String, String>,
    before: &Secrets,
    push: &Push,
) -> Result<BTreeMap<String, String>, BadSecrets> {
    let is_named = |name: &&String| push.headers.iter().any(|other| other.eq_ignore_ascii_case(name));
    if let Some(name) = given.keys().find(|name| !is_named(name)) {
        return Err(BadSecrets::NoSuchHeader(name.clone()));
    }
    let value = |name: &String| {
        let value = header(given, name).or_else(|| before.header(name));
        let value = value.ok_or_else(|| BadSecrets::NoHeader(name.clone()))?;
        Ok((name.clone(), value.clone()))
    };
    push.headers.iter().map(value).collect()
}

/// Whether the secret of one authentication may be sent where the other says: as the same thing, and to no other token endpoint.
fn is_for(before: &Auth, now: &Auth) -> bool {
    let origin = |url: &str| Some(url.parse::<outbound::Address>().ok()?.origin().to_owned());
    match (before, now) {
        (Auth::Basic { .. }, Auth::Basic { .. }) | (Auth::Bearer {}, Auth::Bearer {}) => true,
        (Auth::Oauth2 { token_url: before, .. }, Auth::Oauth2 { token_url: now, .. }) => {
            before == now || origin(before).is_some_and(|before| Some(before) == origin(now))
        }
        _ => false,
    }
}

/// A secret that only some declarations use.
fn one(
    given: Option<String>,
    known: Option<String>,
    is_used: bool,
    (name, of): (&'static str, &'static str),
) -> Result<Option<String>, BadSecrets> {
    match (given, is_used) {
        (Some(_), false) => Err(BadSecrets::Unused(name, of)),
        (given, true) => Ok(given.or(known)),
        (None, false) => Ok(None),
    }
}

/// Which secrets are others.
fn changed(before: &Secrets, after: &Secrets) -> Vec<String> {
    let newest = |secrets: &Secrets| secrets.signing.first().map(|key| key.secret.clone());
    let others = [
        ("signing", newest(before) != newest(after)),
        ("auth", before.auth != after.auth),
        ("tls_key", before.tls_key != after.tls_key),
    ];
    let gone = before.headers.keys().filter(|name| after.header(name).is_none());
    let headers = after.headers.keys().filter(|name| before.header(name) != after.header(name)).chain(gone);
    let others = others.into_iter().filter(|(_, is_other)| *is_other).map(|(name, _)| name.to_owned());
    others.chain(headers.map(|name| format!("headers.{name}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration(push: &str) -> Declaration {
        let text = format!(r#"{{"name": "crm", "topics": ["recuperador:#"], "push": {push}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn given(json: &str) -> GivenSecrets {
        serde_json::from_str(json).unwrap()
    }

    const KEYED: &str = r#"{"url": "https://crm.example", "headers": ["x-api-key"], "auth": {"bearer": {}}}"#;

    #[test]
    fn what_is_not_given_stays_and_what_is_made_is_shown() {
        let (now, keyed) = (event::now(), declaration(KEYED));
        let first =
            given(r#"{"headers": {"x-api-key": "k1"}, "auth": "t1"}"#).merged(None, &keyed, now).unwrap();
        assert_eq!(first.changed, ["signing", "auth", "headers.x-api-key"]);
        let made = first.made.unwrap();
        assert_eq!(first.secrets.signing[0].secret, made);
        let same = given(&format!(r#"{{"signing": {made:?}, "auth": "t1"}}"#));
        let same = same.merged(Some((&keyed, &first.secrets)), &keyed, now).unwrap();
        assert!(same.changed.is_empty() && same.made.is_none() && same.secrets == first.secrets);

        let next = SigningSecret::generate().expose().to_owned();
        let rotated = given(&format!(r#"{{"signing": {next:?}, "headers": {{"x-api-key": "k2"}}}}"#));
        let rotated = rotated.merged(Some((&keyed, &first.secrets)), &keyed, now).unwrap();
        assert_eq!(rotated.changed, ["signing", "headers.x-api-key"]);
        let live: Vec<_> = rotated.secrets.signing_at(now).collect();
        assert_eq!(live, [next.as_str(), made.as_str()]);
        assert_eq!(rotated.secrets.signing_at(now + OVERLAP).count(), 1);
        // What the declaration no longer names is forgotten.
        let plain = declaration(r#"{"url": "https://crm.example"}"#);
        let forgot = GivenSecrets::default().merged(Some((&keyed, &rotated.secrets)), &plain, now).unwrap();
        assert!(forgot.secrets.headers.is_empty() && forgot.secrets.auth.is_none());
        assert_eq!(forgot.changed, ["auth", "headers.x-api-key"]);
    }

    #[test]
    fn the_secret_of_an_authentication_is_not_sent_as_another_nor_to_another_endpoint() {
        let now = event::now();
        let push = |auth: &str| declaration(&format!(r#"{{"url": "https://crm.example", "auth": {auth}}}"#));
        let oauth2 = |url: &str| format!(r#"{{"oauth2": {{"token_url": "{url}", "client_id": "malote"}}}}"#);
        let check = |before: &str, after: &str, is_kept: bool| {
            let (before, after) = (push(before), push(after));
            let known = given(r#"{"auth": "hunter2"}"#).merged(None, &before, now).unwrap().secrets;
            let kept = GivenSecrets::default().merged(Some((&before, &known)), &after, now);
            match is_kept {
                true => assert_eq!(kept.unwrap().secrets.auth.as_deref(), Some("hunter2"), "{after:?}"),
                false => assert_eq!(kept.map(drop).unwrap_err(), BadSecrets::OtherAuth, "{after:?}"),
            }
            let other = given(r#"{"auth": "other"}"#).merged(Some((&before, &known)), &after, now).unwrap();
            assert_eq!(other.secrets.auth.as_deref(), Some("other"));
        };
        let (basic, bearer) = (r#"{"basic": {"username": "a"}}"#, r#"{"bearer": {}}"#);
        let own = oauth2("https://id.example/token");
        check(basic, r#"{"basic": {"username": "b"}}"#, true);
        check(bearer, bearer, true);
        check(&own, &oauth2("https://id.example/other"), true);
        check(&own, &oauth2("https://id.example.evil/token"), false);
        check(&own, &oauth2("http://id.example/token"), false);
        for (before, after) in [(bearer, basic), (basic, bearer), (bearer, own.as_str()), (&own, bearer)] {
            check(before, after, false);
        }
    }

    #[test]
    fn the_names_of_headers_are_compared_without_case() {
        let now = event::now();
        let upper = declaration(r#"{"url": "https://crm.example", "headers": ["X-Api-Key"]}"#);
        let first = given(r#"{"headers": {"x-api-key": "k1"}}"#).merged(None, &upper, now).unwrap();
        assert_eq!(first.secrets.header("x-API-key").map(String::as_str), Some("k1"));
        let lower = declaration(r#"{"url": "https://crm.example", "headers": ["x-api-key"]}"#);
        let same = GivenSecrets::default().merged(Some((&upper, &first.secrets)), &lower, now).unwrap();
        assert_eq!(same.changed, [""; 0]);
        assert_eq!(same.secrets.headers.len(), 1);
        let next = given(r#"{"headers": {"X-API-KEY": "k2"}}"#);
        let next = next.merged(Some((&lower, &same.secrets)), &lower, now).unwrap();
        assert_eq!(
            (next.changed, &next.secrets.headers["x-api-key"]),
            (vec!["headers.x-api-key".to_owned()], &"k2".to_owned())
        );
    }

    #[test]
    fn secrets_that_do_not_fit_are_refused_by_name_and_never_shown() {
        let now = event::now();
        let check = |json: &str, push: &str, expect: &str| {
            let refused = given(json).merged(None, &declaration(push), now).map(drop).unwrap_err();
            assert_eq!(refused.to_string(), expect);
        };
        let plain = r#"{"url": "https://crm.example"}"#;
        check(r#"{"signing": "hunter2"}"#, plain, "secrets.signing: a signing secret begins with whsec_");
        check(
            r#"{"auth": "hunter2"}"#,
            plain,
            "secrets.auth: push.auth is missing, which this secret belongs to",
        );
        check(
            r#"{"headers": {"x-other": "hunter2"}}"#,
            plain,
            "secrets.headers: \"x-other\" is not among push.headers",
        );
        check("{}", KEYED, "secrets.headers: the value of x-api-key is missing");
        check(
            r#"{"headers": {"x-api-key": "hunter2"}}"#,
            KEYED,
            "secrets.auth: the password, the token or the client secret of push.auth is missing",
        );
        assert!(!format!("{:?}", given(r#"{"auth": "hunter2"}"#)).contains("hunter2"));
    }
}
