//! What the tables of tokens and audit must do on both databases.

use std::time::Duration;

use event::Timestamp;
use store::{Page, Store};
use view::{NoFilter, Row};

use crate::{
    AddedToken, AuditFilter, AuditRow, BadToken, Digest, Entry, Fresh, Holder, Identity, Login, NewApiToken,
    PREFIX, Role, TokenRow, UserFilter, UserRow, add, begin_session, end_session, forget, forget_sessions,
    identify, known, note_login, note_session, note_use, record, remove, session,
};

fn new(name: &str, role: Role) -> NewApiToken {
    NewApiToken { name: name.to_owned(), role, expires_at: None }
}

fn digest(added: &AddedToken) -> Digest {
    Digest::presented(PREFIX, added.token.as_bytes()).expect("a token")
}

async fn owner(store: &Store, digest: Digest, now: Timestamp) -> Option<Identity> {
    let mut connection = store.read().await.expect("a connection");
    identify(&mut connection, digest, now).await.expect("an answer").map(|(identity, _)| identity)
}

async fn tokens(store: &Store) -> Vec<TokenRow> {
    let mut connection = store.read().await.expect("a connection");
    TokenRow::page(&mut connection, &NoFilter {}, &Page::first(10)).await.expect("a page").items
}

async fn audit(store: &Store, filter: AuditFilter) -> Vec<AuditRow> {
    let mut connection = store.read().await.expect("a connection");
    AuditRow::page(&mut connection, &filter, &Page::first(10)).await.expect("a page").items
}

/// A token opens what its role allows, until it is removed; its text is nowhere.
pub async fn a_token_is_its_owners_until_it_is_removed(store: &Store) {
    let by = Identity::installation();
    let added = add(store, &new("maria", Role::Operator), &by).await.expect("it is added");
    let now = event::now();
    let expect = Identity { name: "maria".to_owned(), role: Role::Operator };
    assert_eq!(owner(store, digest(&added), now).await, Some(expect));
    let all = known(&mut store.read().await.expect("a connection")).await.expect("all");
    assert_eq!(all.into_iter().collect::<Vec<_>>(), [(digest(&added), "maria".to_owned())]);
    let [row] = tokens(store).await.try_into().expect("one token");
    assert_eq!((row.created_by.as_str(), row.role, row.used_at), ("installation", Role::Operator, None));
    let other = Digest::presented(PREFIX, format!("{PREFIX}{}", "0".repeat(64)).as_bytes())
        .expect("a possible token");
    assert_eq!(owner(store, other, now).await, None);
    assert_eq!(remove(store, "maria").await.expect("it is removed"), Some(row));
    assert_eq!(remove(store, "maria").await.expect("nothing is left"), None);
    assert_eq!(owner(store, digest(&added), now).await, None);
}

/// Every request for a token that could mislead somebody is refused.
pub async fn a_token_that_would_mislead_is_not_added(store: &Store) {
    let by = Identity::installation();
    add(store, &new("ci", Role::Viewer), &by).await.expect("it is added");
    let past = NewApiToken { expires_at: Some(event::now()), ..new("old", Role::Viewer) };
    let cases = [
        (new("ci", Role::Admin), "there is a token ci already"),
        (new("installation", Role::Viewer), "installation is the token of the configuration"),
        (new("Maria", Role::Viewer), "name: expected 1 to 64 lower-case letters"),
        (new("", Role::Viewer), "name: expected"),
        (new(&"m".repeat(65), Role::Viewer), "name: expected"),
        (past, "has passed already"),
    ];
    for (new, expect) in cases {
        let error: BadToken = add(store, &new, &by).await.expect_err(expect);
        assert!(error.to_string().contains(expect), "{error}");
    }
    let [row] = tokens(store).await.try_into().expect("the first token");
    assert_eq!(row.role, Role::Viewer);
}

/// A token opens nothing from its end on.
pub async fn a_token_ends_when_it_expires(store: &Store) {
    let expires = event::now() + Duration::from_secs(3600);
    let asked = NewApiToken { expires_at: Some(expires), ..new("guest", Role::Viewer) };
    let added = add(store, &asked, &Identity::installation()).await.expect("it is added");
    let before = expires - Duration::from_millis(1);
    assert!(owner(store, digest(&added), before).await.is_some());
    assert_eq!(owner(store, digest(&added), expires).await, None);
}

/// The last use of a token is kept to the minute, and written no more often.
pub async fn the_last_use_is_kept_to_the_minute(store: &Store) {
    let added =
        add(store, &new("maria", Role::Viewer), &Identity::installation()).await.expect("it is added");
    let first = event::now();
    for (seconds, expect) in [(0, 0), (59, 0), (61, 61)] {
        let now = first + Duration::from_secs(seconds);
        let found = identify(&mut store.read().await.expect("a connection"), digest(&added), now).await;
        let (identity, used) = found.expect("an answer").expect("an owner");
        note_use(store, &identity, used, now).await.expect("it is noted");
        let [row] = tokens(store).await.try_into().expect("one token");
        assert_eq!(row.used_at, Some(first + Duration::from_secs(expect)), "after {seconds} s");
    }
}

/// A session stands for its token until it is ended, was not used for some hours, or is a week old.
pub async fn a_session_ends_by_itself_or_at_once(store: &Store) {
    let now = event::now();
    let token = Holder::Token(Digest::new(b"let-me-in"));
    let found = async |cookie: &Fresh, now| {
        let mut connection = store.read().await.expect("a connection");
        session(&mut connection, cookie.digest, now).await.expect("an answer")
    };
    let first = begin_session(store, &token, now).await.expect("it begins");
    assert_eq!(found(&first, now).await, Some((token.clone(), false)));
    let minutes = |minutes: u64| now + Duration::from_secs(60 * minutes);
    assert_eq!(found(&first, minutes(2)).await, Some((token.clone(), true)));
    assert_eq!(found(&first, minutes(8 * 60)).await, None);
    note_session(store, first.digest, minutes(8 * 60 - 1)).await.expect("it is noted");
    assert_eq!(found(&first, minutes(8 * 60)).await, Some((token.clone(), false)));
    note_session(store, first.digest, minutes(7 * 24 * 60 - 1)).await.expect("it is noted");
    assert_eq!(found(&first, minutes(7 * 24 * 60)).await, None);
    let second = begin_session(store, &token, now).await.expect("it begins");
    end_session(store, second.digest).await.expect("it ends");
    assert_eq!(found(&second, now).await, None);
    forget_sessions(store, minutes(7 * 24 * 60)).await.expect("the first is old");
    assert_eq!(found(&first, now).await, None);
}

/// A user's session has the name and the role of the log-in.
pub async fn a_session_of_a_user_says_who_it_is(store: &Store) {
    let now = event::now();
    let user = Holder::User(Identity { name: "maria@example.com".to_owned(), role: Role::Operator });
    let cookie = begin_session(store, &user, now).await.expect("it begins");
    let mut connection = store.read().await.expect("a connection");
    let found = session(&mut connection, cookie.digest, now).await.expect("an answer");
    assert_eq!(found, Some((user, false)));
}

/// Of each user the list has the last log-in; the same name at a provider and of a token are two.
pub async fn a_user_is_listed_with_the_last_log_in(store: &Store) {
    let now = event::now();
    let maria = |role| Identity { name: "maria".to_owned(), role };
    let later = now + Duration::from_secs(60);
    for (role, login, client, at) in [
        (Role::Admin, Login::OpenidConnect, "10.0.0.7", now),
        (Role::Viewer, Login::Token, "10.0.0.8", now),
        (Role::Operator, Login::OpenidConnect, "10.0.0.9", later),
    ] {
        note_login(store, &maria(role), login, client, at).await.expect("it is noted");
    }
    let users = async |filter: UserFilter| {
        let mut connection = store.read().await.expect("a connection");
        UserRow::page(&mut connection, &filter, &Page::first(10)).await.expect("a page").items
    };
    let expect = UserRow {
        name: "maria".to_owned(),
        role: Role::Operator,
        login: Login::OpenidConnect,
        last_login_at: later,
        client: "10.0.0.9".to_owned(),
        first_login_at: now,
        logins: 2,
    };
    let by_login = UserFilter { login: Some(Login::OpenidConnect), ..UserFilter::default() };
    assert_eq!(users(by_login).await, std::slice::from_ref(&expect));
    assert_eq!(users(UserFilter { role: Some(Role::Operator), ..UserFilter::default() }).await, [expect]);
    let named = |name: &str| UserFilter { name: Some(name.to_owned()), ..UserFilter::default() };
    assert_eq!((users(named("maria")).await.len(), users(named("mari")).await.len()), (2, 0));
}

/// Entries are listed by who, what and when, and go when they are old.
pub async fn entries_are_found_and_go_when_they_are_old(store: &Store) {
    let maria = Identity { name: "maria".to_owned(), role: Role::Operator };
    let begun = event::now() - Duration::from_millis(1);
    for (identity, what, status) in
        [(&maria, "/api/v1/events/0199_a/body", 200), (&Identity::installation(), "/api/v1/jobs", 201)]
    {
        let (client, action) = ("10.0.0.7".to_owned(), "GET /api/v1/events/{id}/body".to_owned());
        let people = if status == 200 { vec!["p1".to_owned(), "p2".to_owned()] } else { Vec::new() };
        let entry = Entry { identity, client, action, what: what.to_owned(), status, people };
        record(store, &entry).await.expect("it is written");
    }
    let count = async |filter| audit(store, filter).await.len();
    let filter = AuditFilter::default;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(count(filter()).await, 2);
    assert_eq!(count(AuditFilter { who: text("maria"), ..filter() }).await, 1);
    assert_eq!(count(AuditFilter { what: text("0199_a"), ..filter() }).await, 1);
    assert_eq!(count(AuditFilter { what: text("0199%a"), ..filter() }).await, 0);
    for (person, expect) in [("p1", 1), ("p2", 1), ("p3", 0)] {
        assert_eq!(count(AuditFilter { person: text(person), ..filter() }).await, expect, "{person}");
    }
    assert_eq!(count(AuditFilter { from: Some(begun), ..filter() }).await, 2);
    assert_eq!(count(AuditFilter { to: Some(begun), ..filter() }).await, 0);
    let [entry] =
        audit(store, AuditFilter { who: text("maria"), ..filter() }).await.try_into().expect("one entry");
    let by_id = |id: &str| AuditFilter { id: id.parse().ok(), ..AuditFilter::default() };
    assert_eq!(count(by_id(&entry.id)).await, 1);
    assert_eq!(count(by_id(&entry.id[..8])).await, 2);
    assert_eq!((entry.role, entry.client.as_str(), entry.status), (Role::Operator, "10.0.0.7", 200));
    assert!(!forget(store, begun).await.expect("nothing is that old"));
    assert_eq!(count(filter()).await, 2);
    assert!(!forget(store, event::now() + Duration::from_secs(1)).await.expect("all are older"));
    assert_eq!(count(filter()).await, 0);
    let left = "SELECT person FROM audit_people".to_owned();
    let left = store::many::fetch(&mut store.read().await.expect("it is there"), left, []).await;
    assert!(left.expect("it is read").is_empty());
}

/// The laws as tests: see [`store::law_tests!`].
#[macro_export]
macro_rules! access_laws {
    ($store:expr) => {
        store::law_tests! { $store, [$crate::COMPONENT], $crate =>
            a_token_is_its_owners_until_it_is_removed
            a_token_that_would_mislead_is_not_added
            a_token_ends_when_it_expires
            the_last_use_is_kept_to_the_minute
            a_session_ends_by_itself_or_at_once
            a_session_of_a_user_says_who_it_is
            a_user_is_listed_with_the_last_log_in
            entries_are_found_and_go_when_they_are_old
        }
    };
}

#[cfg(test)]
mod sqlite {
    access_laws!(store::fresh_sqlite!());
}
