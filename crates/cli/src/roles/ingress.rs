//! The role that receives webhooks.

use std::sync::Arc;

use anyhow::{Context, Result};
use broker::spool::Spool;
use broker::{DiskAlarm, DynBroker, Publisher};
use ingress::Ingress;
use providers::SubjectKey;
use providers::generic::AnswerConfig;
use server::Server;

use super::shared::{Shared, Tasks};
use super::{disk, follow};
use crate::config::Config;
use crate::installation;

/// The parts of the ingress beside those that all roles share.
pub(super) struct Parts {
    pub port: Server,
    pub key: SubjectKey,
    /// The spool, with the handle that drains it.
    pub spool: Option<(Spool, DynBroker)>,
    pub disk: DiskAlarm,
}

/// Starts it.
pub(super) fn start(shared: &Shared<'_>, parts: Parts, tasks: &mut Tasks) -> Result<Ingress> {
    let Parts { port, key, spool, disk } = parts;
    let config = shared.config;
    let sources = sources(config)?;
    let publisher: Arc<dyn Publisher> = match spool {
        Some((spool, drain)) => {
            let component = |name: &'static str| shared.health.component(name);
            tasks.others.spawn(follow::follow(spool.standing(), follow::spool, component("spool")));
            let set_aside = component("spool.set_aside");
            tasks.others.spawn(follow::follow(spool.set_aside(), follow::set_aside, set_aside));
            let (topology, stop) = (installation::topology(config), shared.working.clone());
            let publisher = spool.clone();
            tasks.others.spawn(async move { spool.run(drain, topology, stop).await });
            Arc::new(publisher)
        }
        None => shared.broker.clone(),
    };
    if config.data.disk_free_limit_bytes > 0 {
        let (folders, limit) = (installation::folders(config), config.data.disk_free_limit_bytes);
        // With RabbitMQ the disk is needed only while events are spooled.
        let health = shared.component("disk", !config.is_embedded());
        let watch = disk::watch(folders, limit, disk.clone(), health);
        let stop = shared.working.clone();
        tasks.others.spawn(async move {
            stop.run_until_cancelled(watch).await;
        });
    }
    // A spool checks the alarm itself.
    let disk = if config.is_embedded() { disk } else { DiskAlarm::default() };
    let ingress = Ingress::new(
        sources,
        publisher,
        shared.layout.clone(),
        key,
        config.time.zone.clone(),
        config.ingress.config(),
        disk,
    );
    tasks.others.spawn(ingress.clone().report(shared.working.clone()));
    let served = ingress.clone().serve(port, shared.operations.public(), shared.accepting.clone());
    tasks.requests.spawn(served);
    Ok(ingress)
}

/// The sources as the ingress needs them.
pub(super) fn sources(config: &Config) -> Result<Vec<ingress::Source>> {
    let source = |source: &crate::config::Source| {
        let provider =
            config.provider(&source.provider).with_context(|| format!("no provider {}", source.provider))?;
        Ok(ingress::Source {
            name: source.name.clone(),
            provider: provider.clone(),
            auth: source.auth.clone(),
            duplicates: source.duplicates(provider),
            quota: source.quota,
            answer: source
                .answer
                .as_ref()
                .map(AnswerConfig::to_answer)
                .or_else(|| provider.answer().cloned()),
            challenges: source.challenges.clone().unwrap_or_else(|| provider.challenges().to_vec()),
            suffixes: source.suffixes.clone().unwrap_or_else(|| provider.suffixes().to_vec()),
        })
    };
    config.sources.iter().map(source).collect()
}
