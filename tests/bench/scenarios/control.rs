//! The smallest handler beside a load: a few posts to it meanwhile. What makes its answers slow, too, is the broker or the
//! machine.

use anyhow::Result;
use harness::RabbitMq;
use tests::product::Product;

use super::NO_DATABASE;
use crate::limits::smallest::{self, Attributes, Smallest};
use crate::limits::smallest_sqlite;
use crate::load::{Pace, Posted, STEADY, post};
use crate::mix::{self, ROUND};

/// The share of the load that is posted to the control besides.
const SHARE: f64 = 0.05;

/// A smallest handler at work.
pub struct Control {
    port: u16,
    /// Makes the requests. Does not run.
    product: Product,
    _handler: Smallest,
}

impl Control {
    /// One in front of the full topology, in a virtual host of this name.
    pub async fn on_rabbitmq(node: &RabbitMq, vhost: &str) -> Result<Self> {
        node.create_vhost(vhost)?;
        let url = node.url(vhost);
        let mut product = Product::configured(&url, NO_DATABASE, "")?;
        // Declares the topology.
        product.start("ingress", &["ingress"]).await?;
        let port = product.port("ingress");
        product.terminate("ingress").await?;
        let handler = Smallest::start(smallest::command(&url, port, Attributes::None)?, port).await?;
        Ok(Self { port, product, _handler: handler })
    }

    /// One with a SQLite file of its own.
    pub async fn on_sqlite() -> Result<Self> {
        let product = Product::configured("embedded", NO_DATABASE, "")?;
        let port = product.ingress_address()?.port();
        let command = smallest_sqlite::command(&product.folder().join("smallest.db"), port)?;
        let handler = Smallest::start(command, port).await?;
        Ok(Self { port, product, _handler: handler })
    }

    /// Posts a share of a load that has this rate, for so many seconds.
    pub async fn post(&self, rate: f64, seconds: f64) -> Result<Posted> {
        let rate = rate * SHARE;
        let events = ((rate * seconds) as usize).max(1).next_multiple_of(ROUND);
        let requests = mix::requests(&self.product.poster(), 0..events)?;
        post(self.port, requests, STEADY, Pace::PerSecond(rate)).await
    }
}
