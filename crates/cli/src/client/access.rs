//! `malote tokens` and `malote audit`: who may do what, and who has done what.

use std::time::Duration;

use access::{AUDIT, AddedToken, NewApiToken, Role, TOKENS, TokenRow, USERS};
use anyhow::{Result, bail};

use super::api::Api;
use super::lists::{self, print_json};
use crate::args::List;
use crate::args::access::{AddToken, Audit, AuditList, RemoveToken, RoleArg, TokenList, Tokens, Users};
use crate::args::subscriptions::Rows;
use crate::config::Config;
use crate::report;

const DAY: Duration = Duration::from_secs(86_400);

/// `malote tokens`
pub async fn tokens(command: Tokens, config: &Config) -> Result<()> {
    match command {
        Tokens::List(TokenList { limit, output }) => {
            let list = List { limit, filters: Vec::new(), source: None, reveal: false, output };
            lists::list(&TOKENS, list, config).await.map(drop)
        }
        Tokens::Add(args) => add(args, config).await,
        Tokens::Remove(args) => remove(args, config).await,
    }
}

async fn add(AddToken { name, role, days, output }: AddToken, config: &Config) -> Result<()> {
    let api = Api::new(&output.api, config)?;
    let role = match role {
        RoleArg::Viewer => Role::Viewer,
        RoleArg::Operator => Role::Operator,
        RoleArg::Admin => Role::Admin,
    };
    let expires_at = days.map(|days| event::now() + u32::from(days) * DAY);
    let added: AddedToken = api.post(TOKENS.name, &NewApiToken { name, role, expires_at }).await?;
    if output.json {
        print_json(&added);
        return Ok(());
    }
    let AddedToken { name, role, token } = added;
    report::line(format!(
        "The token of {name}, with the role {}. It is not shown again:\n\n    {token}\n\nUse it with --token or in \
         MALOTE_TOKEN.",
        role.as_str()
    ));
    Ok(())
}

async fn remove(RemoveToken { name, api }: RemoveToken, config: &Config) -> Result<()> {
    // Anything else would be another path.
    if !access::is_name(&name) {
        bail!("{name:?} is not the name of a token; names are in `malote tokens list`");
    }
    let api = Api::new(&api, config)?;
    let removed: TokenRow = api.delete(&format!("{}/{name}", TOKENS.name), &[]).await?;
    report::line(format!("{} is removed: its token opens nothing any more.", removed.name));
    Ok(())
}

/// `malote users`
pub async fn users(Users::List(rows): Users, config: &Config) -> Result<()> {
    let Rows { limit, filters, output } = rows;
    lists::list(&USERS, List { limit, filters, source: None, reveal: false, output }, config).await.map(drop)
}

/// `malote audit`
pub async fn audit(Audit::List(list): Audit, config: &Config) -> Result<()> {
    let AuditList { filter, rows } = list;
    lists::list_with_options(&AUDIT, filter, rows, config).await
}
