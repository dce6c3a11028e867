//! Where events go: each binding of a topic to a queue or a subscription, and what takes a given topic.

use axum::Json;
use axum::extract::{RawQuery, State};
use broker::topology::topic_matches;
use event::{ProviderName, Topic};
use serde::{Deserialize, Serialize};
use store::{Page, Paged};
use subscriptions::{DoorKind, SubscriptionRow};
use utoipa::{IntoParams, ToSchema};
use view::{Column, Described, Form, List, Row, Shown, View, column, shown};

use crate::ConsoleState;
use crate::page;
use crate::refusal::Refusal;

/// `routes`: what the topology and the subscriptions declare.
pub static ROUTES: View<Described> = View {
    name: "routes",
    tag: "operations",
    about: "Where events go: each topic of each provider, and the queue or subscription that takes it. With a provider and a topic: \
            where that topic would go",
    row: "route",
    rows: "routes",
    example: "provider=gestao-online&topic=ORDER_CREATED",
    empty: "Nothing takes this: such events are recorded, and marked as unrouted. `malote subscriptions add` makes something take them.",
    reading: Described::filtered::<RouteRow, RouteFilter>(),
};

/// Which routes to list: all that is given must fit.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RouteFilter {
    /// The kind of sender.
    #[param(value_type = Option<String>)]
    provider: Option<ProviderName>,
    /// A topic: what takes it.
    #[param(value_type = Option<String>)]
    topic: Option<Topic>,
}

/// A topic of a provider, and what takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteRow {
    /// The kind of sender.
    pub provider: String,
    /// The pattern of its topics: `*` is one word, `#` any number of words.
    pub topics: String,
    /// The exchange where they are matched; null for a subscription that reads the feed.
    pub exchange: Option<String>,
    /// The queue, or the subscription.
    pub to: String,
    /// What that is: `consumer`, or the door of a subscription.
    pub kind: String,
    /// How many messages wait in the queue, or how many events the subscription is behind.
    pub waiting: Option<i64>,
    /// How many events of these topics come in an hour, by those of the last 10 minutes.
    #[serde(default)]
    pub hourly: i64,
}

impl Shown for RouteRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Provider", |row| shown(&row.provider), Form::Text),
        column("Topics", |row| shown(&row.topics), Form::Text),
        column("Exchange", |row| shown(&row.exchange), Form::Text),
        column("To", |row| shown(&row.to), Form::Text),
        column("Kind", |row| shown(&row.kind), Form::Text),
        column("Waiting", |row| shown(&row.waiting), Form::Number),
        column("Per hour", |row| shown(&row.hourly), Form::Number),
    ];
}

/// Answers with [`ROUTES`].
pub(crate) async fn routes(
    State(state): State<ConsoleState>,
    RawQuery(query): RawQuery,
) -> Result<Json<List<RouteRow>>, Refusal> {
    let filter = page::filter::<RouteFilter>(&query.unwrap_or_default())?;
    let mut items = consumer_routes(&state).await?;
    items.extend(subscription_routes(&state).await?);
    items.retain(|row| {
        filter.provider.as_ref().is_none_or(|provider| provider.as_str() == row.provider)
            && filter.topic.as_ref().is_none_or(|topic| topic_matches(&row.topics, topic.as_str()))
    });
    let hourly = ledger::hourly(&mut *state.store.read().await?, event::now()).await?;
    for row in &mut items {
        let fits = |(provider, topic): &(String, String)| {
            *provider == row.provider && topic_matches(&row.topics, topic)
        };
        row.hourly = hourly.iter().filter(|(sender, _)| fits(sender)).map(|(_, count)| count).sum();
    }
    items.sort_by(|a, b| (&a.provider, &a.topics, &a.to).cmp(&(&b.provider, &b.topics, &b.to)));
    Ok(Json(Paged { items, next: None }.into()))
}

/// The bindings of our consumers.
async fn consumer_routes(state: &ConsoleState) -> Result<Vec<RouteRow>, Refusal> {
    let names: Vec<_> = state.work.iter().map(|work| state.layout.queue(&work.consumer)).collect();
    let statuses = state.broker.queues(&names).await?;
    let rows = state.work.iter().zip(statuses).flat_map(|(work, status)| {
        let waiting = i64::try_from(status.ready).ok();
        work.topics.iter().map(move |(provider, topics)| RouteRow {
            provider: provider.to_string(),
            topics: topics.clone(),
            exchange: Some(state.layout.webhooks(provider).to_string()),
            to: status.queue.to_string(),
            kind: "consumer".to_owned(),
            waiting,
            hourly: 0,
        })
    });
    Ok(rows.collect())
}

/// What subscriptions ask for.
async fn subscription_routes(state: &ConsoleState) -> Result<Vec<RouteRow>, Refusal> {
    let mut connection = state.store.read().await?;
    let page = SubscriptionRow::page(&mut connection, &Default::default(), &Page::first(Page::LIMIT)).await?;
    let rows = page.items.into_iter().flat_map(|subscription| {
        let SubscriptionRow { name, door, topics, lag, .. } = subscription;
        topics.into_iter().filter_map(move |topic| {
            let (provider, topics) = topic.split_once(':')?;
            let provider = ProviderName::new(provider).ok()?;
            let exchange = (door == DoorKind::Queue).then(|| state.layout.webhooks(&provider).to_string());
            Some(RouteRow {
                provider: provider.to_string(),
                topics: topics.to_owned(),
                exchange,
                to: name.clone(),
                kind: door.as_str().to_owned(),
                waiting: lag,
                hourly: 0,
            })
        })
    });
    Ok(rows.collect())
}
