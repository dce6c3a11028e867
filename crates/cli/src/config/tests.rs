//! The defaults are complete, all mistakes are reported at once, and secrets never appear in them.

use providers::auth::Auth;

use super::*;

fn load(text: &str) -> Result<Config, Mistakes> {
    load_parts("malote.toml", text, []).map(|(config, _)| config)
}

fn mistakes(text: &str) -> Vec<(String, String)> {
    load(text).unwrap_err().0.into_iter().map(|mistake| (mistake.path, mistake.message)).collect()
}

#[test]
fn the_defaults_are_the_embedded_ones() {
    let config = load("").unwrap();
    assert!(config.is_embedded());
    assert_eq!(config.ingress.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.console.listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.providers.len(), 4);
    assert!(config.sources.is_empty());
    assert!(config.ingress.subject_key().is_none() && config.console.token().is_none());
}

#[test]
fn a_header_that_is_a_credential_cannot_be_kept() {
    let text = r#"
[[providers]]
name = "asaas"
topic = { pointer = "/event" }
keep_headers = ["x-request-id", "asaas-access-token"]
[[sources]]
name = "asaas-1"
provider = "asaas"
auth.header = { name = "Asaas-Access-Token", secrets = ["s3cret"] }
"#;
    let message = "asaas-access-token is a credential of source asaas-1, and is never kept";
    assert_eq!(mistakes(text), [("providers[0].keep_headers".to_owned(), message.to_owned())]);
}

#[test]
fn an_api_has_what_its_provider_needs_and_its_secrets_are_not_shown() {
    let source = |provider: &str, api: &str| {
        format!("[[sources]]\nname = \"one\"\nprovider = \"{provider}\"\nauth = \"none\"\napi = {api}\n")
    };
    let url = "base_url = \"https://api.example.com\"";
    let check = |provider: &str, api: &str, expect: &[&str]| {
        let found = mistakes(&source(provider, api));
        assert_eq!(found.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), expect, "{found:?}");
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    };
    check(
        "mercado-eletronico",
        &format!("{{ {url} }}"),
        &["sources[0].api.client_id", "sources[0].api.client_secret"],
    );
    check("recuperador", &format!("{{ {url} }}"), &["sources[0].api"]);
    check("gestao-online", "{ base_url = \"ftp://hunter2\" }", &["sources[0].api.base_url"]);
    check(
        "gestao-online",
        &format!("{{ {url}, headers = {{ host = \"hunter2\" }} }}"),
        &["sources[0].api.headers"],
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let text = source(
        "mercado-eletronico",
        &format!("{{ {url}, client_id = \"me\", client_secret_file = {:?} }}", file.path()),
    ) + &source("gestao-online", &format!("{{ {url}, headers = {{ x-api-key = \"hunter2\" }} }}"))
        .replace("\"one\"", "\"two\"");
    let (config, tree) = load_parts("", &text, []).unwrap();
    let secret = config.sources[0].api.as_ref().unwrap().client_secret.as_ref().unwrap();
    assert_eq!(secret.expose(), "hunter2");
    assert!(!shown(&tree).contains("hunter2") && !format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_rule_of_a_source_compares_its_facts_as_the_rule_of_its_provider_does() {
    let rule = |duplicates: &str| {
        let text = format!(
            "[[sources]]\nname = \"rec\"\nprovider = \"recuperador\"\nauth = \"none\"\nduplicates = {duplicates}\n"
        );
        let config = load(&text).unwrap();
        let provider = config.provider(&config.sources[0].provider).unwrap().clone();
        (config.sources[0].duplicates(&provider).unwrap(), provider.duplicates().unwrap().clone())
    };
    // Its API adds fields and renames others: what is posted and polled is one fact under either rule.
    let (written, own) = rule("{ pointer = \"/id\", window_s = 604800 }");
    assert_eq!(written, own);
    let (other, own) = rule("{ pointer = \"/id\", window_s = 60 }");
    assert_ne!(other, own);
}

/// The reference with its commented settings switched on.
fn whole() -> String {
    let settings = DEFAULT.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') && !setting.is_empty() => setting,
        _ => line,
    });
    settings.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_commented_setting_of_the_reference_is_allowed() {
    let config = load(&whole()).unwrap();
    assert_eq!((config.providers.len(), config.sources.len()), (5, 4));
    assert!(config.ingress.tls.is_some() && config.console.tls.is_some() && config.operations.tls.is_some());
}

#[test]
fn the_reference_has_every_section_in_the_order_of_their_declaration() {
    let text = whole();
    let heads = text.lines().filter_map(|line| line.strip_prefix('['));
    let name = |head: &str| head.trim_start_matches('[').split(['.', ']']).next().unwrap().to_owned();
    let mut names: Vec<String> = heads.map(name).collect();
    names.dedup();
    assert_eq!(names, sections::NAMES);
}

#[test]
fn the_reference_has_every_field_of_every_table() {
    let text = whole();
    let (_, tree) = load_parts("", &text, []).unwrap();
    let mut places: Vec<String> = tree.as_object().unwrap().keys().cloned().collect();
    let mut tables = 0;
    while let Some(place) = places.pop() {
        let value = tree.pointer(&format!("/{place}")).unwrap();
        if let Some(items) = value.as_array() {
            places.extend((0..items.len()).map(|index| format!("{place}/{index}")));
        }
        let Some(map) = value.as_object() else { continue };
        places.extend(map.keys().map(|key| format!("{place}/{key}")));
        // A table that rejects an unknown key lists the known ones.
        let mut probe = tree.clone();
        let table = probe.pointer_mut(&format!("/{place}")).unwrap().as_object_mut().unwrap();
        table.insert("zzzzzzzzzzzz".to_owned(), serde_json::Value::Null);
        let toml = probe.as_object().unwrap();
        let Some(fields) = fields_of(toml) else { continue };
        tables += 1;
        let siblings: Vec<_> = match place.rsplit_once('/') {
            // One of several in a list: a field may be in any of them.
            Some((list, index)) if index.parse::<usize>().is_ok() => {
                tree.pointer(&format!("/{list}")).unwrap().as_array().unwrap().iter().collect()
            }
            // The comment names the other ways.
            _ if place.ends_with("/poll/auth") => continue,
            // Where an id is, how a fact is told, what is signed: the comment shows one of the ways.
            _ if ["/subject", "/duplicates", "/signature", "/signature/timestamp", "/client_certificate"]
                .iter()
                .any(|end| place.ends_with(end)) =>
            {
                continue;
            }
            // A field of a source may be in any of them.
            Some((outer, field)) if in_source(&format!("{outer}/{field}")).is_some() => {
                let pointer = in_source(&place).unwrap_or_default();
                let sources = tree["sources"].as_array().unwrap().iter();
                sources.filter_map(|source| source.pointer(&pointer)).collect()
            }
            _ => vec![value],
        };
        for field in fields {
            assert!(siblings.iter().any(|table| table.get(&field).is_some()), "{place} lacks {field}");
        }
    }
    assert!(tables > 15, "only {tables} tables were looked at");
}

/// Where a field is in its source, as a pointer.
fn in_source(place: &str) -> Option<String> {
    let (index, field) = place.strip_prefix("sources/")?.split_once('/')?;
    index.parse::<usize>().ok().map(|_| format!("/{field}"))
}

fn fields_of(tree: &serde_json::Map<String, serde_json::Value>) -> Option<Vec<String>> {
    let tree = serde_json::Value::Object(tree.clone());
    let error = read::read(&tree, &tree).err()?;
    let message = &error.0.iter().find(|mistake| mistake.path.ends_with("zzzzzzzzzzzz"))?.message;
    let (_, allowed) = message.split_once("allowed: ")?;
    Some(allowed.split(", ").map(str::to_owned).collect())
}

#[test]
fn every_mistake_is_reported_at_once_with_its_path_and_what_is_allowed() {
    let found = mistakes(
        r#"
        brokers = 1
        [broker]
        url = "http://rabbit"
        [store]
        max_connections = "many"
        pool = 3
        [ingress]
        listen = "8080"
        body_limit_byte = 7
        limits.idle_timeout_ms = 0
        trusted_proxies = ["10.0.0.0/8", "ten"]
        [outbound]
        allow = ["127.0.0.0/8", "localhost"]
        connect_timeout_ms = 0
        proxy = { url = "socks5://proxy" }
        [log]
        format = "xml"
        [[sources]]
        name = "One"
        provider = "mercado-eletronica"
        auth.hmac = { header = "x-sig", algorithm = "md5", secrets = [] }
        [[sources]]
        name = "two"
        provider = "recuperador"
        [[sources]]
        name = "two"
        provider = "gestao-online"
        auth = {}
        "#,
    );
    let check = |path: &str, expect: &str| {
        let message =
            &found.iter().find(|(at, _)| at == path).unwrap_or_else(|| panic!("{path} in {found:#?}")).1;
        assert!(message.contains(expect), "{path}: {message}");
    };
    check("brokers", "did you mean broker?");
    check("broker.url", "amqp://");
    check("store.max_connections", "expected a whole number, got \"many\"");
    check("store.pool", "allowed: url, max_connections, acquire_timeout_ms, insecure, tls");
    check("ingress.listen", "such as 127.0.0.1:8080");
    check("ingress.body_limit_byte", "did you mean body_limit_bytes?");
    check("ingress.limits.idle_timeout_ms", "at least 1");
    check("ingress.trusted_proxies[1]", "such as 10.0.0.0/8");
    check("outbound.allow[1]", "expected a network such as 10.0.0.0/8");
    check("outbound.connect_timeout_ms", "at least 1");
    check("outbound.proxy.url", "such as http://proxy:3128");
    check("log.format", "allowed: one of `auto`, `text`, `json`");
    check("sources[0].name", "lower-case letters");
    check("sources[0].provider", "did you mean mercado-eletronico?");
    check("sources[0].auth.hmac.algorithm", "allowed: one of `sha256`, `sha1`, `sha512`");
    check("sources[0].auth.hmac.secrets", "must not be empty");
    check("sources[1].auth", "write auth = \"none\"");
    check("sources[2].name", "another source is named two");
    check("sources[2].auth", "names no mechanism");
    assert_eq!(found.len(), 19, "{found:#?}");
}

#[test]
fn nobody_posts_as_malote() {
    let found = mistakes(
        "[[providers]]\nname = \"malote\"\ntopic = { header = \"x-event\" }\n\
         [[sources]]\nname = \"one\"\nprovider = \"malote\"\nauth = \"none\"\n",
    );
    let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["providers[0].name", "sources[0].provider"]);
    for (path, message) in &found {
        assert!(
            message.contains("malote's own domain events") && message.contains("another name"),
            "{path}: {message}"
        );
    }
}

#[test]
fn a_mistake_never_repeats_a_secret() {
    let check = |text: &str| {
        let shown = load(text).unwrap_err().to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
    };
    let source = "[[sources]]\nname = \"a\"\nprovider = \"recuperador\"\n";
    check(&format!("{source}auth.bearer = {{ secrets = \"hunter2\" }}"));
    check(&format!("{source}auth = \"hunter2\""));
    check(&format!("{source}auth.bearer = {{ secrets = [\"hunter2 ]\n }}"));
    check("broker.url = \"amqp://u:hunter2@host:port\"");
    check("store.url = \"mysql://u:hunter2@host\"");
    check("outbound.proxy.url = \"socks5://u:hunter2@proxy\"");
    check("console.token = \"hunter2\"");
    check("ingress.subject_key = \"hunter2\"");
}

#[test]
fn the_environment_overrides_the_file() {
    let file = "[broker]\nprefix = \"file.\"\n[[sources]]\nname = \"a\"\nprovider = \"recuperador\"\nauth = \"none\"";
    let variables = [
        ("MALOTE__BROKER__PREFIX", "environment."),
        ("MALOTE__STORE__MAX_CONNECTIONS", "3"),
        ("MALOTE__INGRESS__TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.1/32"),
        ("MALOTE__SOURCES__0__AUTH", "{ bearer = { secrets = [\"hunter2\"] } }"),
        ("HOME", "/root"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (config, tree) = load_parts("malote.toml", file, variables).unwrap();
    assert_eq!(config.broker.prefix, "environment.");
    assert_eq!(config.store.max_connections, 3);
    assert_eq!(config.ingress.trusted_proxies.len(), 2);
    assert!(matches!(config.sources[0].auth, Auth::All(_)));
    assert!(!shown(&tree).contains("hunter2"));
}

#[test]
fn an_unknown_variable_is_a_mistake() {
    let variables = [("MALOTE__BROKER__URI".to_owned(), "embedded".to_owned())];
    let mistakes = load_parts("", "", variables).unwrap_err();
    assert_eq!(mistakes.0[0].path, "broker.uri");
}

#[test]
fn a_mistake_of_the_environment_names_its_variable_and_one_of_a_source_its_name() {
    let file = "[[sources]]\nname = \"a\"\nprovider = \"recuperador\"\nauth = {}";
    let variables = [("MALOTE__LOG__FORMAT", "xml"), ("MALOTE_BROKER_URL", "x"), ("MALOTE__BROKER__", "x")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let shown = load_parts("malote.toml", file, variables).unwrap_err().to_string();
    let lines: Vec<&str> = shown.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 5, "{shown}");
    assert!(
        lines[1].starts_with("log.format: ") && lines[1].ends_with("(from MALOTE__LOG__FORMAT)"),
        "{shown}"
    );
    assert!(lines[2].starts_with("sources[0].auth: ") && lines[2].ends_with("(source a)"), "{shown}");
    assert!(lines[3].ends_with("did you mean MALOTE__BROKER__URL?"), "{shown}");
    assert!(lines[4].starts_with("MALOTE__BROKER__: names no setting"), "{shown}");
}

#[test]
fn mistakes_come_in_the_order_of_the_settings() {
    let mut text = "log.format = 1\nbroker.window = -1\nbroker.heartbeat_s = 65536\ndata = 1\n".to_owned();
    for index in 0..11 {
        text += &format!("[[sources]]\nname = \"s{index}\"\nprovider = \"recuperador\"\nauth = {{}}\n");
    }
    let found = mistakes(&text);
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths[..6],
        ["data", "broker.heartbeat_s", "broker.window", "log.format", "sources[0].auth", "sources[1].auth"]
    );
    assert_eq!(paths.last(), Some(&"sources[10].auth"));
    assert!(found[0].1.starts_with("expected a table [data]"), "{found:?}");
    assert!(found[1].1.starts_with("expected a whole number from 0 to 65535, got "), "{found:?}");
    assert!(found[2].1.starts_with("expected a whole number of at least 0, got "), "{found:?}");
}

#[test]
fn one_address_for_two_ports_is_a_mistake_where_no_container_keeps_them_apart() {
    let check = |ingress: &str, console: &str, is_mistake: bool| {
        let text = format!("ingress.listen = \"{ingress}\"\nconsole.listen = \"{console}\"");
        assert_eq!(load(&text).is_err(), is_mistake, "{text}");
    };
    check("127.0.0.1:8080", "127.0.0.1:8080", true);
    check("0.0.0.0:8080", "0.0.0.0:8080", false);
    check("127.0.0.1:0", "127.0.0.1:0", false);
    check("127.0.0.2:8080", "127.0.0.1:8080", false);
}

#[test]
fn a_filter_is_a_level_or_levels_of_parts() {
    let check = |filter: &str, is_mistake: bool| {
        assert_eq!(load(&format!("log.filter = \"{filter}\"")).is_err(), is_mistake, "{filter}");
    };
    check("loud", true);
    check("info,ingress", true);
    check("info,ingress=loud", true);
    check("", true);
    check("WARN,ingress=debug", false);
    check("off", false);
}

#[test]
fn the_address_of_the_store_has_to_be_one() {
    let check = |url: &str, is_mistake: bool| {
        assert_eq!(load(&format!("store.url = \"{url}\"")).is_err(), is_mistake, "{url}");
    };
    check("sqlite:", true);
    check("sqlite:x.db", false);
    check("sqlite:/var/x.db", false);
    check("postgres://u:pass#word@db/malote", true);
    check("postgres://u:pass%23word@db/malote", false);
    check("mysql://db", true);
}

#[test]
fn the_parameters_of_an_address_are_hidden() {
    let check = |url: &str, expect: &str| assert_eq!(shown::without_password(url), expect);
    check(
        "postgres://db/malote?user=u&password=hunter2",
        "postgres://db/malote?user=[secret]&password=[secret]",
    );
    check("postgres://u:hunter2@db/malote?hunter2", "postgres://u:[secret]@db/malote?[secret]");
    check("http://collector:4318/x?api_key=hunter2", "http://collector:4318/x?api_key=[secret]");
    check("http://collector:4318/x#hunter2", "http://collector:4318/x");
    check("postgres://u:hunt/er2@db/malote", "postgres://[secret]");
    check("postgres://db/malote?password=hunt@er2", "postgres://[secret]");
    check("embedded", "embedded");
}

#[test]
fn secrets_are_hidden_and_what_is_shown_is_a_configuration() {
    let text = r#"
        broker.url = "amqp://malote:hunter2@one:5672,two:5672/v"
        broker.insecure = true
        store.url = "postgres://malote:hunt@er2@db/malote"
        console.token = "hunter2hunter2hunter2"
        [[sources]]
        name = "a"
        provider = "recuperador"
        auth.basic = { username = "u", passwords = ["hunter2"] }
    "#;
    let (_, tree) = load_parts("malote.toml", text, []).unwrap();
    let shown = shown(&tree);
    assert!(!shown.contains("hunter2") && !shown.contains("er2"), "{shown}");
    assert!(shown.contains("amqp://malote:[secret]@one:5672,two:5672/v"), "{shown}");
    toml::from_str::<toml::Table>(&shown).unwrap();
}

#[test]
fn a_rule_of_a_source_or_a_consumer_that_cannot_be_kept_is_told_with_its_path() {
    let source = "[[sources]]\nname = \"a\"\nprovider = \"recuperador\"\nauth = \"none\"\n";
    let check = |text: &str, expect: &str| {
        let shown = load(text).unwrap_err().to_string();
        assert!(shown.contains(expect), "{shown}");
    };
    check(&format!("{source}duplicates = \"no\""), "sources[0].duplicates: expected \"none\", or a table");
    check(
        &format!("{source}duplicates = {{ pointer = \"/id\" }}"),
        "sources[0].duplicates.window_s: is missing",
    );
    check(
        &format!("{source}duplicates = {{ pointer = \"/pix/0/endToEndId\", window_s = 60 }}"),
        "sources[0].duplicates: pointer: leads to one element of an array",
    );
    load(&format!("{source}duplicates = \"none\"")).unwrap();
    let several = "[[providers]]\nname = \"psp\"\nevents = \"/pix\"\ntopic = { constant = \"pix\" }\n";
    check(
        &format!("{several}{source}duplicates = \"none\"").replace("\"recuperador\"", "\"psp\""),
        "sources[0].duplicates: its bodies hold several events",
    );
    check("consumer.policies.invoice.attempts = 3", "did you mean invoices?");
    check(
        "consumer.policies.invoices.attempts = 0",
        "consumer.policies.invoices.attempts: expected a number of at least 1",
    );
    check("consumer.policies.invoices.delays = [\"3s\"]", "expected one of 1s, 5s, 30s");
    check("ingress.spool.patience_ms = 4000", "ingress.spool.patience_ms: expected less than");
    let long = load("ingress.body_limit_bytes = 20971520").unwrap().ingress.config();
    assert_eq!((long.body_memory_bytes, long.unproved_body_memory_bytes), (125_829_120, 41_943_040));
    load("ingress.body_limit_bytes = 10485760").unwrap();
    check("ingress.body_memory_bytes = 18000000", "ingress.body_memory_bytes: expected at least 18874368");
    check(
        "ingress.unproved_body_memory_bytes = 2000000",
        "ingress.unproved_body_memory_bytes: expected at least twice body_limit_bytes",
    );
}

#[test]
fn what_a_signature_does_not_cover_is_not_read_from_a_header() {
    let shown = |topic: &str, auth: &str, duplicates: &str| {
        let text = format!(
            "[[providers]]\nname = \"erp\"\ntopic = {topic}\n[[sources]]\nname = \"erp-1\"\nprovider = \"erp\"\n\
             {auth}\n{duplicates}\n"
        );
        match load(&text) {
            Ok(_) => None,
            Err(Mistakes(mistakes)) => mistakes.into_iter().next().map(|one| (one.path, one.message)),
        }
    };
    let (header, pointer) = ("{ header = \"x-event\" }", "{ pointer = \"/event\" }");
    let signed = "auth.hmac = { header = \"x-s\", secrets = [\"a\"] }";
    let check = |shown: Option<(String, String)>, expect: &str| {
        let (path, message) = shown.expect("a mistake");
        assert!(path == "sources[0].auth" && message.contains(expect), "{path}: {message}");
    };
    check(
        shown(header, signed, ""),
        "the topic is read from the header x-event, which the signature does not cover",
    );
    let by_header = "duplicates = { header = \"x-request-id\", window_s = 60 }";
    check(shown(pointer, signed, by_header), "the key of duplicates is read from the header x-request-id");
    assert_eq!(shown(pointer, signed, ""), None);
    for proved in [
        "auth = { hmac = { header = \"x-s\", secrets = [\"a\"] }, bearer = { secrets = [\"b\"] } }",
        "auth = { hmac = { header = \"x-s\", secrets = [\"a\"] }, networks = [\"203.0.113.0/24\"] }",
        "auth.bearer = { secrets = [\"b\"] }",
    ] {
        assert_eq!(shown(header, proved, by_header), None, "{proved}");
    }
    let halves = "auth = { hmac = { header = \"x-s\", secrets = [\"a\"] }, networks = [\"0.0.0.0/1\", \"128.0.0.0/1\"] }";
    check(shown(header, halves, ""), "the topic is read from the header x-event");
}

#[test]
fn the_placeholder_of_an_example_does_not_start() {
    let text = "console.token = \"replace-me-0123456789\"\nbroker.url = \"amqp://malote:replace-me@127.0.0.1\"\n\
                store.url = \"postgres://malote:replace%2Dme@127.0.0.1/malote\"\n[[sources]]\nname = \"one\"\n\
                provider = \"recuperador\"\nauth.bearer = { secrets = [\"replace-me\"] }";
    let found = mistakes(text);
    for path in ["broker.url", "store.url", "console.token", "sources[0].auth.bearer.secrets[0]"] {
        assert!(
            found.iter().any(|(at, message)| at == path && message.contains("placeholder")),
            "{path} in {found:#?}"
        );
    }
}

#[test]
fn an_unprotected_way_over_the_network_has_to_be_allowed() {
    let check = |text: &str, expect: Option<&str>| {
        let found = load(text).err().map(|Mistakes(mistakes)| mistakes[0].path.clone());
        assert_eq!(found.as_deref(), expect, "{text}");
    };
    check("broker.url = \"amqp://u:p@rabbit/v\"", Some("broker.url"));
    check("broker.url = \"amqp://u:p@127.0.0.1,rabbit/v\"", Some("broker.url"));
    check("broker.url = \"amqps://u:p@rabbit/v\"", None);
    check("broker.url = \"amqp://u:p@127.0.0.1,localhost,[::1]/v\"", None);
    check("broker = { url = \"amqp://u:p@rabbit/v\", insecure = true }", None);
    let management = |broker: &str, url: &str, insecure: bool| {
        format!("broker = {{ url = {broker:?}, management_url = {url:?}, insecure = {insecure} }}")
    };
    let amqps = "amqps://u:p@rabbit/v";
    check(&management(amqps, "http://rabbit:15672", false), Some("broker.management_url"));
    check(&management(amqps, "http://10.0.0.1:15672", false), Some("broker.management_url"));
    check(&management(amqps, "http://rabbit:15672", true), None);
    check(&management(amqps, "https://rabbit:15671", false), None);
    for local in ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
        check(&management("amqp://u:p@127.0.0.1/v", &format!("http://{local}:15672"), false), None);
    }
    check(&management("embedded", "http://rabbit:15672", false), None);
    check("store.url = \"postgres://u:p@db/malote\"", None);
    check("store.url = \"postgres://u:p@db/malote?sslmode=require\"", Some("store.url"));
    check("store = { url = \"postgres://u:p@db/malote?sslmode=disable\", insecure = true }", None);
    check("broker.tls.certificate = \"client.crt\"", Some("broker.tls"));
    check("store.tls.key = \"client.key\"", Some("store.tls"));
}

/// The paths of the numbers in a tree.
fn numbers(path: &str, tree: &serde_json::Value, found: &mut Vec<String>) {
    match tree {
        serde_json::Value::Number(_) => found.push(path.to_owned()),
        serde_json::Value::Object(map) => {
            let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            map.iter().for_each(|(name, value)| numbers(&below(name), value, found));
        }
        _ => {}
    }
}

#[test]
fn every_number_has_an_upper_bound_that_is_allowed_and_named_beyond_it() {
    let mut settings = Vec::new();
    numbers("", &toml::from_str(read::DEFAULT).unwrap(), &mut settings);
    assert!(settings.len() > 40, "{settings:?}");
    // Those without a default.
    settings.extend(["ingress.body_memory_bytes", "ingress.unproved_body_memory_bytes"].map(str::to_owned));
    for section in ["ingress", "console", "operations"] {
        settings
            .extend(["max_connections", "client_connections"].map(|name| format!("{section}.limits.{name}")));
    }
    settings.extend(["attempts", "jitter_percent"].map(|name| format!("consumer.policies.invoices.{name}")));
    for setting in &settings {
        // A number of 8, 16 or 32 bits has the bound of its type, and its own within.
        let (mut number, mut bounds) = (i64::MAX.to_string(), 0);
        while let Err(Mistakes(found)) = load(&format!("{setting} = {number}")) {
            let message = found.iter().find(|one| one.path == *setting).map_or("", |one| &one.message);
            let bound = ["at most ", "from 0 to "].iter().find_map(|before| message.split_once(before));
            // It has to stay below another setting, or another has to grow with it.
            let Some((_, bound)) = bound else { break };
            number = bound.split(',').next().unwrap().to_owned();
            bounds += 1;
            assert!(bounds < 3, "{setting}: {found:#?}");
        }
        assert!(bounds > 0, "{setting} has no bound");
        let variable = format!("MALOTE__{}", setting.to_uppercase().replace('.', "__"));
        let beyond = load_parts("", "", [(variable, u64::MAX.to_string())]);
        assert!(beyond.is_err(), "{setting} = {}", u64::MAX);
    }
    let source = |rest: &str| {
        format!("[[sources]]\nname = \"a\"\nprovider = \"recuperador\"\nauth = \"none\"\n{rest} {}", i64::MAX)
    };
    assert!(load(&source("keep_days =")).is_err());
    assert!(load(&(source("duplicates = { body = true, window_s =") + "}")).is_err());
}

#[test]
fn a_polled_source_needs_a_rule_for_duplicates_and_no_authentication() {
    let source = |provider: &str, rest: &str| {
        format!(
            "[[sources]]\nname = \"a\"\nprovider = \"{provider}\"\n{rest}\npoll = {{ url = \"https://h.example/a\", "
        )
    };
    let polled = format!("{}every_s = 60 }}", source("recuperador", ""));
    let config = load(&polled).unwrap();
    let auth = &config.sources[0].auth;
    assert!(auth.secrets().iter().all(|(_, secrets)| secrets.is_empty()), "a request could pass");
    assert!(config.sources[0].poll.is_some());
    let check = |text: &str, expect: &str| {
        let shown = load(text).unwrap_err().to_string();
        assert!(shown.contains(expect) && !shown.contains("hunter2"), "{shown}");
    };
    let missing = "sources[0].duplicates: missing: what is polled comes again";
    check(&format!("{}every_s = 60 }}", source("gestao-online", "")), missing);
    check(&format!("{}every_s = 60 }}", source("recuperador", "duplicates = \"none\"")), missing);
    check(
        &format!("{}every_s = 0 }}", source("recuperador", "")),
        "sources[0].poll.every_s: expected a number",
    );
    check(&format!("{}}}", source("recuperador", "")), "sources[0].poll.every_s: is missing");
    let secret = "every_s = 60, auth = { bearer = { token = \"hunter2 replace me\" } } }";
    check(&format!("{}{secret}", source("recuperador", "")), "sources[0].poll.auth");
    check("[[sources]]\nname = \"a\"\nprovider = \"recuperador\"\n", "sources[0].auth: is missing");
}

#[test]
fn the_credentials_for_an_api_come_from_files_and_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "hunter2\n").unwrap();
    let text = format!(
        "[[sources]]\nname = \"a\"\nprovider = \"recuperador\"\npoll = {{ url = \"https://h.example/?key=hunter3\", every_s = 60, \
         auth = {{ basic = {{ username_file = {file:?}, password = \"hunter4\" }} }} }}\n"
    );
    let (config, tree) = load_parts("malote.toml", &text, []).unwrap();
    let basic = config.sources[0].poll.as_ref().unwrap().auth.basic.as_ref().unwrap();
    assert_eq!((basic.username.expose(), basic.password.expose()), ("hunter2", "hunter4"));
    assert!(config.secret_files.contains(&file) && config.reloadable_files.contains(&file));
    let shown = shown(&tree);
    assert!(shown.contains(&format!("{file:?}")) && !shown.contains("hunter"), "{shown}");
    let beside = text.replace("username_file", "username = \"me\", username_file");
    let printed = load_parts("malote.toml", &beside, []).unwrap_err().to_string();
    assert!(
        printed.contains("sources[0].poll.auth.basic.username_file: is set beside username"),
        "{printed}"
    );
}
