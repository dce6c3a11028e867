//! `malote subscriptions apply`: makes the subscriptions those of a file.

use anyhow::{Context, Result, anyhow, bail};
use event::SubscriptionName;
use serde::de::DeserializeOwned;
use subscriptions::file::{Change, Declared, Mistake, Reference, References, changes, parse};
use subscriptions::{
    Added, Declaration, Edited, Editing, GivenSecrets, NewSubscription, SUBSCRIPTIONS, SubscriptionDetail,
    SubscriptionRow,
};

use super::api::Api;
use super::ask::confirm;
use super::secret_input;
use super::subscribed::{may_remove, path, print_once};
use crate::args::subscriptions::Apply;
use crate::config::Config;
use crate::report;

/// What a file changes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    added: Vec<Declared>,
    changed: Vec<Changed>,
    removed: Vec<String>,
    /// Those that the file does not have, and that stay.
    kept: Vec<String>,
}

/// A subscription that there is.
struct Known {
    declaration: Declaration,
    /// Which one the plan is about: what others change meanwhile is not overwritten.
    version: i64,
}

/// A subscription that becomes another.
#[derive(Debug, PartialEq, Eq)]
struct Changed {
    declared: Declared,
    version: i64,
    fields: Vec<Change>,
    /// The names of the secrets that become others: only the API can tell.
    secrets: Vec<String>,
}

/// What makes these subscriptions those of a file, as far as it shows without their secrets: those that may have others are
/// among the changed ones.
fn plan(declared: Vec<Declared>, known: &[Known], prune: bool) -> Plan {
    let names = known.iter().map(|known| &known.declaration.name);
    let is_declared = |name: &SubscriptionName| declared.iter().any(|one| one.declaration.name == *name);
    let others = names.filter(|name| !is_declared(name)).map(ToString::to_string).collect();
    let (removed, kept) = if prune { (others, Vec::new()) } else { (Vec::new(), others) };
    let mut plan = Plan { removed, kept, ..Plan::default() };
    for one in declared {
        match known.iter().find(|known| known.declaration.name == one.declaration.name) {
            None => plan.added.push(one),
            Some(Known { declaration, version }) => {
                let fields = changes(declaration, &one.declaration);
                if !fields.is_empty() || one.secrets != References::default() {
                    let version = *version;
                    plan.changed.push(Changed { declared: one, version, fields, secrets: Vec::new() });
                }
            }
        }
    }
    plan
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }

    /// The plan as text: `+` is added, `~` changed and `-` removed.
    fn text(&self) -> String {
        let mut text = String::new();
        for Declared { declaration, .. } in &self.added {
            text += &format!("+ {}: {}\n", declaration.name, declaration.topics.join(", "));
        }
        for Changed { declared, fields, secrets, .. } in &self.changed {
            text += &format!("~ {}\n", declared.declaration.name);
            fields.iter().for_each(|change| text += &format!("    {change}\n"));
            secrets.iter().for_each(|name| text += &format!("    secrets.{name} becomes another\n"));
        }
        self.removed.iter().for_each(|name| text += &format!("- {name}\n"));
        if !self.kept.is_empty() {
            let kept = self.kept.join(", ");
            text += &format!("Not in the file, and left as they are (--prune removes them): {kept}\n");
        }
        text
    }
}

/// Shows what the file changes, asks, and does it.
pub async fn run(args: Apply, config: &Config) -> Result<()> {
    let Apply { file, prune, dry_run, yes, api } = args;
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let mistakes = |mistakes: Vec<Mistake>| {
        let lines: String = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect();
        let s = if mistakes.len() == 1 { "" } else { "s" };
        anyhow!("{} has {} mistake{s}, and nothing was changed{lines}", file.display(), mistakes.len())
    };
    let declared = parse(&text).map_err(mistakes)?;
    let api = Api::new(&api, config)?;
    let mut known = Vec::new();
    for row in api.list::<SubscriptionRow>(SUBSCRIPTIONS.name, &[], u32::MAX).await? {
        // One that was removed meanwhile is none.
        let found: Option<SubscriptionDetail> = api.find(&path(&row.name)?).await?;
        known.extend(
            found.map(|SubscriptionDetail { declaration, version, .. }| Known { declaration, version }),
        );
    }
    let mut plan = plan(declared, &known, prune);
    let refused = check(&api, &mut plan).await?;
    if !refused.is_empty() {
        return Err(mistakes(refused));
    }
    for name in &plan.removed {
        let removable = may_remove(&api, name).await;
        removable.with_context(|| format!("{name} is not in the file, and nothing was changed"))?;
    }
    report::print(&plan.text());
    if plan.is_empty() {
        report::line("Nothing changes.");
        return Ok(());
    }
    if dry_run {
        return Ok(());
    }
    if !yes {
        confirm("Make these changes?")?;
    }
    carry_out(&api, plan).await
}

/// What the API says against the plan, before anything is changed. Leaves in the plan what changes.
async fn check(api: &Api, plan: &mut Plan) -> Result<Vec<Mistake>> {
    let mut mistakes = Vec::new();
    for declared in &plan.added {
        let checked = add::<Declaration>(api, declared, true).await.map(drop);
        mistakes.extend(refusal(api, declared, checked).await?);
    }
    for changed in &mut plan.changed {
        let checked = edit(api, &changed.declared, changed.version, true).await;
        let checked = checked.map(|edited| changed.secrets = edited.secrets_changed);
        mistakes.extend(refusal(api, &changed.declared, checked).await?);
    }
    plan.changed.retain(|changed| !changed.fields.is_empty() || !changed.secrets.is_empty());
    Ok(mistakes)
}

/// What was said against one subscription. An API that does not answer says the same of every one: that is an error.
async fn refusal(api: &Api, declared: &Declared, checked: Result<()>) -> Result<Option<Mistake>> {
    let Err(error) = checked else { return Ok(None) };
    let _: serde_json::Value = api.get("version", &[]).await?;
    let path = declared.declaration.name.to_string();
    Ok(Some(Mistake { line: declared.line, path, message: format!("{error:#}") }))
}

async fn add<T: DeserializeOwned>(api: &Api, declared: &Declared, dry_run: bool) -> Result<T> {
    let (declaration, secrets) = (declared.declaration.clone(), resolved(&declared.secrets)?);
    let new = NewSubscription { declaration, secrets, begin: "now".to_owned(), dry_run };
    api.post(SUBSCRIPTIONS.name, &new).await
}

async fn edit(api: &Api, declared: &Declared, version: i64, dry_run: bool) -> Result<Edited> {
    let (declaration, secrets) = (declared.declaration.clone(), resolved(&declared.secrets)?);
    let path = path(declaration.name.as_str())?;
    api.put(&path, &Editing { declaration, secrets, version: Some(version), dry_run }).await
}

/// The secrets that references name.
fn resolved(references: &References) -> Result<GivenSecrets> {
    let one = |reference: &Option<Reference>| reference.as_ref().map(secret).transpose();
    let header = |(name, reference): (&String, &Reference)| Ok((name.clone(), secret(reference)?));
    Ok(GivenSecrets {
        signing: one(&references.signing)?,
        headers: references.headers.iter().map(header).collect::<Result<_>>()?,
        auth: one(&references.auth)?,
        tls_key: one(&references.tls_key)?,
    })
}

fn secret(reference: &Reference) -> Result<String> {
    match reference {
        Reference::File(file) => secret_input::read(file),
        Reference::Env(name) => match std::env::var(name) {
            Ok(text) if !text.is_empty() => Ok(text),
            _ => bail!("the variable {name} is not set"),
        },
    }
}

async fn carry_out(api: &Api, plan: Plan) -> Result<()> {
    let failed =
        |name: &str| format!("{name} was not changed, nor was what comes after it; apply the file again");
    for declared in plan.added {
        let name = declared.declaration.name.as_str();
        let added: Added = add(api, &declared, false).await.with_context(|| failed(name))?;
        report::line(format!("Added {name}."));
        print_once(name, &added.shown_once);
    }
    for Changed { declared, version, .. } in plan.changed {
        let name = declared.declaration.name.as_str();
        edit(api, &declared, version, false).await.with_context(|| failed(name))?;
        report::line(format!("Changed {name}."));
    }
    for name in plan.removed {
        let _: SubscriptionRow = api.delete(&path(&name)?, &[]).await.with_context(|| failed(&name))?;
        report::line(format!("Removed {name}."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(text: &str) -> Vec<Declared> {
        parse(text).unwrap()
    }

    fn known(declared: Declared) -> Known {
        Known { declaration: declared.declaration, version: 1 }
    }

    const FILE: &str = r#"
[[subscriptions]]
name = "billing"
topics = ["malote:receivable.*"]
filter = "data.total > 1"
pull = {}
[[subscriptions]]
name = "crm"
topics = ["recuperador:#"]
pull = {}
"#;

    #[test]
    fn a_plan_says_what_is_added_changed_field_by_field_and_removed() {
        let known: Vec<_> = declared(
            r#"
            [[subscriptions]]
            name = "billing"
            topics = ["malote:receivable.paid"]
            pull = {}
            [[subscriptions]]
            name = "old"
            topics = ["malote:#"]
            pull = {}
            "#,
        )
        .into_iter()
        .map(known)
        .collect();
        let careful = plan(declared(FILE), &known, false).text();
        assert_eq!(
            careful,
            "+ crm: recuperador:#\n~ billing\n    filter: none → \"data.total > 1\"\n    \
             topics: [\"malote:receivable.paid\"] → [\"malote:receivable.*\"]\n\
             Not in the file, and left as they are (--prune removes them): old\n"
        );
        let pruned = plan(declared(FILE), &known, true);
        assert!(pruned.text().ends_with("\n- old\n"), "{}", pruned.text());
    }

    #[test]
    fn a_file_that_was_applied_changes_nothing() {
        let known: Vec<_> = declared(FILE).into_iter().map(known).collect();
        let again = plan(declared(FILE), &known, true);
        assert!(again.is_empty() && again.text().is_empty(), "{again:?}");
    }
}
