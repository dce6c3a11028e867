//! Pages that say what went wrong: to somebody who may not, to somebody who tries too often, and when the store answers nothing.

use anyhow::{Result, ensure};
use store::many::fetch;
use store::{Config, Store};

use super::{Furnished, LANGUAGES, Walk};

impl Walk {
    /// Each refusal is a page that can be used, like all others.
    pub(super) async fn be_refused(&mut self, furnished: &Furnished) -> Result<()> {
        self.break_a_table(furnished).await?;
        self.open("/").await?;
        self.click("form[action='/logout'] button").await?;
        self.until("location.pathname === '/login'").await?;
        self.log_in(&furnished.viewer).await?;
        for (language, _) in LANGUAGES {
            self.speak(language).await?;
            self.open_refused("/tokens", 403).await?;
        }
        self.click("form[action='/logout'] button").await?;
        self.until("location.pathname === '/login'").await?;
        self.try_too_often().await
    }

    /// A list whose table is gone, which is the trouble of its page alone.
    async fn break_a_table(&mut self, furnished: &Furnished) -> Result<()> {
        let config = Config {
            max_connections: 1,
            ..Config::new(format!("sqlite:{}", furnished.product.folder().join("data/store.db").display()))
        };
        let store = Store::open(&config, furnished.product.folder())?;
        let rename = async |from: &str, to: &str| {
            let mut tx = store.begin().await?;
            fetch(&mut tx, format!("ALTER TABLE {from} RENAME TO {to}"), []).await?;
            anyhow::Ok(tx.commit().await?)
        };
        rename("document_versions", "document_versions_away").await?;
        for (language, _) in LANGUAGES {
            self.speak(language).await?;
            self.open_refused("/documents", 500).await?;
        }
        rename("document_versions_away", "document_versions").await?;
        store.close().await;
        Ok(())
    }

    async fn open_refused(&mut self, path: &str, status: u16) -> Result<()> {
        self.open(path).await?;
        let answered = self.status().await?;
        ensure!(answered == status, "{path} is answered {answered}");
        self.examine(path).await
    }

    /// The status of the answer that is shown.
    async fn status(&mut self) -> Result<u16> {
        let status =
            self.browser.run("return performance.getEntriesByType('navigation')[0].responseStatus").await?;
        Ok(serde_json::from_value(status)?)
    }

    /// With wrong tokens, until the form says that it accepts no more for now.
    async fn try_too_often(&mut self) -> Result<()> {
        for _ in 0..20 {
            self.browser
                .run("document.querySelector('#token').value = 'malote_wrong'; document.forms[0].submit();")
                .await?;
            self.until("document.querySelector('p[role=alert]') !== null").await?;
            if self.status().await? == 429 {
                return self.examine("/login").await;
            }
            self.open("/login").await?;
        }
        anyhow::bail!("wrong tokens are taken on and on")
    }
}
