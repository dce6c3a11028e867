//! Subscriptions: added, shown, edited, paused, resumed, moved, tried and removed.

use std::time::Duration;

use access::Fresh;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, FromRequestParts, Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use event::{APP_ID, Chain, SubscriptionName};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;
use store::Page;
use subscriptions::push;
use subscriptions::{
    Added, Declaration, Door, DoorKind, Edited, Editing, GivenSecrets, Merged, NewSubscription, OVERLAP,
    Pausing, QueueDoor, Removing, Resume, Resuming, Rotation, Secrets, Seek, Seeking, ShownOnce,
    SigningSecret, Subscription, SubscriptionDetail, SubscriptionError, SubscriptionRow, Trial, TrialOutcome,
    Tried, try_out,
};

use crate::ConsoleState;
use crate::feed::wrong;
use crate::names;
use crate::page::pairs;
use crate::queue_door;
use crate::refusal::Refusal;
use crate::reveal::{Reveal, RevealParameter};
use crate::token::Audited;

/// The doors that this release delivers through.
const DOORS: [DoorKind; 3] = [DoorKind::Push, DoorKind::Pull, DoorKind::Queue];

/// The name in a path. What is no name is the name of nothing.
pub(crate) struct Named(pub(crate) SubscriptionName);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|_| Refusal::NoSuchPath)?;
        SubscriptionName::new(&text).map(Self).map_err(|_| Refusal::NoSubscription(text))
    }
}

/// The body of a request; an error names the field.
pub(crate) fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.inner());
        Refusal::Parameter(if path == "." { error.to_string() } else { format!("{path}: {error}") })
    })?;
    json.end().map_err(|error| Refusal::Parameter(error.to_string()))?;
    Ok(read)
}

/// The body of a request that may have none.
fn read_optional<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Refusal> {
    if body.is_empty() { Ok(T::default()) } else { read_json(body) }
}

/// Refuses a declaration that cannot be used: the error begins with the field.
async fn check(state: &ConsoleState, declaration: &Declaration) -> Result<(), Refusal> {
    declaration.check().map_err(SubscriptionError::from)?;
    let door = declaration.door().map_err(SubscriptionError::from)?.kind();
    if !DOORS.contains(&door) {
        let doors = DOORS.map(DoorKind::as_str).join(", ");
        return Err(wrong(
            door.as_str(),
            format!("this release delivers through another door; expected {doors}"),
        ));
    }
    queue_door::check(state, declaration)?;
    let topics = declaration.topics().map_err(SubscriptionError::from)?;
    // malote is a provider, too: of its own events.
    let providers = topics.providers().filter(|provider| provider.as_str() != APP_ID);
    let providers: Vec<_> = providers.map(|provider| ("provider".to_owned(), provider.to_string())).collect();
    let checked = names::check(state, &mut *state.store.read().await?, &providers, None).await;
    checked.map_err(|refusal| match refusal {
        Refusal::Parameter(text) => wrong("topics", text.trim_start_matches("provider: ")),
        other => other,
    })
}

async fn row(state: &ConsoleState, name: &SubscriptionName) -> Result<SubscriptionRow, Refusal> {
    let row = SubscriptionRow::new(&mut *state.store.read().await?, name).await?;
    row.ok_or_else(|| Refusal::NoSubscription(name.to_string()))
}

async fn find(state: &ConsoleState, name: &SubscriptionName) -> Result<Subscription, Refusal> {
    let found = subscriptions::get(&state.store, name).await?;
    found.ok_or_else(|| Refusal::NoSubscription(name.to_string()))
}

/// The refusal of a change whose place is in this field.
fn placed(field: &str, error: SubscriptionError) -> Refusal {
    match error {
        SubscriptionError::NoEvent(_) => wrong(field, error),
        SubscriptionError::NoHistory(_) => wrong("rate_per_s", error),
        other => other.into(),
    }
}

/// Gives a subscription a new token, which is shown only in this answer.
async fn new_token(state: &ConsoleState, name: &SubscriptionName) -> Result<ShownOnce, Refusal> {
    let Fresh { text, digest } = subscriptions::pull::new_token();
    subscriptions::set_token(&state.store, name, digest.0).await?;
    Ok(ShownOnce { token: Some(text), ..ShownOnce::default() })
}

/// The secrets that a declaration is saved with. Refuses an endpoint that nothing can be sent to.
fn secrets(
    state: &ConsoleState,
    declaration: &Declaration,
    given: GivenSecrets,
    known: Option<(&Declaration, &Secrets)>,
) -> Result<Merged, Refusal> {
    let merged = given.merged(known, declaration, event::now());
    let merged = merged.map_err(|error| Refusal::Parameter(error.to_string()))?;
    if declaration.push.is_some() {
        let checked = push::check(&state.client, declaration, &merged.secrets);
        checked.map_err(|error| Refusal::Parameter(Chain(&error).to_string()))?;
    }
    Ok(merged)
}

/// What a new subscription needs besides its row: a token, or a queue and its user; of a push subscription, the secret that was made. It is shown only in this answer.
async fn equip(
    state: &ConsoleState,
    subscription: &Subscription,
    made: Option<String>,
) -> Result<ShownOnce, Refusal> {
    match subscription.door()? {
        Door::Push(_) => Ok(ShownOnce { secret: made, ..ShownOnce::default() }),
        Door::Pull(_) => new_token(state, subscription.name()).await,
        Door::Queue(QueueDoor { user }) => {
            queue_door::follow(state, subscription).await;
            match user {
                Some(_) => queue_door::credentials(state, subscription).await,
                None => Ok(ShownOnce::default()),
            }
        }
    }
}

/// Adds a subscription, or with `dry_run` only checks it. The token, the signing secret or the password that was made is shown only
/// in this answer.
#[utoipa::path(post, path = "/api/v1/subscriptions", tag = "subscriptions", operation_id = "add_subscription",
    request_body = NewSubscription, responses(
    (status = 201, description = "The subscription", body = Added),
    (status = 200, description = "It could be added; what would be saved", body = Declaration),
    (status = 409, description = "There is one with this name")))]
pub(crate) async fn create(State(state): State<ConsoleState>, body: Bytes) -> Result<Response, Refusal> {
    let NewSubscription { declaration, secrets: given, begin, dry_run } = read_json(&body)?;
    check(&state, &declaration).await?;
    let Merged { secrets, made, .. } = secrets(&state, &declaration, given, None)?;
    let begin: Seek = begin.parse().map_err(|error| wrong("begin", error))?;
    if let Seek::Cursor(cursor) = begin {
        state.feed.check(cursor).await?;
    }
    let name = declaration.name.clone();
    if dry_run {
        if subscriptions::get(&state.store, &name).await?.is_some() {
            return Err(SubscriptionError::Exists(name).into());
        }
        return Ok(Json(declaration).into_response());
    }
    let added = subscriptions::add(&state.store, &state.seal, &declaration, &secrets, begin).await;
    let added = added.map_err(|error| placed("begin", error))?;
    let equipped = async {
        let shown_once = equip(&state, &added, made).await?;
        Ok(Added { subscription: row(&state, &name).await?, shown_once })
    };
    let answer: Added = match equipped.await {
        Ok(answer) => answer,
        Err(refusal) => {
            // Nobody would ever see its secret.
            take_back(&state, &added).await?;
            return Err(refusal);
        }
    };
    tracing::info!(subscription = name.as_str(), "a subscription is added");
    Ok((StatusCode::CREATED, Extension(Audited(name.to_string())), Json(answer)).into_response())
}

/// Removes a subscription that could not be added whole.
async fn take_back(state: &ConsoleState, added: &Subscription) -> Result<(), Refusal> {
    subscriptions::remove(&state.store, added.name()).await?;
    queue_door::follow(state, added).await;
    Ok(())
}

/// One subscription: what it asks for, and how it is.
#[utoipa::path(get, path = "/api/v1/subscriptions/{name}", tag = "subscriptions", operation_id = "show_subscription",
    params(("name" = String, Path, description = "The subscription's name")),
    responses((status = 200, description = "The subscription", body = SubscriptionDetail)))]
pub(crate) async fn show(
    State(state): State<ConsoleState>,
    Named(name): Named,
) -> Result<Json<SubscriptionDetail>, Refusal> {
    let row = row(&state, &name).await?;
    let Subscription { declaration, version, failures, backfill, created_at, changed_at, .. } =
        find(&state, &name).await?;
    Ok(Json(SubscriptionDetail { row, declaration, backfill, version, failures, created_at, changed_at }))
}

/// Replaces what a subscription asks for, or with `dry_run` only checks it. Its position, its token and the secrets that are not
/// given stay.
#[utoipa::path(put, path = "/api/v1/subscriptions/{name}", tag = "subscriptions", operation_id = "edit_subscription",
    params(("name" = String, Path, description = "The subscription's name")), request_body = Editing,
    responses((status = 200, description = "What changed", body = Edited),
        (status = 409, description = "Its door would become another one, or it has another version")))]
pub(crate) async fn edit(
    State(state): State<ConsoleState>,
    Named(name): Named,
    body: Bytes,
) -> Result<Json<Edited>, Refusal> {
    let Editing { declaration, secrets: given, version, dry_run } = read_json(&body)?;
    if declaration.name != name {
        let message = format!("is {}, and {name} is edited: a name cannot change", declaration.name);
        return Err(wrong("declaration.name", message));
    }
    check(&state, &declaration).await?;
    let known = find(&state, &name).await?;
    let found = known.door()?.kind();
    if found != declaration.door().map_err(SubscriptionError::from)?.kind() {
        return Err(SubscriptionError::Door { name, found: found.as_str() }.into());
    }
    if dry_run {
        let before = subscriptions::unseal(&state.seal, &known)?;
        let before = (&known.declaration, &before);
        let Merged { changed, .. } = secrets(&state, &declaration, given, Some(before))?;
        return Ok(Json(Edited { declaration, secrets_changed: changed }));
    }
    let mut secrets_changed = Vec::new();
    let merge = |before: &Declaration, known: Secrets| {
        let merged = secrets(&state, &declaration, given, Some((before, &known)))?;
        secrets_changed = merged.changed;
        Ok::<_, Refusal>(merged.secrets)
    };
    subscriptions::edit(&state.store, &state.seal, &declaration, version, merge).await?;
    tracing::info!(subscription = name.as_str(), "a subscription is changed");
    queue_door::follow(&state, &known).await;
    Ok(Json(Edited { declaration, secrets_changed }))
}

/// Removes a subscription, with what waits for it, or with `dry_run` only says whether it would. A queue that holds messages, ready
/// or with a consumer, stays, unless they may be discarded.
#[utoipa::path(delete, path = "/api/v1/subscriptions/{name}", tag = "subscriptions", operation_id = "remove_subscription",
    params(("name" = String, Path, description = "The subscription's name"), Removing),
    responses((status = 200, description = "What was removed", body = SubscriptionRow),
        (status = 409, description = "Its queue holds messages")))]
pub(crate) async fn remove(
    State(state): State<ConsoleState>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Json<SubscriptionRow>, Refusal> {
    let pairs = pairs(&query.unwrap_or_default(), &view::names::<Removing>())?;
    let Removing { discard, dry_run } =
        view::read(&pairs).map_err(|error| Refusal::Parameter(error.to_string()))?;
    let found = find(&state, &name).await?;
    queue_door::may_remove(&state, &found, discard.unwrap_or_default()).await?;
    let removed = row(&state, &name).await?;
    if dry_run.unwrap_or_default() {
        return Ok(Json(removed));
    }
    subscriptions::remove(&state.store, &name).await?;
    tracing::info!(subscription = name.as_str(), "a subscription is removed");
    queue_door::follow(&state, &found).await;
    Ok(Json(removed))
}

/// Pauses a subscription: its events wait.
#[utoipa::path(post, path = "/api/v1/subscriptions/{name}/pause", tag = "subscriptions", operation_id = "pause_subscription",
    params(("name" = String, Path, description = "The subscription's name")), request_body = Pausing,
    responses((status = 200, description = "The subscription", body = SubscriptionRow)))]
pub(crate) async fn pause(
    State(state): State<ConsoleState>,
    Named(name): Named,
    body: Bytes,
) -> Result<Json<SubscriptionRow>, Refusal> {
    let Pausing { reason } = read_optional(&body)?;
    let reason = reason_to_keep(&reason)?;
    queue_door::has_cursor(&find(&state, &name).await?)?;
    subscriptions::pause(&state.store, &name, reason).await?;
    tracing::info!(subscription = name.as_str(), "a subscription is paused");
    Ok(Json(row(&state, &name).await?))
}

/// The most characters of a reason.
const MOST_REASON_CHARS: usize = 200;

/// A reason that is not too long, and that either database takes.
pub(crate) fn reason_to_keep(reason: &str) -> Result<&str, Refusal> {
    let reason = reason.trim();
    if reason.chars().count() > MOST_REASON_CHARS || reason.contains('\0') {
        return Err(wrong("reason", format!("expected at most {MOST_REASON_CHARS} characters, and no NUL")));
    }
    Ok(reason)
}

/// Resumes a subscription. `deliver` says which of the events that waited are delivered.
#[utoipa::path(post, path = "/api/v1/subscriptions/{name}/resume", tag = "subscriptions", operation_id = "resume_subscription",
    params(("name" = String, Path, description = "The subscription's name")), request_body = Resuming,
    responses((status = 200, description = "The subscription", body = SubscriptionRow)))]
pub(crate) async fn resume(
    State(state): State<ConsoleState>,
    Named(name): Named,
    body: Bytes,
) -> Result<Json<SubscriptionRow>, Refusal> {
    let Resuming { deliver } = read_json(&body)?;
    let what: Resume = deliver.parse().map_err(|error| wrong("deliver", error))?;
    queue_door::has_cursor(&find(&state, &name).await?)?;
    subscriptions::resume(&state.store, &name, what).await?;
    tracing::info!(subscription = name.as_str(), "a subscription is resumed");
    Ok(Json(row(&state, &name).await?))
}

/// The most events in a second that are delivered again.
const MOST_RATE: u32 = 100_000;

/// Sets the position of a subscription: its events after that are delivered, those before are not.
#[utoipa::path(post, path = "/api/v1/subscriptions/{name}/seek", tag = "subscriptions", operation_id = "seek_subscription",
    params(("name" = String, Path, description = "The subscription's name")), request_body = Seeking,
    responses((status = 200, description = "The subscription", body = SubscriptionRow),
        (status = 410, description = "The feed has no such position")))]
pub(crate) async fn seek(
    State(state): State<ConsoleState>,
    Named(name): Named,
    body: Bytes,
) -> Result<Json<SubscriptionRow>, Refusal> {
    let Seeking { to, rate_per_s } = read_json(&body)?;
    if rate_per_s.is_some_and(|rate| !(1..=MOST_RATE).contains(&rate)) {
        return Err(wrong("rate_per_s", format!("expected a number from 1 to {MOST_RATE}")));
    }
    let to: Seek = to.parse().map_err(|error| wrong("to", error))?;
    if let Seek::Cursor(cursor) = to {
        state.feed.check(cursor).await?;
    }
    queue_door::has_cursor(&find(&state, &name).await?)?;
    subscriptions::seek(&state.store, &name, to, rate_per_s).await.map_err(|error| placed("to", error))?;
    tracing::info!(subscription = name.as_str(), "the position of a subscription is set");
    Ok(Json(row(&state, &name).await?))
}

/// The longest time that requests are signed with two secrets, in seconds: 30 days.
const MOST_KEEP_S: u64 = 30 * 24 * 60 * 60;

/// Makes a new signing secret or token, which is shown only in this answer. Requests are signed with the previous secret, too, for
/// a time; a previous token is no longer valid.
#[utoipa::path(post, path = "/api/v1/subscriptions/{name}/rotate-secret", tag = "subscriptions",
    operation_id = "rotate_secret", params(("name" = String, Path, description = "The subscription's name")),
    request_body = Rotation, responses((status = 200, description = "The new secret or token", body = ShownOnce)))]
pub(crate) async fn rotate_secret(
    State(state): State<ConsoleState>,
    Named(name): Named,
    body: Bytes,
) -> Result<Json<ShownOnce>, Refusal> {
    let Rotation { secret, keep_s } = read_optional(&body)?;
    let found = find(&state, &name).await?;
    let shown_once = match found.door()?.kind() {
        DoorKind::Push => {
            let keep = keep_s.unwrap_or(OVERLAP.as_secs());
            if keep > MOST_KEEP_S {
                return Err(wrong("keep_s", format!("expected at most {MOST_KEEP_S}, got {keep}")));
            }
            let made = secret.is_none();
            let secret = secret.unwrap_or_else(|| SigningSecret::generate().expose().to_owned());
            secret.parse::<SigningSecret>().map_err(|error| wrong("secret", error))?;
            let until = event::now() + Duration::from_secs(keep);
            subscriptions::rotate_secret(&state.store, &state.seal, &name, secret.clone(), until).await?;
            ShownOnce { secret: made.then_some(secret), ..ShownOnce::default() }
        }
        DoorKind::Pull | DoorKind::Queue if secret.is_some() || keep_s.is_some() => {
            return Err(wrong("secret", "goes with a push subscription only"));
        }
        DoorKind::Queue => queue_door::credentials(&state, &found).await?,
        DoorKind::Pull => new_token(&state, &name).await?,
    };
    tracing::info!(subscription = name.as_str(), "a subscription has a new secret");
    Ok(Json(shown_once))
}

/// What a subscription would deliver of events on record: one that exists, or a declaration that need not be saved. Personal data
/// in it is masked unless asked for.
#[utoipa::path(post, path = "/api/v1/subscriptions/{name}/test", tag = "subscriptions", operation_id = "test_subscription",
    params(("name" = String, Path, description = "The subscription's name"), RevealParameter), request_body = Trial,
    responses((status = 200, description = "What would be delivered", body = TrialOutcome)))]
pub(crate) async fn test(
    State(state): State<ConsoleState>,
    Named(name): Named,
    reveal: Reveal,
    body: Bytes,
) -> Result<Json<TrialOutcome>, Refusal> {
    let Trial { declaration, event, last } = read_optional(&body)?;
    let tried = match (event, last.unwrap_or(Page::LIMIT)) {
        (Some(_), _) if last.is_some() => return Err(wrong("last", "goes without event")),
        (Some(event), _) => Tried::Event(event),
        (None, last) if (1..=Page::LIMIT).contains(&last) => Tried::Last(last),
        (None, last) => {
            return Err(wrong("last", format!("expected a number from 1 to {}, got {last}", Page::LIMIT)));
        }
    };
    let declaration = match declaration {
        Some(declaration) => {
            check(&state, &declaration).await?;
            declaration
        }
        None => find(&state, &name).await?.declaration,
    };
    let masked = state.personal.masked(reveal);
    Ok(Json(try_out(&state.feed, &state.store, &declaration, tried, masked).await?))
}
