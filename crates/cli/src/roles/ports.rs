//! The ports of a process.

use anyhow::{Context, Result, bail};
use server::{BindError, Certificate, Server};

use super::Roles;
use crate::config::Config;

/// The bound ports that the roles of a process need.
pub(super) struct Ports {
    pub ingress: Option<Server>,
    pub console: Option<Server>,
    pub operations: Server,
}

impl Ports {
    /// Binds them.
    pub async fn bind(config: &Config, roles: Roles) -> Result<Self> {
        let ingress = port(roles.ingress, &config.ingress.config().server(), "ingress").await?;
        if let Some(certificate) = ingress.as_ref().and_then(Server::certificate) {
            certificate.ask_clients(config.asks_for_client_certificates());
        }
        Ok(Self {
            // A provider may post under any host name: its credentials are not those of a browser.
            ingress: ingress.map(Server::under_any_host),
            console: port(roles.console, &config.console.server(), "console").await?,
            operations: bound(&config.operations, "operations").await?,
        })
    }

    /// The certificates, each with the section of its port.
    pub fn certificates(&self) -> Vec<(&'static str, Certificate)> {
        let ports = [
            ("ingress", self.ingress.as_ref()),
            ("console", self.console.as_ref()),
            ("operations", Some(&self.operations)),
        ];
        ports.into_iter().filter_map(|(section, port)| Some((section, port?.certificate()?))).collect()
    }
}

async fn port(is_wanted: bool, config: &server::Config, section: &'static str) -> Result<Option<Server>> {
    if is_wanted { bound(config, section).await.map(Some) } else { Ok(None) }
}

async fn bound(config: &server::Config, section: &'static str) -> Result<Server> {
    match Server::bind(config).await {
        Ok(port) => Ok(port.section(section)),
        Err(error @ BindError::Address { .. }) => {
            let setting = format!("{section}.listen (MALOTE__{}__LISTEN)", section.to_ascii_uppercase());
            // The cause would only repeat what it says.
            bail!("{}", error.with_setting(setting))
        }
        Err(error @ BindError::Tls { .. }) => Err(error).context(format!("{section}.tls")),
    }
}
