//! Rules for every container that this repository starts: it is confined, and contains no password.
//!
//! Reads docker-compose.yml line by line: keys by their indentation, and `<<: *anchor`.

use std::collections::BTreeMap;

use super::Finding;

const RULE: &str = "deploy";

/// Where the containers are set up.
pub const COMPOSE: &str = "docker-compose.yml";

/// The definition of the image.
pub const CONTAINERFILE: &str = "deploy/Containerfile";

/// What every service must have: a key, and a part of its value.
const REQUIRED: [(&str, &str); 6] = [
    ("read_only", "true"),
    ("cap_drop", "ALL"),
    ("security_opt", "no-new-privileges:true"),
    ("mem_limit", ""),
    ("pids_limit", ""),
    ("healthcheck", ""),
];

/// Every finding in the two files.
pub fn check(compose: &str, containerfile: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (services, anchors) = (blocks(compose, "services"), anchors(compose));
    if services.is_empty() {
        findings.push(Finding::new(COMPOSE, RULE, "has no service"));
    }
    for (service, own) in &services {
        let merged = merged(own, &anchors);
        for (key, part) in REQUIRED {
            if !merged.get(key).is_some_and(|value| value.contains(part)) {
                let wanted = if part.is_empty() { key.to_owned() } else { format!("{key}: {part}") };
                findings.push(Finding::new(COMPOSE, RULE, format!("the service {service} has no {wanted}")));
            }
        }
    }
    // What a service has through an anchor, all others with it have too.
    for anchor in anchors.iter().filter(|(_, keys)| keys.contains_key("secrets")).map(|(name, _)| name) {
        let detail =
            format!("the anchor {anchor} mounts secrets: let each service mount only those that it uses");
        findings.push(Finding::new(COMPOSE, RULE, detail));
    }
    for (number, line) in (1..).zip(compose.lines().map(str::trim)) {
        let Some((key, value)) = line.split_once(": ").filter(|_| !line.starts_with('#')) else { continue };
        let is_secret = ["PASS", "TOKEN", "SECRET", "KEY"].iter().any(|word| key.contains(word));
        if is_secret && !key.ends_with("_FILE") {
            let detail = format!("{key} is written out: mount a file, and name it in {key}_FILE");
            findings.push(Finding::new(format!("{COMPOSE}:{number}"), RULE, detail));
        }
        if has_password(value) {
            let detail = format!("{key} has a password in its URL: mount a file, and name it beside");
            findings.push(Finding::new(format!("{COMPOSE}:{number}"), RULE, detail));
        }
    }
    let user = containerfile.lines().filter_map(|line| line.strip_prefix("USER ")).next_back();
    if user.is_none_or(|user| ["root", "0"].contains(&user.trim())) {
        findings.push(Finding::new(CONTAINERFILE, RULE, "runs as root: end with a USER of its own"));
    }
    findings
}

/// Whether a value is a URL whose user has a password.
fn has_password(value: &str) -> bool {
    let authority = value.split_once("://").and_then(|(_, rest)| rest.split('/').next());
    authority.and_then(|authority| authority.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':'))
}

type Keys = BTreeMap<String, String>;

/// The keys of a block's lines, one level below `indentation`, each with everything that belongs to it.
fn keys<'a>(lines: impl Iterator<Item = &'a str>, indentation: usize) -> Keys {
    let mut keys = Keys::new();
    let mut current = None;
    for line in lines {
        let text = line.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if line.len() - text.len() > indentation {
            if let Some(value) = current.as_ref().and_then(|key| keys.get_mut(key)) {
                value.push_str(text);
            }
        } else if let Some((key, value)) = text.split_once(':') {
            keys.insert(key.to_owned(), value.trim().to_owned());
            current = Some(key.to_owned());
        }
    }
    keys
}

/// The lines of a top-level block.
fn lines_of(text: &str, is_head: impl Fn(&str) -> bool) -> impl Iterator<Item = &str> {
    let inside = text.lines().skip_while(move |line| !is_head(line)).skip(1);
    inside.take_while(|line| line.is_empty() || line.starts_with([' ', '#']))
}

/// The blocks below a top-level key, each with its keys.
fn blocks(text: &str, key: &str) -> BTreeMap<String, Keys> {
    let head = format!("{key}:");
    let mut blocks: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut current = String::new();
    for line in lines_of(text, |line| line == head) {
        match line.strip_prefix("  ").filter(|rest| !rest.starts_with([' ', '#'])) {
            Some(name) => name.trim_end_matches(':').clone_into(&mut current),
            None if !current.is_empty() => blocks.entry(current.clone()).or_default().push(line),
            None => {}
        }
    }
    blocks.into_iter().map(|(name, lines)| (name, keys(lines.into_iter(), 4))).collect()
}

/// The blocks that others merge: `x-name: &anchor`.
fn anchors(text: &str) -> BTreeMap<String, Keys> {
    let heads = text.lines().filter(|line| line.starts_with("x-"));
    let anchors = heads.filter_map(|head| Some((head.split_once('&')?.1.trim().to_owned(), head)));
    anchors.map(|(name, head)| (name, keys(lines_of(text, |line| line == head), 2))).collect()
}

/// A block's keys with those of what it merges; its own come first.
fn merged(own: &Keys, anchors: &BTreeMap<String, Keys>) -> Keys {
    let mut merged = own.clone();
    let mut next = own.get("<<");
    while let Some(keys) = next.and_then(|anchor| anchors.get(anchor.trim_start_matches('*'))) {
        for (key, value) in keys {
            merged.entry(key.clone()).or_insert_with(|| value.clone());
        }
        next = keys.get("<<");
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFINED: &str = "x-confined: &confined\n  read_only: true\n  cap_drop: [ALL]\n  security_opt: [\"no-new-privileges:true\"]\n\
         x-role: &role\n  <<: *confined\n  mem_limit: 1g\n  pids_limit: 9\n";

    fn findings(compose: &str) -> Vec<String> {
        let findings = check(&format!("{CONFINED}{compose}"), "FROM a\nUSER malote\n");
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_service_has_what_it_merges_and_what_it_says_itself() {
        let whole = "services:\n  one:\n    <<: *role\n    healthcheck:\n      test: [CMD, x]\n";
        assert!(findings(whole).is_empty());
        let bare = "services:\n  one:\n    <<: *role\n    read_only: false\n\n  two:\n    image: x\n";
        let found = findings(bare);
        assert_eq!(
            found[..2],
            [
                "docker-compose.yml: [deploy] the service one has no read_only: true",
                "docker-compose.yml: [deploy] the service one has no healthcheck",
            ]
        );
        assert_eq!(found.len(), 2 + REQUIRED.len(), "{found:#?}");
    }

    #[test]
    fn a_password_that_is_written_out_is_a_finding() {
        let service = "services:\n  one:\n    <<: *role\n    healthcheck: x\n    environment:\n";
        let check = |line: &str, expect: bool| {
            let found = findings(&format!("{service}      {line}\n"));
            assert_eq!(!found.is_empty(), expect, "{line}: {found:?}");
        };
        check("POSTGRES_PASSWORD: malote", true);
        check("POSTGRES_PASSWORD_FILE: /run/secrets/postgres", false);
        check("MALOTE__CONSOLE__TOKEN: x", true);
        check("MALOTE__BROKER__URL: amqp://malote:malote@rabbitmq:5672/malote", true);
        check("MALOTE__BROKER__URL: amqp://malote@rabbitmq:5672/malote", false);
    }

    #[test]
    fn secrets_that_every_service_mounts_are_a_finding() {
        let service = "services:\n  one:\n    <<: *role\n    healthcheck: x\n    secrets: [token]\n";
        assert!(findings(service).is_empty());
        let shared = format!("x-shared: &shared\n  <<: *role\n  secrets: [token, key]\n{service}");
        let found = findings(&shared);
        assert!(found[0].contains("the anchor shared mounts secrets") && found.len() == 1, "{found:?}");
    }

    #[test]
    fn an_image_that_runs_as_root_is_a_finding() {
        let compose = format!("{CONFINED}services:\n  one:\n    <<: *role\n    healthcheck: x\n");
        for (text, expect) in [("FROM a\n", 1), ("USER malote\nUSER root\n", 1), ("USER malote\n", 0)] {
            assert_eq!(check(&compose, text).len(), expect, "{text}");
        }
    }
}
