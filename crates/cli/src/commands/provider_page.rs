//! The page of a sender, generated from its preset and its provider, in English and Portuguese: what to enter in its panel,
//! what it proves, a sample, its topics, what is booked, and what to do when its events stop.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

use consumer::Bindings;
use event::{SourceName, Topic};
use providers::auth::Auth;
use providers::presets::{Preset, SecretFrom};
use providers::{Provider, generic};
use serde_json::Value;

use super::sources;
use crate::args::sources::{Language, Pages};
use crate::registry;
use crate::report;
use crate::sender_texts::expectation;

const TAKES_TEXT: &str = "a string takes all text";

/// What the declarations of providers and domains say in English, in Portuguese. A test names what is missing.
static IN_PORTUGUESE: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("provider_page/pt-BR.json")).expect("the file is checked by a test")
});

/// A text of a declaration in this language.
fn translated(text: &'static str, language: Language) -> &'static str {
    match language {
        Language::En => text,
        Language::Pt => IN_PORTUGUESE.get(text).map_or(text, String::as_str),
    }
}

/// The texts of a page that are the same for every sender.
struct Words {
    language: Language,
    built_in: &'static str,
    preset: &'static str,
    unverified: &'static str,
    configure: &'static str,
    credentials: &'static str,
    expects: &'static str,
    ours: &'static str,
    theirs: &'static str,
    public_key: &'static str,
    duplicates: &'static str,
    answer: &'static str,
    sample: &'static str,
    becomes: &'static str,
    topics: &'static str,
    topics_table: &'static str,
    topics_unlisted: &'static str,
    topics_constant: &'static str,
    booked: &'static str,
    booked_nothing: &'static str,
    stops: &'static str,
    stops_steps: &'static str,
}

const ENGLISH: Words = Words {
    language: Language::En,
    built_in: "This provider is built in: its topics are documented and some of its events are booked.",
    preset: "This sender is a preset: a description that a source names. Its events are recorded and delivered to subscriptions.",
    unverified: "Not verified against the sender's page",
    configure: "Configuration and panel",
    credentials: "Credentials",
    expects: "Every request has to have",
    ours: "You choose the secret; `malote sources add` makes one. To rotate it, add the new one to the list, change it in the panel, and remove the old one.",
    theirs: "The sender makes the secret and shows it in its panel.",
    public_key: "The sender signs with a private key; malote has its public key only.",
    duplicates: "A request that repeats a fact is recognised, answered and recorded, and not delivered again.",
    answer: "malote answers 200 once the events are stored durably.",
    sample: "A sample",
    becomes: "It becomes",
    topics: "Topics",
    topics_table: "| topic | meaning | subject | booked by |\n| --- | --- | --- | --- |\n",
    topics_unlisted: "Every topic is accepted under the sender's own name. It is read from",
    topics_constant: "Every event has the topic",
    booked: "What is booked",
    booked_nothing: "None of malote's own consumers books these events. They are on record (`malote events list`), and subscriptions get them.",
    stops: "When the events stop",
    stops_steps: "1. `malote sources show <name>` says when each secret was last used, and `malote events list --source <name>` shows the last event.\n\
        2. The log of the ingress names refused requests with the reason, and for a 401 the mechanism that failed. A 401 tells the sender what is expected.\n\
        3. `malote rejected list --source <name>` has the bodies that could not be used; `malote rejected retry` reads them again after a fix.\n\
        4. Requests to an address that no source has are counted in `ingress_missed_addresses_total`.",
};

const PORTUGUESE: Words = Words {
    language: Language::Pt,
    built_in: "Este provedor é embutido: seus tópicos são documentados e parte dos seus eventos é contabilizada.",
    preset: "Este remetente é um preset: uma descrição que uma fonte cita pelo nome. Seus eventos são registrados e entregues às assinaturas.",
    unverified: "Não verificado na página do remetente",
    configure: "Configuração e painel",
    credentials: "Credenciais",
    expects: "Toda requisição precisa ter",
    ours: "Você escolhe o segredo; `malote sources add` cria um. Para trocá-lo, acrescente o novo à lista, mude no painel e retire o antigo.",
    theirs: "O remetente cria o segredo e o mostra no painel.",
    public_key: "O remetente assina com uma chave privada; o malote tem só a chave pública.",
    duplicates: "Uma requisição que repete um fato é reconhecida, respondida e registrada, e não é entregue de novo.",
    answer: "O malote responde 200 depois que os eventos estão gravados de forma durável.",
    sample: "Um exemplo",
    becomes: "Vira",
    topics: "Tópicos",
    topics_table: "| tópico | significado | assunto | contabilizado por |\n| --- | --- | --- | --- |\n",
    topics_unlisted: "Todo tópico é aceito com o nome que o remetente lhe dá. Ele é lido de",
    topics_constant: "Todo evento tem o tópico",
    booked: "O que é contabilizado",
    booked_nothing: "Nenhum consumidor do malote contabiliza estes eventos. Eles ficam registrados (`malote events list`), e as assinaturas os recebem.",
    stops: "Quando os eventos param",
    stops_steps: "1. `malote sources show <nome>` diz quando cada segredo foi usado pela última vez, e `malote events list --source <nome>` mostra o último evento.\n\
        2. O log do ingress cita as requisições recusadas com o motivo e, num 401, o mecanismo que falhou. Um 401 diz ao remetente o que se espera.\n\
        3. `malote rejected list --source <nome>` tem os corpos que não puderam ser usados; `malote rejected retry` os lê de novo após uma correção.\n\
        4. Requisições a um endereço que nenhuma fonte tem são contadas em `ingress_missed_addresses_total`.",
};

/// Prints the page of a preset, or the names of all.
pub fn print(pages: &Pages) {
    match pages.preset.as_deref().and_then(Preset::named) {
        Some(preset) => report::print(&page(&preset, pages.language)),
        None => Preset::names().for_each(report::line),
    }
}

/// The page of a preset.
fn page(preset: &Preset, language: Language) -> String {
    let words = if language == Language::En { &ENGLISH } else { &PORTUGUESE };
    let built_in = Provider::named(preset.provider_name()).filter(|_| preset.provider.is_string());
    let mut text = format!("# {}\n\n", preset.title);
    let kind = if built_in.is_some() { words.built_in } else { words.preset };
    writeln!(text, "{kind} <{}>", preset.page).expect(TAKES_TEXT);
    if !preset.unverified.is_empty() {
        writeln!(text, "\n{}:\n", words.unverified).expect(TAKES_TEXT);
        preset.unverified.iter().for_each(|line| text += &format!("- {}\n", language.text(line)));
    }
    configuration(preset, words, &mut text);
    credentials(preset, words, &mut text);
    sample(preset, words, &mut text);
    match built_in {
        Some(provider) => documented_topics(&provider, words, &mut text),
        None => configured_topics(preset, words, &mut text),
    }
    let stops = language.text(&preset.panel.stops);
    write!(text, "\n## {}\n\n{stops}\n\n{}\n", words.stops, words.stops_steps).expect(TAKES_TEXT);
    text
}

fn configuration(preset: &Preset, words: &Words, text: &mut String) {
    let name = SourceName::new(&preset.name).expect("the name of a preset is one of a source");
    let secret = || "<secret>".to_owned();
    let lines = sources::lines(preset, &name, "https://malote.example.com", words.language, secret);
    write!(
        text,
        "\n## {}\n\n`malote sources add {}`:\n\n```toml\n{lines}```\n",
        words.configure, preset.name
    )
    .expect(TAKES_TEXT);
}

fn credentials(preset: &Preset, words: &Words, text: &mut String) {
    let auth: Auth = serde_json::from_value(preset.example_source()["auth"].clone())
        .expect("the example of a preset is complete, as a test shows");
    let secret = match preset.secret {
        SecretFrom::Ours => words.ours,
        SecretFrom::Theirs => words.theirs,
        SecretFrom::PublicKey => words.public_key,
    };
    let expected = auth.expectations();
    let expected: Vec<_> = expected.iter().map(|one| expectation(one, words.language)).collect();
    let expected = expected.join(", ");
    write!(text, "\n## {}\n\n{}: {expected}. {secret}\n", words.credentials, words.expects)
        .expect(TAKES_TEXT);
    let is_recognised = preset.source.contains_key("duplicates")
        || auth.duplicates().is_some()
        || Provider::named(preset.provider_name()).is_some_and(|provider| provider.duplicates().is_some());
    write!(
        text,
        "\n{}{}\n",
        words.answer,
        if is_recognised { format!(" {}", words.duplicates) } else { String::new() }
    )
    .expect(TAKES_TEXT);
}

fn sample(preset: &Preset, words: &Words, text: &mut String) {
    let body = String::from_utf8_lossy(preset.example_body());
    let format = if preset.example.content_type == "application/json" { "json" } else { "text" };
    write!(text, "\n## {}\n\n```{format}\n{}\n```\n\n{}", words.sample, body.trim_end(), words.becomes)
        .expect(TAKES_TEXT);
    for (index, event) in preset.example.events.iter().enumerate() {
        let subject = event.subject.as_ref().map(|subject| format!(" (`{subject}`)")).unwrap_or_default();
        write!(text, "{} `{}`{subject}", if index == 0 { "" } else { "," }, event.topic).expect(TAKES_TEXT);
    }
    text.push_str(".\n");
    for topic in &preset.samples {
        let provider = Provider::named(preset.provider_name());
        let Some(body) = provider.and_then(|provider| provider.example(topic)) else { continue };
        write!(text, "\n```json\n{}\n```\n\n{} `{topic}`.\n", body.trim_end(), words.becomes)
            .expect(TAKES_TEXT);
    }
}

fn documented_topics(provider: &Provider, words: &Words, text: &mut String) {
    write!(text, "\n## {}\n\n{}", words.topics, words.topics_table).expect(TAKES_TEXT);
    let mut takers = Vec::new();
    for topic in provider.topics() {
        let name = Topic::new(topic.name).expect("a documented topic keeps the rule");
        let booked = consumer::takers(declared(), provider.name(), &name);
        let booked: Vec<_> =
            booked.inspect(|name| takers.push(*name)).map(|name| format!("`{name}`")).collect();
        let subject = if topic.subject.is_empty() { String::new() } else { format!("`{}`", topic.subject) };
        let meaning = translated(topic.meaning, words.language);
        writeln!(text, "| `{}` | {meaning} | {subject} | {} |", topic.name, booked.join(", "))
            .expect(TAKES_TEXT);
    }
    write!(text, "\n## {}\n\n", words.booked).expect(TAKES_TEXT);
    let mut booking: Vec<_> = declared().filter(|bindings| takers.contains(&bindings.consumer)).collect();
    booking.sort_unstable_by_key(|bindings| bindings.consumer);
    for Bindings { consumer, purpose, .. } in booking {
        text.push_str(&format!("- `{consumer}`: {}\n", translated(purpose, words.language)));
    }
}

/// The declaration of each domain's consumer.
fn declared() -> impl Iterator<Item = &'static Bindings> {
    registry::ALL.iter().map(|domain| &domain.bindings)
}

fn configured_topics(preset: &Preset, words: &Words, text: &mut String) {
    let config: Option<generic::Config> =
        preset.provider_config().and_then(|config| serde_json::from_value(config).ok());
    let topics = config.map(|config| match config.topic {
        generic::TopicFrom::Pointer(pointer) => format!("{} `{}`", words.topics_unlisted, pointer.as_str()),
        generic::TopicFrom::Header(name) => format!("{} `{name}`", words.topics_unlisted),
        generic::TopicFrom::Constant(topic) => format!("{} `{topic}`", words.topics_constant),
    });
    write!(text, "\n## {}\n\n{}.\n", words.topics, topics.unwrap_or_default()).expect(TAKES_TEXT);
    if let Some(Value::Array(challenges)) = preset.provider.get("challenges") {
        let count = challenges.len();
        let line = match words.language {
            Language::En => format!(
                "Requests that are no events are answered as the sender wants: {count} kind(s), see the preset."
            ),
            Language::Pt => format!(
                "Requisições que não são eventos são respondidas como o remetente quer: {count} tipo(s), veja o preset."
            ),
        };
        writeln!(text, "\n{line}").expect(TAKES_TEXT);
    }
    write!(text, "\n## {}\n\n{}\n", words.booked, words.booked_nothing).expect(TAKES_TEXT);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_text_of_a_declaration_is_in_portuguese_and_no_other_is() {
        let providers = Provider::builtin();
        let meanings = providers.iter().flat_map(Provider::topics).map(|topic| topic.meaning);
        let purposes = ::domains::ALL.iter().map(|domain| domain.bindings.purpose);
        let needed: BTreeSet<&str> = meanings.chain(purposes).collect();
        let found: BTreeSet<&str> = IN_PORTUGUESE.keys().map(String::as_str).collect();
        assert_eq!(found, needed);
        assert!(IN_PORTUGUESE.values().all(|text| !text.is_empty()));
    }

    #[test]
    fn the_portuguese_page_has_nothing_of_the_english_one_but_what_is_data() {
        for preset in Preset::all() {
            let english = page(&preset, Language::En);
            // Code is the same in both: settings, bodies, topics.
            let sentences = |text: &str| {
                let mut is_code = false;
                let outside = text.lines().filter(move |line| {
                    let is_fence = line.starts_with("```");
                    is_code ^= is_fence;
                    !is_code && !is_fence
                });
                let cells = outside
                    .flat_map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
                cells.filter(|text| text.contains(' ')).collect::<BTreeSet<_>>()
            };
            let is_data =
                |text: &&String| text.starts_with("# ") || text.starts_with('`') && !text.contains(": ");
            let (english, portuguese) = (sentences(&english), sentences(&page(&preset, Language::Pt)));
            let same: Vec<_> = english.intersection(&portuguese).filter(|text| !is_data(text)).collect();
            assert!(same.is_empty(), "{}: {same:#?}", preset.name);
            let english_words = [" the ", " is ", " are ", " was ", " of "];
            let mixed = portuguese.iter().find(|text| english_words.iter().any(|word| text.contains(word)));
            assert_eq!(mixed, None, "{}", preset.name);
        }
    }

    #[test]
    fn every_sender_has_a_whole_page_in_both_languages() {
        for preset in Preset::all() {
            for (language, words) in [(Language::En, &ENGLISH), (Language::Pt, &PORTUGUESE)] {
                let text = page(&preset, language);
                for heading in [
                    words.configure,
                    words.credentials,
                    words.sample,
                    words.topics,
                    words.booked,
                    words.stops,
                ] {
                    assert!(text.contains(&format!("\n## {heading}\n")), "{}: {heading}", preset.name);
                }
                // The secrets of the example stay in the tests.
                let secrets =
                    preset.example.auth.values().flat_map(|table| table.as_object().into_iter().flatten());
                for secret in secrets.flat_map(|(_, list)| list.as_array().into_iter().flatten()) {
                    assert!(!text.contains(secret.as_str().unwrap_or("no text")), "{}", preset.name);
                }
            }
        }
        let recuperador = page(&Preset::named("recuperador").unwrap(), Language::En);
        assert!(
            recuperador.contains("| `acordo.cadastrado` |") && recuperador.contains("- `receivables`: "),
            "{recuperador}"
        );
        for (language, becomes) in [(Language::En, "It becomes"), (Language::Pt, "Vira")] {
            let recuperador = page(&Preset::named("recuperador").unwrap(), language);
            assert!(
                recuperador.contains("\"id_parcela\": ") && recuperador.contains("#poll = {"),
                "{recuperador}"
            );
            assert!(recuperador.contains(&format!("\n{becomes} `parcela.aprovada`.\n")), "{recuperador}");
            for name in ["mercado-eletronico", "gestao-online", "beneficio-visao"] {
                assert!(page(&Preset::named(name).unwrap(), language).contains("\n#api = {"), "{name}");
            }
        }
        let stripe = page(&Preset::named("stripe").unwrap(), Language::Pt);
        assert!(
            stripe.contains("lido de `/type`") && stripe.contains("`payment_intent.succeeded`"),
            "{stripe}"
        );
    }
}
