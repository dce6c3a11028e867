//! The console in a browser that runs no scripts: everything but live lists works with links and forms alone.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Walk;

impl Walk {
    /// Looks, filters, acts and leaves without a script. What the test asks the page is no script of the page.
    pub(super) async fn do_without_scripts(&mut self, token: &str) -> Result<()> {
        self.speak("en").await?;
        self.browser.protocol("Emulation.setScriptExecutionDisabled", json!({"value": true})).await?;
        self.click("form[action='/logout'] button").await?;
        self.until("location.pathname === '/login'").await?;
        self.log_in(token).await?;
        let lists = self.links("body > nav a").await?;
        ensure!(lists.len() > 15, "few lists: {lists:?}");
        for list in &lists {
            self.open(list).await?;
            self.until("document.querySelector('h1').textContent !== ''").await?;
            let shown = "document.querySelector('main table, main .empty, main svg') !== null";
            ensure!(self.browser.run(&format!("return {shown}")).await? == true, "{list} shows nothing");
            // What needs a script is not offered without one.
            let offered = "[...document.querySelectorAll('[data-live], [data-views], [data-time], [data-copy]')]\
                           .some((one) => one.checkVisibility())";
            ensure!(
                self.browser.run(&format!("return {offered}")).await? == false,
                "{list} offers a script's"
            );
        }
        self.filter_and_open().await?;
        self.retry().await?;
        self.click("a[hreflang='pt-BR']").await?;
        self.until("document.documentElement.lang === 'pt-BR'").await?;
        self.click("a[hreflang='en']").await?;
        self.until("document.documentElement.lang === 'en'").await?;
        self.browser.protocol("Emulation.setScriptExecutionDisabled", json!({"value": false})).await.map(drop)
    }

    /// A filter, the page of a row, and the next one.
    async fn filter_and_open(&self) -> Result<()> {
        self.open("/events").await?;
        self.browser.run("document.querySelector('#filter-source').value = 'rec'").await?;
        self.click(".filter button").await?;
        self.until("location.search.includes('source=rec')").await?;
        self.click("tbody td.id a").await?;
        self.until("location.pathname.startsWith('/events/') && document.querySelector('#body') !== null")
            .await?;
        let here = self.browser.run("return location.pathname").await?;
        self.click("a[rel='next']").await?;
        self.until(&format!("location.pathname !== {here} && location.search.includes('source=rec')")).await
    }

    /// A dead letter is retried, and its job is shown.
    async fn retry(&self) -> Result<()> {
        self.open("/dead").await?;
        let letter = self.links("td.id a").await?.into_iter().next().context("a dead letter")?;
        self.open(&letter).await?;
        self.click("form.action button").await?;
        self.until("/^.jobs./.test(location.pathname) && document.querySelector('progress') !== null").await
    }
}
