//! The configured sources in words: where their senders post to, what their requests have to have, what to enter in the panel.

use console::{ConfiguredSource, SenderPanel, Texts};
use providers::auth::{Auth, Expected};
use providers::presets::{Panel, Preset};

use crate::args::sources::Language;
use crate::client::api::reachable;
use crate::config::{Config, Source};

/// One thing that a request has to have, in this language.
pub fn expectation(expected: &Expected<'_>, language: Language) -> String {
    match (language, expected) {
        (Language::En, expected) => expected.to_string(),
        (Language::Pt, Expected::Header(name)) => format!("o cabeçalho {name}"),
        (Language::Pt, Expected::Parameter(name)) => format!("o parâmetro {name} no endereço"),
        (Language::Pt, Expected::Basic) => "o cabeçalho authorization com credenciais Basic".to_owned(),
        (Language::Pt, Expected::Bearer) => "o cabeçalho authorization com um bearer token".to_owned(),
        (Language::Pt, Expected::IssuedToken) => {
            "o cabeçalho authorization com um bearer token de POST /oauth/token".to_owned()
        }
        (Language::Pt, Expected::Certificate) => "um certificado de cliente no handshake TLS".to_owned(),
        (Language::Pt, Expected::CertificateForProxy) => {
            "um certificado de cliente que o proxy do receptor aceita".to_owned()
        }
    }
}

/// The sources of a configuration.
pub fn configured_sources(config: &Config) -> Vec<ConfiguredSource> {
    let presets = Preset::all();
    let scheme = if config.ingress.tls.is_some() { "https" } else { "http" };
    let base = format!("{scheme}://{}", reachable(config.ingress.listen));
    config.sources.iter().map(|source| configured(source, &base, &presets)).collect()
}

fn configured(source: &Source, base: &str, presets: &[Preset]) -> ConfiguredSource {
    let address = format!("{base}/webhooks/{}", source.name);
    let preset = presets.iter().find(|preset| preset.provider_name() == source.provider.as_str());
    ConfiguredSource {
        source: source.name.to_string(),
        provider: source.provider.to_string(),
        expects: expects(&source.auth),
        panel: preset.map(|preset| panel(preset, &source.auth, &address)),
        address,
    }
}

fn expects(auth: &Auth) -> Texts {
    let all = |language, nothing: &str| {
        let all: Vec<_> = auth.expectations().iter().map(|one| expectation(one, language)).collect();
        match all.as_slice() {
            [] if matches!(auth, Auth::None) => nothing.to_owned(),
            all => all.join(", "),
        }
    };
    Texts { en: all(Language::En, "nothing"), pt: all(Language::Pt, "nada") }
}

/// What to enter at the sender, with words in place of the secret.
fn panel(preset: &Preset, auth: &Auth, address: &str) -> SenderPanel {
    let parameter = auth.expectations().into_iter().find_map(|expected| match expected {
        Expected::Parameter(name) => Some(name.to_owned()),
        _ => None,
    });
    let filled = |lines: &[String], secret: &str| {
        let query = parameter.as_ref().map(|name| format!("?{name}={secret}")).unwrap_or_default();
        let url = format!("{address}{query}");
        lines
            .iter()
            .map(|line| line.replace("{url}", &url).replace("{secret}", secret))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let Panel { en, pt, stops } = &preset.panel;
    SenderPanel {
        title: preset.title.clone(),
        page: preset.page.clone(),
        text: Texts { en: filled(en, "<the secret>"), pt: filled(pt, "<o segredo>") },
        stops: Texts { en: stops.en.clone(), pt: stops.pt.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_parts;

    #[test]
    fn a_source_says_what_to_enter_at_its_sender_and_no_secret() {
        let text = "[[sources]]\nname = \"loja\"\npreset = \"iugu\"\nauth.query.secrets = [\"hidden-9f86d081884c7d65\"]\n\
                    [[sources]]\nname = \"asaas\"\npreset = \"asaas\"\nauth.header.secrets = [\"hidden-9f86d081884c7d65\"]\n\
                    [[providers]]\nname = \"own\"\ntopic = { constant = \"x\" }\n\
                    [[sources]]\nname = \"own\"\nprovider = \"own\"\nauth = \"none\"\n";
        let (config, _) = load_parts("", text, []).unwrap();
        let [loja, asaas, own] = configured_sources(&config).try_into().unwrap();
        let shown = |source: &ConfiguredSource| serde_json::to_string(source).unwrap();
        assert!(!shown(&loja).contains("hidden") && !shown(&asaas).contains("hidden"));
        let panel = loja.panel.unwrap();
        assert!(panel.text.en.contains("/webhooks/loja?token=<the secret>"), "{}", panel.text.en);
        assert!(panel.text.pt.contains("/webhooks/loja?token=<o segredo>"), "{}", panel.text.pt);
        assert_eq!(loja.expects.pt, "o parâmetro token no endereço");
        let panel = asaas.panel.unwrap();
        assert!(panel.text.pt.contains("Token de autenticação: <o segredo>"), "{}", panel.text.pt);
        assert_eq!((own.panel, own.expects.en.as_str()), (None, "nothing"));
    }
}
