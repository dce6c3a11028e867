//! The broker checks of `malote doctor`: whether it is up, its topology is as declared, and its version has known
//! faults.

use broker::embedded::OpenError;
use broker::layout::RetryDelay;
use broker::{Broker, BrokerError, ExchangeName, FixedQueue, PublishError, QueueName, QueueStatus, Topology};
use broker_rabbitmq::{RabbitMq, stand_in_of};
use event::{EventId, Message};

use super::Findings;
use crate::config::{BrokerUrl, Config};
use crate::installation;
use crate::management::{FeatureFlag, ManagedQueue, Management, Node};
use crate::report::chain;

/// The oldest RabbitMQ whose quorum queues support what we declare (at-least-once dead-lettering, message TTL).
const OLDEST: Version = Version(3, 10, 0);

/// Versions with faults that lose or withhold messages: from, up to but not including, the effect, and the remedy.
const FAULTS: [(Version, Version, &str, &str); 3] = [
    (
        Version(0, 0, 0),
        Version(4, 2, 7),
        "a retry or a dead letter may get stuck or be lost when the members of its queue change",
        "4.2.7 or 4.3.3",
    ),
    (
        Version(4, 3, 0),
        Version(4, 3, 3),
        "a retry or a dead letter may get stuck or be lost when the members of its queue change",
        "4.3.3",
    ),
    (
        Version(4, 3, 0),
        Version(4, 3, 1),
        "asking for the length of a queue needs the permission to configure it",
        "4.3.3",
    ),
];

/// What a policy may set safely: everything else of a queue is declared, and a policy could make it stricter.
const HARMLESS_IN_A_POLICY: [&str; 4] =
    ["queue-leader-locator", "target-group-size", "queue-master-locator", "ha-mode"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32, u32);

impl Version {
    fn parse(text: &str) -> Self {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self(next(), next(), next())
    }
}

/// Checks the configured broker. `is_up` says whether a process of this installation answers.
pub(super) async fn look(config: &Config, is_up: Option<bool>, findings: &mut Findings) {
    match &config.broker.url {
        BrokerUrl::Embedded => embedded(config, is_up, findings).await,
        BrokerUrl::Amqp(url) => {
            let broker = RabbitMq::connect(config.broker.rabbitmq(url.clone()));
            match broker.check().await {
                Err(error) => findings.bad(
                    chain(&error),
                    "start it, or set broker.url; user, password and virtual host have to exist",
                ),
                Ok(info) => {
                    let text = format!("the broker is {} {} at {}", info.product, info.version, info.address);
                    version(&text, &info.version, findings);
                    accepts_largest(config, &broker, findings).await;
                    let existing = declared(config, &broker, is_up, findings).await;
                    as_declared(config, &broker, &existing, findings).await;
                    managed(config, &existing, findings).await;
                }
            }
            broker.close().await;
        }
    }
}

async fn embedded(config: &Config, is_up: Option<bool>, findings: &mut Findings) {
    if is_up == Some(true) {
        return findings.good("the embedded broker is in use by the malote that answers");
    }
    if !installation::broker_file(config).exists() {
        return findings.note("the embedded broker has no file yet: the first start makes it");
    }
    let broker = match installation::open_broker(config) {
        Ok(broker) => broker,
        Err(error) => {
            let fix = match error.downcast_ref::<OpenError>() {
                Some(OpenError::InUse { .. }) => "stop that process, or set data.dir to a folder of this one",
                Some(OpenError::Version { .. }) => "start that malote, or set data.dir to another folder",
                Some(OpenError::Foreign { .. }) => {
                    "move it away or restore it from a backup; without it, a new and empty one is made"
                }
                Some(OpenError::File { .. }) => "give the file to the user that runs malote, or set data.dir",
                Some(OpenError::Room { .. }) => "make room on its disk, or set data.dir to a larger one",
                Some(OpenError::Sqlite { .. }) | None => {
                    "check the disk and the file's owner; a damaged file has to come from a backup"
                }
            };
            return findings.bad(format!("{error:#}"), fix);
        }
    };
    match broker.check().await {
        Err(error) => findings.bad(chain(&error), "check the disk"),
        Ok(info) => {
            findings.good(format!("the broker is {} {} at {}", info.product, info.version, info.address));
            declared(config, &*broker, is_up, findings).await;
        }
    }
    broker.close().await;
}

fn version(text: &str, version: &str, findings: &mut Findings) {
    let version = Version::parse(version);
    if version < OLDEST {
        return findings.bad(text, "RabbitMQ 3.10 or newer is needed");
    }
    findings.good(text);
    for (what, helps) in known_faults(version) {
        findings.note(format!("this version has a known fault: {what}; it is fixed in {helps}"));
    }
}

/// Asks the broker whether it accepts a message with the largest body: AMQP does not report its `max_message_size`. The message
/// goes to a queue that does not exist, and comes back.
async fn accepts_largest(config: &Config, broker: &dyn Broker, findings: &mut Findings) {
    let bytes = config.ingress.config().body_limit_bytes;
    let message = Message {
        message_id: EventId::generate().to_string(),
        r#type: "malote.doctor".to_owned(),
        timestamp: 0,
        content_type: String::new(),
        app_id: event::APP_ID.to_owned(),
        expiration: None,
        headers: Default::default(),
        body: vec![0; bytes].into(),
    };
    let nowhere = format!("malote.doctor.{}", message.message_id);
    match broker.publish(&ExchangeName::default_exchange(), &nowhere, message).await {
        Ok(()) | Err(PublishError::Unroutable { .. }) => {
            findings.good(format!("the broker accepts a body of {bytes} bytes, the limit of the ingress"));
        }
        Err(PublishError::TooLarge(_)) => findings.bad(
            format!("the broker does not accept a body of {bytes} bytes, which the ingress allows"),
            "lower ingress.body_limit_bytes, or raise max_message_size in rabbitmq.conf (by default 16 MiB from RabbitMQ 4.0 \
             on, 128 MiB before); until then such events stay in the spool, set aside",
        ),
        Err(error) => {
            let text = format!("whether the broker accepts a body of {bytes} bytes is unknown");
            findings.note(format!("{text}: {}", chain(&error)));
        }
    }
}

fn known_faults(version: Version) -> Vec<(&'static str, &'static str)> {
    let applies = |(from, before, ..): &&(Version, Version, _, _)| (*from..*before).contains(&version);
    FAULTS.iter().filter(applies).map(|(_, _, what, helps)| (*what, *helps)).collect()
}

/// Reports which queues are missing and which have no consumer; returns those that exist.
async fn declared(
    config: &Config,
    broker: &dyn Broker,
    is_up: Option<bool>,
    findings: &mut Findings,
) -> Topology {
    let (mut missing, mut unread, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    // Without the store they are unknown, which its own findings tell.
    let subscriptions = installation::subscription_queues(config).await.unwrap_or_default();
    let layout = installation::layout(config);
    // Who reads the queue of a subscription is a finding of its own.
    let theirs: Vec<_> = subscriptions.iter().map(|work| layout.queue(&work.consumer)).collect();
    let unread_on_purpose: Vec<_> = FixedQueue::ALL
        .into_iter()
        .filter(|queue| !queue.is_read())
        .map(|queue| layout.queue(queue))
        .chain(theirs)
        .collect();
    let mut topology = installation::topology_with(config, subscriptions);
    for queue in &topology.queues {
        match find(broker, &queue.name).await {
            Ok(Some(status)) => {
                let waits = queue.message_ttl.is_some() || unread_on_purpose.contains(&queue.name);
                match status.ready {
                    _ if waits || status.consumers > 0 => {}
                    0 => unread.push(queue.name.to_string()),
                    ready => waiting.push(format!("{} ({ready})", queue.name)),
                }
            }
            Ok(None) => missing.push(queue.name.clone()),
            Err(error) => {
                findings.bad(chain(&error), "see the broker's own log");
                return Topology::default();
            }
        }
    }
    match missing.is_empty() {
        true => findings.good(format!("all {} queues are declared", topology.queues.len())),
        false => {
            let names: Vec<_> = missing.iter().map(QueueName::as_str).collect();
            findings.bad(
                format!("not declared: {}", names.join(", ")),
                "run `malote topology apply`, or start a role",
            );
        }
    }
    if !config.is_embedded() && !unread.is_empty() {
        findings.note(format!("without a consumer: {}", unread.join(", ")));
    }
    if !waiting.is_empty() {
        let text = format!("messages wait without a consumer: {}", waiting.join(", "));
        match is_up {
            None => findings.note(text),
            Some(_) => findings.bad(
                text,
                "start the role of that name; one that runs is paused, and its /readyz says why (doctor --process URL)",
            ),
        }
    }
    topology.queues.retain(|queue| !missing.contains(&queue.name));
    topology
}

async fn find(broker: &dyn Broker, queue: &QueueName) -> Result<Option<QueueStatus>, BrokerError> {
    match broker.queues(std::slice::from_ref(queue)).await {
        Ok(mut statuses) => Ok(statuses.pop()),
        Err(BrokerError::MissingQueue { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The differences in the arguments of queues, as far as AMQP shows them, and remains of an earlier release.
async fn as_declared(config: &Config, broker: &RabbitMq, existing: &Topology, findings: &mut Findings) {
    let mut is_as_declared = true;
    for queue in &existing.queues {
        match broker.difference(queue).await {
            Ok(None) => {}
            Ok(Some(text)) => {
                is_as_declared = false;
                let fix = "run `malote topology apply` once no older malote runs; the queue works as it is meanwhile";
                findings.bad(format!("queue {} was declared with other arguments: {text}", queue.name), fix);
            }
            Err(error) => return findings.bad(chain(&error), "see the broker's own log"),
        }
    }
    if is_as_declared && !existing.queues.is_empty() {
        findings.good("every queue has the arguments that malote declares");
    }
    let layout = installation::layout(config);
    let former = RetryDelay::ALL.map(|delay| layout.former_retry(delay).1);
    let left = present(broker, former).await;
    if !left.is_empty() {
        findings.note(format!(
            "an earlier release left {}: run `malote topology apply` once no older malote runs",
            left.join(", ")
        ));
    }
    let moving = present(broker, existing.queues.iter().map(|queue| stand_in_of(&queue.name))).await;
    if !moving.is_empty() {
        let fix = "run it again: it continues there";
        findings.bad(format!("`malote topology apply` was interrupted and left {}", moving.join(", ")), fix);
    }
}

/// The existing ones of these queues.
async fn present(broker: &RabbitMq, queues: impl IntoIterator<Item = QueueName>) -> Vec<String> {
    let mut found = Vec::new();
    for queue in queues {
        if let Ok(Some(_)) = find(broker, &queue).await {
            found.push(queue.to_string());
        }
    }
    found
}

/// What only the management API shows: the cluster, feature flags, policies.
async fn managed(config: &Config, existing: &Topology, findings: &mut Findings) {
    let asked = match Management::configured(config) {
        Ok(None) => {
            return findings.note(
                "not checked: cluster, feature flags and policies; to have them checked, set broker.management_url to \
                 the address of RabbitMQ's management API, and give the user of broker.url the tag `monitoring`",
            );
        }
        Ok(Some(management)) => ask(&management).await.map_err(|error| format!("{management}: {error:#}")),
        Err(error) => Err(format!("{error:#}")),
    };
    match asked {
        Ok(Answers { nodes, flags, queues }) => {
            cluster(&nodes, findings);
            feature_flags(&flags, findings);
            policies(&queues, existing, findings);
        }
        Err(error) => findings.bad(
            format!("not checked: cluster, feature flags and policies: {error}"),
            "enable the plug-in rabbitmq_management, set broker.management_url to it, and give the user of broker.url \
             the tag `monitoring`",
        ),
    }
}

struct Answers {
    nodes: Vec<Node>,
    flags: Vec<FeatureFlag>,
    queues: Vec<ManagedQueue>,
}

async fn ask(management: &Management) -> anyhow::Result<Answers> {
    Ok(Answers {
        nodes: management.get(&["nodes"]).await?,
        flags: management.get(&["feature-flags"]).await?,
        queues: management.get_in_vhost("queues", &[]).await?,
    })
}

fn cluster(nodes: &[Node], findings: &mut Findings) {
    let count = nodes.len();
    let down: Vec<_> = nodes.iter().filter(|node| !node.running).map(|node| node.name.as_str()).collect();
    if count == 2 {
        findings.bad(
            "the cluster has two nodes: when either is down, nothing can be confirmed",
            "add a third node, or remove one",
        );
    }
    match down.is_empty() {
        true => findings.good(format!("{count} of {count} nodes run")),
        false => findings.bad(format!("nodes that do not run: {}", down.join(", ")), "start them"),
    }
}

fn feature_flags(flags: &[FeatureFlag], findings: &mut Findings) {
    let is_off =
        |flag: &&FeatureFlag| flag.state != "enabled" && flag.stability.as_deref() != Some("experimental");
    let off: Vec<_> = flags.iter().filter(is_off).map(|flag| flag.name.as_str()).collect();
    let fix = "run `rabbitmqctl enable_feature_flag all` once every node has the same version";
    if off.contains(&"stream_queue") {
        // Without it RabbitMQ 3.x treats at-least-once dead-lettering as at-most-once.
        findings.bad("the feature flag stream_queue is off: a retry or a dead letter may be lost", fix);
    }
    match off.is_empty() {
        true => findings.good("every feature flag is on"),
        false => findings.note(format!("feature flags are off: {}; {fix}", off.join(", "))),
    }
}

fn policies(queues: &[ManagedQueue], existing: &Topology, findings: &mut Findings) {
    let mut is_changed = false;
    for row in queues {
        let Some(queue) = existing.queues.iter().find(|queue| row.name == queue.name.as_str()) else {
            continue;
        };
        let set: Vec<_> = row
            .effective_policy_definition
            .iter()
            .filter(|(name, _)| !HARMLESS_IN_A_POLICY.contains(&name.as_str()))
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        if !set.is_empty() {
            is_changed = true;
            findings.bad(
                format!("a policy changes queue {}: {}", queue.name, set.join(", ")),
                "exclude malote's queues from it",
            );
        }
    }
    if !is_changed {
        findings.good("no policy changes a queue");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(Version::parse("3.9.27") < OLDEST);
        for version in ["3.10.8", "4.0", "4.3.6+deb1"] {
            assert!(Version::parse(version) >= OLDEST, "{version}");
        }
    }

    #[test]
    fn feature_flags_that_are_off_are_named_and_experimental_ones_may_be() {
        let check = |flags: &[(&str, &str, &str)], expect: &[&str]| {
            let flag = |&(name, state, stability): &(&str, &str, &str)| FeatureFlag {
                name: name.to_owned(),
                state: state.to_owned(),
                stability: (!stability.is_empty()).then(|| stability.to_owned()),
            };
            let mut findings = Findings::default();
            feature_flags(&flags.iter().map(flag).collect::<Vec<_>>(), &mut findings);
            let starts = |(line, expect): (&String, &&str)| line.starts_with(expect);
            assert!(findings.lines.iter().zip(expect).all(starts), "{:?}", findings.lines);
            assert_eq!(findings.lines.len(), expect.len(), "{:?}", findings.lines);
            findings.wrong
        };
        let on = ("quorum_queue", "enabled", "");
        let experimental = ("khepri_db", "disabled", "experimental");
        assert_eq!(check(&[on, experimental], &["✓ every feature flag is on"]), 0);
        let off = ("classic_queue", "disabled", "stable");
        assert_eq!(
            check(&[on, off, experimental], &["! feature flags are off: classic_queue; run `rabbitmqctl"]),
            0
        );
        let lossy = ("stream_queue", "unavailable", "");
        let expect = [
            "✗ the feature flag stream_queue is off: a retry",
            "! feature flags are off: classic_queue, stream_queue",
        ];
        assert_eq!(check(&[off, lossy], &expect), 1);
    }

    #[test]
    fn a_cluster_of_two_nodes_and_a_node_that_is_down_are_wrong() {
        let check = |running: &[bool], expect: &[&str]| {
            let node = |(n, &running): (usize, &bool)| Node { name: format!("rabbit@{n}"), running };
            let mut findings = Findings::default();
            cluster(&running.iter().enumerate().map(node).collect::<Vec<_>>(), &mut findings);
            assert_eq!(findings.lines, expect);
        };
        let two = "✗ the cluster has two nodes: when either is down, nothing can be confirmed";
        check(&[true], &["✓ 1 of 1 nodes run"]);
        check(&[true, true], &[two, "✓ 2 of 2 nodes run"]);
        check(&[true, false], &[two, "✗ nodes that do not run: rabbit@1"]);
        check(&[true, true, true], &["✓ 3 of 3 nodes run"]);
        check(&[false, true, false], &["✗ nodes that do not run: rabbit@0, rabbit@2"]);
    }

    #[test]
    fn a_version_with_a_known_fault_is_told_with_the_one_that_has_it_fixed() {
        let check = |version: &str, expect: &[&str]| {
            let helps: Vec<_> =
                known_faults(Version::parse(version)).into_iter().map(|(_, helps)| helps).collect();
            assert_eq!(helps, expect, "{version}");
        };
        check("3.10.8", &["4.2.7 or 4.3.3"]);
        check("3.13.7", &["4.2.7 or 4.3.3"]);
        check("4.0.5", &["4.2.7 or 4.3.3"]);
        check("4.2.6", &["4.2.7 or 4.3.3"]);
        check("4.2.7", &[]);
        check("4.2.10", &[]);
        check("4.3.0", &["4.3.3", "4.3.3"]);
        check("4.3.2", &["4.3.3"]);
        check("4.3.3", &[]);
        check("4.3.6", &[]);
        check("5.0.0", &[]);
    }
}
