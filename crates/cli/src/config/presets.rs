//! Presets in a configuration tree: a source that names one becomes a source with its settings, before anything is parsed.

use event::nearest;
use providers::presets::Preset;
use serde_json::{Value, json};

use super::check::Mistake;

/// Replaces `preset` of every source by the settings of the preset, and adds the providers of those presets. Gives what is
/// wrong.
pub(super) fn expand(tree: &mut Value) -> Vec<Mistake> {
    let (mut mistakes, mut used) = (Vec::new(), Vec::new());
    let sources = tree.get_mut("sources").and_then(Value::as_array_mut);
    for (index, source) in sources.into_iter().flatten().enumerate() {
        let Some(own) = source.as_object_mut() else { continue };
        let Some(name) = own.get("preset") else { continue };
        let found = name.as_str().and_then(Preset::named);
        if own.contains_key("provider") {
            let message = "is set beside provider: give one of them";
            mistakes.push(Mistake::new(format!("sources[{index}].preset"), message));
        } else if found.is_none() {
            mistakes.push(Mistake::new(format!("sources[{index}].preset"), unknown(name.as_str())));
        }
        match found {
            Some(preset) => {
                *own = preset.source_config(own);
                used.extend(preset.provider_config());
            }
            None => {
                own.remove("preset");
                // So that this is not another mistake.
                own.entry("provider").or_insert_with(|| json!(providers::Provider::builtin()[0].name()));
            }
        }
    }
    let Some(table) = tree.as_object_mut().filter(|_| !used.is_empty()) else { return mistakes };
    let Value::Array(providers) = table.entry("providers").or_insert_with(|| json!([])) else {
        return mistakes;
    };
    for config in used {
        // One of the configuration's own with this name takes its place.
        if !providers.iter().any(|known| known.get("name") == config.get("name")) {
            providers.push(config);
        }
    }
    mistakes
}

fn unknown(name: Option<&str>) -> String {
    let allowed = Preset::names().collect::<Vec<_>>().join(", ");
    match name.and_then(|name| nearest(name, Preset::names())) {
        Some(meant) => format!("there is no such preset; did you mean {meant}? allowed: {allowed}"),
        None => format!("there is no such preset; allowed: {allowed}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load_parts;

    const SECRET: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_source_names_a_preset_and_its_secrets() {
        let text = format!(
            "[[sources]]\nname = \"loja\"\npreset = \"stripe\"\nauth.signature.secrets = [{SECRET:?}]\n\
             [[sources]]\nname = \"filial\"\npreset = \"stripe\"\nauth.signature.secrets = [{SECRET:?}]\nanswer = {{ status = 204 }}\n\
             [[sources]]\nname = \"me\"\npreset = \"mercado-eletronico\"\nauth.basic.passwords = [{SECRET:?}]\n"
        );
        let (config, tree) = load_parts("", &text, []).unwrap();
        let names: Vec<_> = config.sources.iter().map(|source| source.provider.as_str()).collect();
        assert_eq!(names, ["stripe", "stripe", "mercado-eletronico"]);
        assert_eq!(tree["providers"].as_array().unwrap().len(), 1);
        let duplicates = config.sources[0].duplicates(config.provider(&config.sources[0].provider).unwrap());
        assert!(duplicates.is_some_and(|rule| rule.is_by_field()));
        assert!(config.sources[1].answer.is_some() && config.sources[0].answer.is_none());
        // A provider of the configuration's own replaces that of the preset.
        let own = format!("{text}[[providers]]\nname = \"stripe\"\ntopic = {{ constant = \"x\" }}\n");
        let (_, tree) = load_parts("", &own, []).unwrap();
        assert_eq!(tree["providers"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_preset_that_is_not_there_or_has_no_secret_is_a_mistake_of_its_source() {
        let check = |rest: &str, expect: &str| {
            let shown =
                load_parts("", &format!("[[sources]]\nname = \"a\"\n{rest}"), []).unwrap_err().to_string();
            assert!(shown.contains(expect) && shown.contains("has 1 mistake\n"), "{shown}");
        };
        let secret = format!("auth.signature.secrets = [{SECRET:?}]\n");
        check(
            &format!("preset = \"strype\"\nauth.bearer.secrets = [{SECRET:?}]\n"),
            "sources[0].preset: there is no such preset; did you mean stripe?",
        );
        check(
            &format!("preset = 7\nauth.bearer.secrets = [{SECRET:?}]\n"),
            "sources[0].preset: there is no such preset; allowed: asaas",
        );
        check(
            &format!("preset = \"stripe\"\nprovider = \"recuperador\"\n{secret}"),
            "sources[0].preset: is set beside provider",
        );
        check("preset = \"stripe\"\n", "sources[0].auth.signature.secrets: must not be empty");
        check(
            "preset = \"stripe\"\nauth.signature.secrets = [\"replace-me\"]\n",
            "holds the placeholder of an example",
        );
    }

    #[test]
    fn every_preset_is_a_source_once_its_secrets_are_there() {
        for preset in providers::presets::Preset::all() {
            let source =
                serde_json::json!({"name": "made", "preset": preset.name, "auth": preset.example.auth});
            let text = toml::to_string(&serde_json::json!({"sources": [source]})).unwrap();
            let (config, _) =
                load_parts("", &text, []).unwrap_or_else(|error| panic!("{}: {error}", preset.name));
            assert_eq!(config.sources[0].provider.as_str(), preset.provider_name());
        }
    }
}
