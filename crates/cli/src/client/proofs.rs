//! What the requests of a source have to prove, and the last use of its secrets as the ingresses know it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use view::{Column, Form, column, shown};

use super::api::{Api, addresses, reachable};
use super::fields::Fields;
use super::queues::series;
use crate::config::{Config, Source};
use crate::table;

/// A secret of a source. The secret itself is never shown: its place in the list says which one it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct SecretRow {
    setting: String,
    index: usize,
    last_used: Option<event::Timestamp>,
}

const SECRETS: [Column<SecretRow>; 3] = [
    column("Secret", |row| shown(&row.setting), Form::Text),
    column("Place", |row| shown(&row.index), Form::Number),
    column("Last used", |row| shown(&row.last_used), Form::Time),
];

/// What a source requires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proofs {
    address: String,
    expects: String,
    secrets: Vec<SecretRow>,
}

/// The width of the longest name of a line, as in the description of the source.
const NAME_WIDTH: usize = 12;

/// The proofs of a source of the configuration, if it is there, with what these processes know of their use.
pub async fn known_proofs(name: &str, processes: &[String], api: &Api, config: &Config) -> Option<Proofs> {
    let source = config.sources.iter().find(|source| source.name.as_str() == name)?;
    let mut uses = BTreeMap::new();
    for process in addresses(config, processes) {
        // One that does not answer knows of no use.
        let metrics = api.text(&format!("{process}/metrics")).await.unwrap_or_default();
        note_uses(name, &metrics, &mut uses);
    }
    let scheme = if config.ingress.tls.is_some() { "https" } else { "http" };
    Some(proofs(source, &format!("{scheme}://{}", reachable(config.ingress.listen)), &uses))
}

impl Proofs {
    /// Its fields, to print beside others.
    pub fn members(&self) -> Map<String, Value> {
        serde_json::to_value(self).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default()
    }

    /// It as text, with a line's end at its end.
    pub fn described(&self) -> String {
        let fields = Fields::new(NAME_WIDTH)
            .text("address", &Some(&self.address))
            .text("expects", &Some(&self.expects));
        let secrets = match self.secrets.is_empty() {
            true => String::new(),
            false => format!(
                "\n{}\nA use is known since the start of the ingress.\n",
                table::rows(&SECRETS, &self.secrets)
            ),
        };
        fields.text + &secrets
    }
}

/// The newest use of each secret, by setting and place.
type Uses = BTreeMap<(String, String), i64>;

/// Adds what one ingress knows, in Prometheus' text format.
fn note_uses(source: &str, metrics: &str, uses: &mut Uses) {
    for (labels, second) in series(metrics, "ingress_secret_last_used_seconds") {
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        if label("source") == source {
            let newest = uses.entry((label("setting"), label("index"))).or_default();
            *newest = (*newest).max(second as i64);
        }
    }
}

fn proofs(source: &Source, base: &str, uses: &Uses) -> Proofs {
    let secrets = source.auth.last_uses().map(|(setting, index, _)| {
        let second = uses.get(&(setting.to_owned(), index.to_string()));
        let last_used = second.and_then(|second| event::Timestamp::from_second(*second).ok());
        SecretRow { setting: format!("auth.{setting}"), index, last_used }
    });
    Proofs {
        address: format!("{base}/webhooks/{}", source.name),
        expects: source.auth.expected(),
        secrets: secrets.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_parts;

    #[test]
    fn the_newest_use_of_each_secret_is_shown_and_no_secret() {
        let text = "[[sources]]\nname = \"loja\"\nprovider = \"gestao-online\"\n\
                    auth.query = { name = \"token\", secrets = [\"hidden-1\", \"hidden-2\"] }\n";
        let config = load_parts("", text, []).unwrap().0;
        let line = |source: &str, index: usize, second: u64| {
            format!(
                "ingress_secret_last_used_seconds{{source=\"{source}\",setting=\"query.secrets\",index=\"{index}\"}} {second}\n"
            )
        };
        let mut uses = Uses::new();
        note_uses("loja", &(line("loja", 0, 1_700_000_000) + &line("outra", 1, 1_800_000_000)), &mut uses);
        note_uses("loja", &line("loja", 0, 1_600_000_000), &mut uses);
        let row = proofs(&config.sources[0], "http://127.0.0.1:8080", &uses);
        let used: Vec<_> = row.secrets.iter().map(|row| row.last_used.map(|time| time.as_second())).collect();
        assert_eq!(used, [Some(1_700_000_000), None]);
        assert_eq!((row.secrets[1].setting.as_str(), row.secrets[1].index), ("auth.query.secrets", 1));
        assert_eq!(row.expects, "the parameter token in the address");
        assert!(!serde_json::to_string(&row).unwrap().contains("hidden"));
    }
}
