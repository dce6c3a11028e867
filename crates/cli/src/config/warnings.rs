//! Warnings: settings that work, and should be fixed before the port is public.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use providers::auth::{Algorithm, Auth, Networks, Secret, hold_everyone};

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
        of_source(index, source, &mut warnings);
    }
    let mut seen = BTreeMap::new();
    for Configured { path, secret, .. } in secrets(config) {
        of_secret(path, &secret, &mut seen, &mut warnings);
    }
    if matches!(config.broker.url, BrokerUrl::Amqp(_))
        && config.ingress.config().body_limit_bytes > RABBITMQ_BYTES
    {
        warnings.push(format!(
            "ingress.body_limit_bytes: more than RabbitMQ accepts by default from 4.0 on, {RABBITMQ_BYTES}; lower it, or raise \
             max_message_size in rabbitmq.conf and let `malote doctor` ask the broker"
        ));
    }
    if hold_everyone(&config.ingress.trusted_proxies) {
        warnings.push(
            "ingress.trusted_proxies: holds every address, so that every client chooses its own; list the proxies"
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

fn of_source(index: usize, source: &Source, warnings: &mut Vec<String>) {
    let at = |rest: &str| format!("sources[{index}].auth{rest}");
    let name = &source.name;
    let Auth::All(mechanisms) = &source.auth else {
        let path = at("");
        return warnings.push(format!(
            "{path}: \"none\" believes everyone who knows the address of {name}; require a secret"
        ));
    };
    if mechanisms.hmac.as_ref().is_some_and(|hmac| hmac.algorithm == Algorithm::Sha1) {
        let path = at(".hmac.algorithm");
        warnings.push(format!(
            "{path}: {name} signs with SHA-1, which is outdated; use sha256 where the sender can"
        ));
    }
    if mechanisms.networks.as_ref().is_some_and(Networks::hold_everyone) {
        let path = at(".networks");
        warnings.push(format!(
            "{path}: holds every address, which proves nothing of {name}; list the sender's networks"
        ));
    }
}

fn of_secret(path: String, secret: &Secret, seen: &mut BTreeMap<String, String>, warnings: &mut Vec<String>) {
    let text = secret.expose();
    if Secret::from(text.strip_prefix("whsec_").unwrap_or(text)).most_bits() < ENOUGH_BITS {
        warnings.push(format!(
            "{path}: a secret has less than {ENOUGH_BITS} bits and can be guessed; {MAKE_ONE}"
        ));
    }
    match seen.get(text).filter(|earlier| **earlier != path) {
        Some(earlier) => warnings.push(format!(
            "{path}: a secret is that of {earlier} too, so that who has one can pass for the other; {MAKE_ONE}"
        )),
        None => drop(seen.insert(text.to_owned(), path)),
    }
}

/// A file that a container runtime mounts there belongs to this container only, whatever its mode.
const MOUNTED_SECRETS: &str = "/run/secrets";

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
        check(" = \"none\"", "sources[0].auth: \"none\" believes everyone");
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
    fn one_secret_for_two_senders_is_a_warning_that_does_not_quote_it() {
        let auth = format!(".bearer = {{ secrets = [{STRONG:?}, {STRONG:?}] }}");
        let warned = warned(
            &(source("one", &auth)
                + &source("two", &auth.replace("bearer", "query").replace("{ s", "{ name = \"t\", s"))),
        );
        assert_eq!(warned.len(), 2, "{warned:#?}");
        let expect = "sources[1].auth.query.secrets: a secret is that of sources[0].auth.bearer.secrets too";
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
