//! `malote sources add` and `presets`: a new source from a preset.
//!
//! What is printed is TOML, comments included, so that it can be appended to the configuration file as it is.

use std::fmt::Write;
use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, Result, bail};
use event::SourceName;
use providers::presets::{Choice, Preset, SecretFrom};
use serde_json::json;

use crate::args::sources::{Add, Language};
use crate::client::api::reachable;
use crate::client::lists::print_json;
use crate::config::Config;
use crate::data_dir::random_hex;
use crate::report;
use crate::table::Lines;

/// Prints the lines of a new source.
pub fn add(args: &Add, config: &Config) -> Result<()> {
    let asked = match &args.preset {
        Some(name) => name.clone(),
        None => ask()?,
    };
    let preset = Preset::named(&asked)
        .with_context(|| format!("there is no preset {asked}; `malote sources presets` lists them"))?;
    let name = SourceName::new(args.name.as_deref().unwrap_or(&preset.name)).context("--name")?;
    if config.sources.iter().any(|source| source.name == name) {
        bail!("a source is named {name} already; give the new one another name with --name");
    }
    let scheme = if config.ingress.tls.is_some() { "https" } else { "http" };
    let base = args.url.clone().unwrap_or_else(|| format!("{scheme}://{}", reachable(config.ingress.listen)));
    report::print(&lines(&preset, &name, base.trim_end_matches('/'), args.language, random_hex));
    Ok(())
}

/// Prints the presets.
pub fn list(as_json: bool) {
    if as_json {
        let row = |preset: Preset| json!({ "name": preset.name, "title": preset.title, "page": preset.page });
        return print_json(&Preset::all().into_iter().map(row).collect::<Vec<_>>());
    }
    let mut lines = Lines::new(&["Preset", "Sender", "Page"]);
    for preset in Preset::all() {
        lines.add_texts([preset.name, preset.title, preset.page]);
    }
    report::print(&format!("{lines}"));
}

/// Asks for a preset on the terminal.
fn ask() -> Result<String> {
    if !io::stdin().is_terminal() {
        bail!("name a preset: {}", Preset::names().collect::<Vec<_>>().join(", "));
    }
    report::note(format!("Presets: {}", Preset::names().collect::<Vec<_>>().join(", ")));
    report::note("Which sender?");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("reading the answer")?;
    Ok(line.trim().to_owned())
}

/// The lines of a source, and what to enter in the panel as comments. `fresh` makes secrets.
pub(super) fn lines(
    preset: &Preset,
    name: &SourceName,
    base: &str,
    language: Language,
    fresh: impl Fn() -> String,
) -> String {
    let is_english = language == Language::En;
    let mut text = format!("[[sources]]\nname = \"{name}\"\npreset = \"{}\"\n", preset.name);
    let (mut url, mut secret) = (format!("{base}/webhooks/{name}"), String::new());
    for path in preset.secrets() {
        // What a sender makes is for its signatures.
        let is_signature =
            ["hmac.", "signature.", "standard_webhooks."].iter().any(|start| path.starts_with(start));
        let made = match preset.secret {
            SecretFrom::Theirs | SecretFrom::PublicKey if is_signature => "replace-me".to_owned(),
            _ => fresh(),
        };
        writeln!(text, "auth.{path} = [\"{made}\"]").expect(TAKES_TEXT);
        let parameter = preset.source.get("auth").and_then(|auth| auth.pointer("/query/name")?.as_str());
        match parameter.filter(|_| path == "query.secrets") {
            Some(parameter) => write!(url, "?{parameter}={made}").expect(TAKES_TEXT),
            None => secret = made,
        }
    }
    let certificate = preset.source.get("auth").and_then(|auth| auth.get("client_certificate"));
    if certificate.is_some() {
        let about = match is_english {
            true => {
                "The certificates of the authorities behind the sender's client certificate, and its subject. The port checks it, which \
                 needs [ingress.tls]. If a proxy does, leave the file out: see client_certificate in docs/configuration.toml."
            }
            false => {
                "Os certificados das autoridades do certificado de cliente do remetente, e o sujeito. A porta o verifica, o que exige \
                 [ingress.tls]. Se um proxy o verifica, retire o arquivo: veja client_certificate em docs/configuration.toml."
            }
        };
        let file = format!("/etc/malote/{name}-authorities.pem");
        writeln!(text, "# {about}\nauth.client_certificate.authorities_file = \"{file}\"").expect(TAKES_TEXT);
        writeln!(text, "auth.client_certificate.subjects = [\"CN=replace-me\"]").expect(TAKES_TEXT);
    }
    for Choice { about, line } in &preset.options {
        writeln!(text, "# {}\n#{line}", language.text(about)).expect(TAKES_TEXT);
    }
    let (heading, open, panel, page) = match is_english {
        true => ("Enter in the panel of", "Not verified", &preset.panel.en, "Its page"),
        false => ("Informe no painel de", "Não verificado", &preset.panel.pt, "A página"),
    };
    writeln!(text, "\n# {heading} {}:", preset.title).expect(TAKES_TEXT);
    for line in panel {
        let line = line.replace("{url}", &url).replace("{secret}", &secret);
        writeln!(text, "#   {line}").expect(TAKES_TEXT);
    }
    writeln!(text, "# {page}: {}", preset.page).expect(TAKES_TEXT);
    for unverified in &preset.unverified {
        writeln!(text, "# {open}: {}", language.text(unverified)).expect(TAKES_TEXT);
    }
    text
}

const TAKES_TEXT: &str = "a string takes all text";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_parts;

    fn printed(preset: &str, language: Language) -> String {
        let preset = Preset::named(preset).unwrap();
        let name = SourceName::new("new").unwrap();
        lines(&preset, &name, "https://hooks.example.com", language, || "5f".repeat(32))
    }

    #[test]
    fn what_is_printed_is_a_configuration_that_lacks_at_most_the_senders_secret() {
        for preset in Preset::all() {
            for language in [Language::En, Language::Pt] {
                let text = printed(&preset.name, language);
                let loaded = load_parts("", &text, []);
                match preset.secret {
                    SecretFrom::Ours if text.contains("client_certificate") => {
                        let error = loaded.unwrap_err().to_string();
                        assert!(
                            error.contains("has 1 mistake") && error.contains("new-authorities.pem"),
                            "{text}\n{error}"
                        );
                    }
                    SecretFrom::Ours => drop(loaded.unwrap_or_else(|error| panic!("{text}\n{error}"))),
                    SecretFrom::Theirs => {
                        let error = loaded.unwrap_err().to_string();
                        assert!(
                            error.contains("has 1 mistake") && error.contains("placeholder"),
                            "{text}\n{error}"
                        );
                    }
                    SecretFrom::PublicKey => {
                        let error = loaded.unwrap_err().to_string();
                        assert!(error.contains("expected a public key"), "{text}\n{error}");
                    }
                }
                let rest = text.replace("{chave}", "");
                assert!(text.contains("https://hooks.example.com/webhooks/new"), "{text}");
                assert!(!rest.contains("{url}") && !rest.contains("{secret}"), "{text}");
            }
        }
    }

    #[test]
    fn what_a_source_may_have_besides_works_once_it_is_no_comment() {
        let mut count = 0;
        for preset in Preset::all() {
            for language in [Language::En, Language::Pt] {
                let text = printed(&preset.name, language);
                for Choice { about, line } in &preset.options {
                    let about = language.text(about);
                    assert!(text.contains(&format!("# {about}\n#{line}\n")), "{text}");
                    let text =
                        text.replace(&format!("#{line}"), line).replace("replace-me", "9f86d081884c7d65");
                    let (config, _) =
                        load_parts("", &text, []).unwrap_or_else(|error| panic!("{text}\n{error}"));
                    let source = &config.sources[0];
                    assert!(source.api.is_some() || source.poll.is_some(), "{text}");
                    count += 1;
                }
            }
        }
        assert_eq!(count, 8, "each built-in provider has an API");
    }

    #[test]
    fn a_secret_is_where_the_sender_has_it() {
        let asaas = printed("asaas", Language::Pt);
        assert!(asaas.contains("auth.header.secrets = [\"5f5f"), "{asaas}");
        assert!(asaas.contains("#   Token de autenticação: 5f5f"), "{asaas}");
        let iugu = printed("iugu", Language::En);
        assert!(iugu.contains("https://hooks.example.com/webhooks/new?token=5f5f"), "{iugu}");
        let pago = printed("mercado-pago", Language::En);
        assert!(pago.contains("# Not verified: the signed text"), "{pago}");
    }
}
