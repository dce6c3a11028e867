//! OpenID Connect: who somebody is at a provider, and which role the groups there give.
//!
//! Authorization code with PKCE. Requests go through the same client as those of push subscriptions, so a provider in a private
//! network is one of `[outbound] allow`. This file knows no page.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{Identity, Role};
use event::Chain;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreClientAuthMethod, CoreErrorResponseType, CoreGenderClaim,
    CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
    CoreResponseType, CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse,
    CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AuthType, AuthenticationFlow, AuthorizationCode, ClientId, ClientSecret, CsrfToken,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse,
    IdTokenClaims, IdTokenFields, IssuerUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope,
    StandardErrorResponse, StandardTokenResponse, TokenResponse,
};
use outbound::{Credentials, Request, SendError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

/// How long a provider may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer of a provider, in bytes.
const MOST_ANSWER: usize = 1 << 20;

/// How long what a provider has said about itself is used, with its keys.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// At which provider people log in, and what their groups give them.
#[derive(Clone)]
pub struct OidcSettings {
    /// The provider: what `/.well-known/openid-configuration` is below.
    pub issuer: String,
    /// The name of this installation at the provider.
    pub client_id: String,
    /// Its secret; without one, it is a public client.
    pub client_secret: Option<String>,
    /// The claim of the ID token with the groups; with dots, one inside others.
    pub groups_claim: String,
    /// The role that each group gives.
    pub roles: BTreeMap<String, Role>,
}

/// A provider. Clones share what is known of it.
#[derive(Clone)]
pub struct Oidc(Arc<Inner>);

struct Inner {
    settings: OidcSettings,
    issuer: IssuerUrl,
    client: outbound::Client,
    known: Mutex<Option<(Instant, CoreProviderMetadata)>>,
}

/// Claims besides those of the standard.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Others {
    #[serde(flatten)]
    claims: Map<String, Value>,
}

impl AdditionalClaims for Others {}

type Tokens = StandardTokenResponse<
    IdTokenFields<
        Others,
        EmptyExtraTokenFields,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    >,
    CoreTokenType,
>;

type Client = openidconnect::Client<
    Others,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// What a browser keeps between leaving for the provider and coming back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) state: String,
    pub(crate) nonce: String,
    pub(crate) verifier: String,
    /// Where it goes on.
    pub(crate) next: String,
}

/// Why nobody is logged in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OidcError {
    /// The provider cannot be asked, or answers something else.
    #[error("The provider {issuer} cannot be used: {reason}")]
    Provider { issuer: String, reason: String },
    /// What it says about somebody is not valid.
    #[error("The provider's ID token is not valid: {0}. Log in again.")]
    Token(String),
    /// Who somebody is gives no role.
    #[error(
        "{name} has no role here. The groups {groups:?} of the claim {claim} are not among `console.oidc.roles`: ask an \
         administrator to add one of them there, or to add you to a group that is."
    )]
    NoRole { name: String, groups: Vec<String>, claim: String },
}

/// Why a request to the provider has no answer.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("its address cannot be used")]
    Address(#[source] outbound::BadAddress),
    #[error("it does not answer")]
    Send(#[source] SendError),
    #[error("its answer is too long")]
    TooLong,
}

/// The issuer cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a URL such as https://id.example.com/realms/main; with http only on this machine")]
pub struct BadIssuer;

impl OidcSettings {
    /// Whether people can log in there, as far as that shows before it is asked.
    pub fn check(&self) -> Result<(), BadIssuer> {
        self.url().map(drop)
    }

    fn url(&self) -> Result<IssuerUrl, BadIssuer> {
        let issuer = IssuerUrl::new(self.issuer.clone()).map_err(|_| BadIssuer)?;
        let (scheme, host) = (issuer.url().scheme(), issuer.url().host_str().unwrap_or_default());
        let is_safe = scheme == "https" || (scheme == "http" && is_this_machine(host));
        if is_safe { Ok(issuer) } else { Err(BadIssuer) }
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Oidc {
    /// A provider that is asked with this client.
    pub fn new(settings: OidcSettings, client: outbound::Client) -> Result<Self, BadIssuer> {
        let issuer = settings.url()?;
        Ok(Self(Arc::new(Inner { settings, issuer, client, known: Mutex::default() })))
    }

    /// Where somebody logs in, who then comes back to `redirect`; and what their browser keeps meanwhile.
    pub(crate) async fn leave(&self, redirect: &str, next: String) -> Result<(String, Kept), OidcError> {
        let client = self.client(redirect).await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let (url, state, nonce) = client
            .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
            .add_scopes(["email", "profile"].map(|scope| Scope::new(scope.to_owned())))
            .set_pkce_challenge(challenge)
            .url();
        let kept = Kept {
            state: state.secret().clone(),
            nonce: nonce.secret().clone(),
            verifier: verifier.secret().clone(),
            next,
        };
        Ok((url.to_string(), kept))
    }

    /// Who has come back with this code.
    pub(crate) async fn come_back(
        &self,
        redirect: &str,
        kept: &Kept,
        code: String,
    ) -> Result<Identity, OidcError> {
        let client = self.client(redirect).await?;
        let http = |request| send(self.0.client.clone(), request);
        let asked =
            client.exchange_code(AuthorizationCode::new(code)).map_err(|error| self.broken(&error))?;
        let asked = asked.set_pkce_verifier(PkceCodeVerifier::new(kept.verifier.clone()));
        let tokens = asked.request_async(&http).await.map_err(|error| self.broken(&error))?;
        let token = tokens.id_token().ok_or_else(|| OidcError::Token("there is none".to_owned()))?;
        let claims = token.claims(&client.id_token_verifier(), &Nonce::new(kept.nonce.clone()));
        self.identity(claims.map_err(|error| OidcError::Token(Chain(&error).to_string()))?)
    }

    fn identity(&self, claims: &IdTokenClaims<Others, CoreGenderClaim>) -> Result<Identity, OidcError> {
        let OidcSettings { groups_claim, roles, .. } = &self.0.settings;
        let email = claims.email().filter(|_| claims.email_verified() != Some(false));
        let name = email.map(|email| email.to_string());
        let name = name.or_else(|| claims.preferred_username().map(|name| name.to_string()));
        let mut name = name.unwrap_or_else(|| claims.subject().to_string());
        if access::is_name(&name) {
            // Tokens have such names.
            name += &format!("@{}", self.0.issuer.url().host_str().unwrap_or_default());
        }
        let groups = groups(&claims.additional_claims().claims, groups_claim);
        match groups.iter().filter_map(|group| roles.get(group)).max() {
            Some(role) => Ok(Identity { name, role: *role }),
            None => Err(OidcError::NoRole { name, groups, claim: groups_claim.clone() }),
        }
    }

    /// What the provider is spoken to with. What it says about itself is asked for at most once in [`KNOWN_FOR`], however many
    /// strangers want to log in.
    async fn client(&self, redirect: &str) -> Result<Client, OidcError> {
        let Inner { settings, issuer, client, known } = &*self.0;
        let mut known = known.lock().await;
        let metadata = match &*known {
            Some((since, metadata)) if since.elapsed() < KNOWN_FOR => metadata.clone(),
            _ => {
                let http = |request| send(client.clone(), request);
                let found = CoreProviderMetadata::discover_async(issuer.clone(), &http).await;
                let found = found.map_err(|error| self.broken(&error))?;
                known.insert((Instant::now(), found)).1.clone()
            }
        };
        drop(known);
        let methods = metadata.token_endpoint_auth_methods_supported().cloned().unwrap_or_default();
        let (id, secret) = (ClientId::new(settings.client_id.clone()), settings.client_secret.clone());
        let made = Client::from_provider_metadata(metadata, id, secret.map(ClientSecret::new));
        // Without a list it is Basic (OpenID Connect Discovery 1.0, section 3).
        let made = match methods.is_empty() || methods.contains(&CoreClientAuthMethod::ClientSecretBasic) {
            true => made,
            false => made.set_auth_type(AuthType::RequestBody),
        };
        Ok(made.set_redirect_uri(RedirectUrl::new(redirect.to_owned()).map_err(|error| self.broken(&error))?))
    }

    fn broken(&self, error: &dyn std::error::Error) -> OidcError {
        OidcError::Provider { issuer: self.0.settings.issuer.clone(), reason: Chain(error).to_string() }
    }
}

/// The groups of a claim: a list of texts, or one text.
fn groups(claims: &Map<String, Value>, name: &str) -> Vec<String> {
    let inside = || {
        let mut names = name.split('.');
        let first = claims.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    };
    match claims.get(name).or_else(inside) {
        Some(Value::String(group)) => vec![group.clone()],
        Some(Value::Array(groups)) => groups.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

async fn send(client: outbound::Client, request: HttpRequest) -> Result<HttpResponse, RequestError> {
    let (head, body) = request.into_parts();
    let request = Request {
        method: head.method,
        url: head.uri.to_string().parse().map_err(RequestError::Address)?,
        headers: head.headers,
        body: body.into(),
        timeout: TIMEOUT,
        max_answer: MOST_ANSWER,
    };
    let answer = client.send(request, &Credentials::None).await.map_err(RequestError::Send)?;
    if answer.is_cut {
        return Err(RequestError::TooLong);
    }
    let mut response = HttpResponse::new(answer.body.to_vec());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_provider_elsewhere_needs_tls() {
        let check = |issuer: &str, is_taken: bool| {
            let settings = OidcSettings {
                issuer: issuer.to_owned(),
                client_id: "malote".to_owned(),
                client_secret: None,
                groups_claim: "groups".to_owned(),
                roles: BTreeMap::new(),
            };
            assert_eq!(settings.check().is_ok(), is_taken, "{issuer}");
        };
        check("https://id.example.com/realms/main", true);
        check("http://127.0.0.1:8080", true);
        check("http://id.example.com", false);
        check("id.example.com", false);
    }

    #[test]
    fn groups_are_a_list_one_text_or_inside_another_claim() {
        let claims =
            json!({"groups": ["a", 1, "b"], "role": "ops", "realm": {"access": ["c"]}, "x.y": ["d"]});
        let claims = claims.as_object().unwrap();
        for (name, expect) in [
            ("groups", &["a", "b"][..]),
            ("role", &["ops"]),
            ("realm.access", &["c"]),
            ("x.y", &["d"]),
            ("none", &[]),
            ("groups.none", &[]),
        ] {
            assert_eq!(groups(claims, name), expect, "{name}");
        }
    }
}
