//! Warnings: settings that work, and should be fixed before the port is public.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use providers::auth::{Algorithm, Auth, Networks, PublicKey, Secret, hold_everyone};

use super::secrets::{Configured, secrets};
use super::{BrokerUrl, Config, Source};

/// The recommended entropy of a secret: that of the key of a cipher.
const ENOUGH_BITS: u32 = 128;

const MAKE_ONE: &str = "make one with `openssl rand -hex 32`";

/// The default of RabbitMQ's `max_message_size` from 4.0 on.
const RABBITMQ_BYTES: usize = 16 * 1024 * 1024;

/// One line for each: its path, what is wrong, and what to do. No line quotes a secret.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, source) in config.sources.iter().enumerate() {
        let is_form = config.provider(&source.provider).is_some_and(|provider| provider.reads_forms());
        check_source(index, source, is_form, &mut warnings);
    }
    let mut seen = BTreeMap::new();
    for Configured { path, secret, .. } in secrets(config) {
        check_secret(path, &secret, &mut seen, &mut warnings);
    }
    if matches!(config.broker.url, BrokerUrl::Amqp(_))
        && config.ingress.config().body_limit_bytes > RABBITMQ_BYTES
    {
        warnings.push(format!(
            "ingress.body_limit_bytes: more than RabbitMQ accepts by default from 4.0 on, {RABBITMQ_BYTES}; lower it, or raise \
             max_message_size in rabbitmq.conf and let `malote doctor` ask the broker"
        ));
    }
    for (index, source) in config.sources.iter().enumerate() {
        let Some(required) = source.auth.client_certificate() else { continue };
        let path = format!("sources[{index}].auth.client_certificate");
        let by_port = required.authorities.is_some() && config.ingress.tls.is_some();
        let by_proxy = required.proxy.is_some() && !config.ingress.trusted_proxies.is_empty();
        if !by_port && !by_proxy {
            warnings.push(format!(
                "{path}: no request to {} can pass; the port needs [ingress.tls] and authorities_file to check certificates \
                 itself, or its proxy has to be in ingress.trusted_proxies",
                source.name
            ));
        }
    }
    if hold_everyone(&config.ingress.trusted_proxies) {
        warnings.push(
            "ingress.trusted_proxies: holds every address, so that every client chooses its own; list the proxies"
                .to_owned(),
        );
    }
    if hold_everyone(&config.outbound.allow) {
        warnings.push(
            "outbound.allow: holds every address, so that a subscription can reach the services of this machine and network; \
             list the networks of the receivers"
                .to_owned(),
        );
    }
    let ports = [&config.ingress.tls, &config.console.tls, &config.operations.tls];
    let of_clients = [&config.broker.tls.key, &config.store.tls.key].into_iter().flatten();
    let keys = ports.into_iter().flatten().map(|tls| &tls.key).chain(of_clients);
    for file in config.secret_files.iter().chain(keys).filter(|file| is_readable_by_all(file)) {
        let file = file.display();
        warnings.push(format!(
            "{file}: holds a secret and can be read by every user of this machine; chmod 600 {file}"
        ));
    }
    warnings
}

/// The addresses outside of this machine that credentials are sent to without TLS.
fn unencrypted(source: &Source) -> Vec<&'static str> {
    let api = source.api.as_ref().filter(|api| api.secrets().next().is_some());
    let poll = source.poll.as_ref().filter(|poll| !poll.auth.secrets().is_empty());
    let token =
        poll.and_then(|poll| Some(("poll.auth.oauth2.token_url", &poll.auth.oauth2.as_ref()?.token_url)));
    let addresses =
        [api.map(|api| ("api.base_url", &api.base_url)), poll.map(|poll| ("poll.url", &poll.url)), token];
    let is_here = |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let is_open = |(_, url): &(_, &outbound::Address)| !url.is_https() && !is_here(url.host());
    addresses.into_iter().flatten().filter(is_open).map(|(setting, _)| setting).collect()
}

/// `is_form`: bodies are forms.
fn check_source(index: usize, source: &Source, is_form: bool, warnings: &mut Vec<String>) {
    for setting in unencrypted(source) {
        warnings
            .push(format!("sources[{index}].{setting}: credentials are sent there without TLS; use https"));
    }
    let at = |rest: &str| format!("sources[{index}].auth{rest}");
    let name = &source.name;
    let Auth::All(mechanisms) = &source.auth else {
        let path = at("");
        return warnings
            .push(format!("{path}: \"none\" accepts unauthenticated requests for {name}; require a secret"));
    };
    if mechanisms.client_certificate.as_ref().is_some_and(|it| it.subjects.is_empty() && it.names.is_empty())
    {
        let path = at(".client_certificate");
        warnings.push(format!(
            "{path}: {name} may be anybody with a certificate of these authorities; give subjects or names"
        ));
    }
    if mechanisms.hmac.as_ref().is_some_and(|hmac| hmac.algorithm == Algorithm::Sha1) {
        let path = at(".hmac.algorithm");
        warnings.push(format!(
            "{path}: {name} signs with SHA-1, which is outdated; use sha256 where the sender can"
        ));
    }
    if let Some(signature) = &mechanisms.signature {
        if signature.algorithm.is_outdated() {
            let path = at(".signature.algorithm");
            warnings.push(format!(
                "{path}: {name} signs with SHA-1, which is outdated; use SHA-256 where the sender can"
            ));
        }
        if signature.public_keys.iter().any(PublicKey::is_short) {
            let path = at(".signature.public_keys");
            warnings.push(format!(
                "{path}: {name} signs with an RSA key of less than 2,048 bits; ask for a longer one"
            ));
        }
        if signature.algorithm.is_plain_hash() && signature.signed.begins_with_secret() && is_form {
            let path = at(".signature.signed");
            warnings.push(format!(
                "{path}: who overhears a request of {name} can append fields to its form, and the hash still fits; require a secret \
                 in the address besides"
            ));
        }
        if !signature.signed.has_body() && !mechanisms.has_secret_in_head() {
            let path = at(".signature.signed");
            warnings.push(format!(
                "{path}: {name} does not sign the body, so that a request that is overheard can be sent again with another; \
                 read what matters from the sender's API, or require a secret in the address besides"
            ));
        }
    }
    for secret in mechanisms.query.iter().flat_map(|query| &query.secrets) {
        if secret.expose().contains(|c: char| !c.is_ascii_alphanumeric() && !"-._~".contains(c)) {
            let path = at(".query.secrets");
            warnings.push(format!(
                "{path}: a secret of {name} has characters that have to be encoded in an address, and senders differ in that; \
                 {MAKE_ONE}"
            ));
            break;
        }
    }
    if mechanisms.networks.as_ref().is_some_and(Networks::hold_everyone) {
        let path = at(".networks");
        warnings.push(format!(
            "{path}: holds every address, which proves nothing of {name}; list the sender's networks"
        ));
    }
}

fn check_secret(
    path: String,
    secret: &Secret,
    seen: &mut BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) {
    let text = secret.expose();
    if Secret::from(text.strip_prefix("whsec_").unwrap_or(text)).most_bits() < ENOUGH_BITS {
        warnings.push(format!(
            "{path}: a secret has less than {ENOUGH_BITS} bits and can be guessed; {MAKE_ONE}"
        ));
    }
    match seen.get(text).filter(|earlier| **earlier != path) {
        Some(earlier) => warnings.push(format!(
            "{path}: a secret is the same as in {earlier}, so that the holder of one can impersonate the other; {MAKE_ONE}"
        )),
        None => drop(seen.insert(text.to_owned(), path)),
    }
}

/// A file that a container runtime mounts there belongs to this container only, whatever its mode.
pub(crate) const MOUNTED_SECRETS: &str = "/run/secrets";

fn is_readable_by_all(file: &Path) -> bool {
    let mode = fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    mode & 0o004 != 0 && !file.starts_with(MOUNTED_SECRETS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_parts;

    fn warned(text: &str) -> Vec<String> {
        warnings(&load_parts("", text, []).unwrap().0)
    }

    fn source(name: &str, auth: &str) -> String {
        format!("[[sources]]\nname = {name:?}\nprovider = \"recuperador\"\nauth{auth}\n")
    }

    const STRONG: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_body_limit_that_rabbitmq_may_not_accept_is_a_warning() {
        let is_warned = |text: &str| {
            let path = "ingress.body_limit_bytes: ";
            warned(text).iter().any(|warning| warning.starts_with(path))
        };
        let amqp = "broker.url = \"amqp://127.0.0.1\"\n";
        assert!(is_warned(&format!("{amqp}ingress.body_limit_bytes = 16777217")));
        assert!(!is_warned(&format!("{amqp}ingress.body_limit_bytes = 16777216")));
        assert!(!is_warned("ingress.body_limit_bytes = 16777217"));
    }

    #[test]
    fn each_weakness_is_a_warning_with_its_path_and_what_to_do() {
        let check = |auth: &str, expect: &str| {
            let warned = warned(&source("one", auth));
            assert!(warned.len() == 1 && warned[0].starts_with(expect), "{auth}: {warned:#?}");
        };
        check(" = \"none\"", "sources[0].auth: \"none\" accepts unauthenticated requests");
        check(
            ".bearer = { secrets = [\"hunter2\"] }",
            "sources[0].auth.bearer.secrets: a secret has less than 128 bits",
        );
        check(".networks = [\"0.0.0.0/0\"]", "sources[0].auth.networks: holds every address");
        check(".networks = [\"::/0\"]", "sources[0].auth.networks: holds every address");
        check(
            ".networks = [\"0.0.0.0/1\", \"128.0.0.0/1\"]",
            "sources[0].auth.networks: holds every address",
        );
        let sha1 = format!(".hmac = {{ header = \"x\", algorithm = \"sha1\", secrets = [{STRONG:?}] }}");
        check(&sha1, "sources[0].auth.hmac.algorithm: one signs with SHA-1");
        for networks in ["\"0.0.0.0/0\"", "\"0.0.0.0/1\", \"128.0.0.0/1\"", "\"::ffff:0:0/96\""] {
            let proxies = warned(&format!("ingress.trusted_proxies = [{networks}]"));
            assert!(proxies[0].starts_with("ingress.trusted_proxies: holds every address"), "{proxies:#?}");
        }
        let allow = warned("outbound.allow = [\"0.0.0.0/1\", \"128.0.0.0/1\"]");
        assert!(allow[0].starts_with("outbound.allow: holds every address"), "{allow:#?}");
        let token = warned("console.token = \"0123456789abcdef\"");
        assert!(token[0].starts_with("console.token: a secret has less than"), "{token:#?}");
        for (text, path) in [
            ("broker.url = \"amqp://malote:rabbit@127.0.0.1\"", "broker.url"),
            ("store.url = \"postgres://malote:s%61ved@127.0.0.1/malote\"", "store.url"),
            ("store.url = \"postgres://127.0.0.1/malote?user=malote&password=saved\"", "store.url"),
            (format!("ingress.subject_key = {:?}", "0".repeat(64)).as_str(), "ingress.subject_key"),
        ] {
            let warned = warned(text);
            let expect = format!("{path}: a secret has less than 128 bits");
            assert!(warned.len() == 1 && warned[0].starts_with(&expect), "{text}: {warned:#?}");
        }
        let strong = format!(".bearer = {{ secrets = [{STRONG:?}] }}");
        assert!(warned(&source("one", &strong)).is_empty());
    }

    #[test]
    fn a_signature_that_leaves_the_body_out_and_a_secret_that_has_to_be_encoded_are_warnings() {
        let check = |auth: &str, expect: &[&str]| {
            let warned = warned(&source("one", auth));
            assert_eq!(warned.len(), expect.len(), "{auth}: {warned:#?}");
            assert!(
                warned.iter().zip(expect).all(|(line, start)| line.starts_with(start)),
                "{auth}: {warned:#?}"
            );
        };
        let signed =
            |rest: &str| format!(".signature = {{ header = \"x\", secrets = [{STRONG:?}], {rest} }}");
        check(&signed("signed = \"{body}\""), &[]);
        check(
            &signed("signed = \"{query:id}\""),
            &["sources[0].auth.signature.signed: one does not sign the body"],
        );
        check(
            &signed("algorithm = \"hmac-sha1\""),
            &["sources[0].auth.signature.algorithm: one signs with SHA-1"],
        );
        let query = |secret: &str| format!(".query = {{ name = \"token\", secrets = [{secret:?}] }}");
        check(&query(STRONG), &[]);
        check(
            &query(&format!("{STRONG}+/=")),
            &["sources[0].auth.query.secrets: a secret of one has characters"],
        );
    }

    #[test]
    fn what_gives_credentials_or_events_away_is_a_warning() {
        let check = |text: String, expect: &[&str]| {
            let warned = warned(&text);
            assert_eq!(warned.len(), expect.len(), "{text}: {warned:#?}");
            assert!(
                warned.iter().zip(expect).all(|(line, start)| line.starts_with(start)),
                "{text}: {warned:#?}"
            );
        };
        let polled = |url: &str| {
            format!(
                "[[sources]]\nname = \"one\"\nprovider = \"recuperador\"\n\
                 poll = {{ url = {url:?}, every_s = 60, auth = {{ basic = {{ username = {STRONG:?} }} }} }}\n"
            )
        };
        check(
            polled("http://erp.example.com"),
            &["sources[0].poll.url: credentials are sent there without TLS"],
        );
        check(polled("https://erp.example.com"), &[]);
        check(polled("http://127.0.0.1:9000"), &[]);
        let hashed = |body: &str, signed: &str| {
            let auth = format!(
                ".signature = {{ header = \"x\", algorithm = \"sha256\", signed = {signed:?}, secrets = [{STRONG:?}] }}"
            );
            let provider = format!(
                "[[providers]]\nname = \"psp\"\nbody = {body:?}\ntopic = {{ constant = \"paid\" }}\n"
            );
            provider + &source("one", &auth).replace("\"recuperador\"", "\"psp\"")
        };
        check(
            hashed("form", "{secret}-{body}"),
            &["sources[0].auth.signature.signed: who overhears a request of one"],
        );
        check(hashed("json", "{secret}-{body}"), &[]);
        check(hashed("form", "{body}-{secret}"), &[]);
        let certificate = |rest: &str| format!(".client_certificate = {{ {rest} }}");
        let proxy = "proxy = { header = \"x-dn\", verified = { header = \"x-verify\" } }";
        let of_proxy = |rest: &str| source("one", &certificate(&format!("{proxy}{rest}")));
        check(
            of_proxy(", subjects = [\"CN=psp\"]"),
            &["sources[0].auth.client_certificate: no request to one can pass"],
        );
        check(
            "ingress.trusted_proxies = [\"10.0.0.7\"]\n".to_owned() + &of_proxy(", subjects = [\"CN=psp\"]"),
            &[],
        );
        check(
            "ingress.trusted_proxies = [\"10.0.0.7\"]\n".to_owned() + &of_proxy(""),
            &["sources[0].auth.client_certificate: one may be anybody"],
        );
    }

    #[test]
    fn one_secret_for_two_senders_is_a_warning_that_does_not_quote_it() {
        let auth = format!(".bearer = {{ secrets = [{STRONG:?}, {STRONG:?}] }}");
        let warned = warned(
            &(source("one", &auth)
                + &source("two", &auth.replace("bearer", "query").replace("{ s", "{ name = \"t\", s"))),
        );
        assert_eq!(warned.len(), 2, "{warned:#?}");
        let expect =
            "sources[1].auth.query.secrets: a secret is the same as in sources[0].auth.bearer.secrets";
        assert!(warned.iter().all(|line| line.starts_with(expect) && !line.contains(STRONG)), "{warned:#?}");
    }

    #[test]
    fn a_secret_that_every_user_can_read_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, STRONG).unwrap();
        let auth = format!(".bearer = {{ secrets_file = {:?} }}", file.display().to_string());
        let check = |mode: u32, expect: usize| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let warned = warned(&source("one", &auth));
            assert_eq!(warned.len(), expect, "{warned:#?}");
            assert!(warned.iter().all(|line| line.contains(&format!("chmod 600 {}", file.display()))));
        };
        check(0o644, 1);
        check(0o640, 0);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        for section in ["broker", "store", "ingress", "console", "operations"] {
            let file = file.display().to_string();
            let warned = self::warned(&format!("[{section}.tls]\ncertificate = {file:?}\nkey = {file:?}\n"));
            assert!(warned.len() == 1 && warned[0].contains("chmod 600"), "{section}: {warned:#?}");
        }
    }
}
