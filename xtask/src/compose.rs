//! The part of docker-compose.yml that follows from the domains: a service for each consumer, and the names by which the
//! roles are asked for their metrics.
//!
//! Replaces lines between two marks and one value. Everything else in the file is written by hand.

use anyhow::{Context, Result};

/// The line before the generated services.
const BEGIN: &str = "  # The consumer of each domain: written by `cargo xtask docs`.\n";

/// The line after them.
const END: &str = "  # End of what is written by `cargo xtask docs`.\n";

/// The setting that lists every role.
const HOSTS: &str = "    MALOTE__OPERATIONS__HOSTS: ";

/// The file with a service for each of these domains.
///
/// # Errors
/// A mark or the setting is missing.
pub fn with_consumers<'a>(compose: &str, domains: impl Iterator<Item = &'a str>) -> Result<String> {
    let (before, rest) = compose.split_once(BEGIN).with_context(|| format!("there is no line {BEGIN:?}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("there is no line {END:?}"))?;
    let service = |domain| {
        format!(
            "  {domain}:\n    <<: *role\n    command: [--config, /etc/malote/malote.toml, consume, {domain}]\n    \
             secrets: [rabbitmq-password, postgres-password]\n\n"
        )
    };
    let text = format!("{before}{BEGIN}{}{END}{after}", domains.map(service).collect::<String>());
    let (before, rest) = text.split_once(HOSTS).with_context(|| format!("there is no line {HOSTS:?}"))?;
    let (_, after) = rest.split_once('\n').context("the setting has no end")?;
    Ok(format!("{before}{HOSTS}{}\n{after}", roles(&text).join(", ")))
}

/// The services that are roles, in the order of the file.
fn roles(compose: &str) -> Vec<&str> {
    let lines: Vec<_> = compose.lines().skip_while(|line| *line != "services:").collect();
    let names = lines.windows(2).filter(|pair| pair[1] == "    <<: *role");
    names.filter_map(|pair| pair[0].trim().strip_suffix(':')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_a_service_and_its_name_is_a_host() {
        let compose = format!(
            "x-role: &role\n{HOSTS}old\nservices:\n  ingress:\n    <<: *role\n\n{BEGIN}  old:\n    <<: *role\n\n{END}\n  \
             other:\n    image: x\n"
        );
        let text = with_consumers(&compose, ["toys"].into_iter()).unwrap();
        assert!(text.contains(&format!("{HOSTS}ingress, toys\n")), "{text}");
        assert!(text.contains("malote.toml, consume, toys]\n") && !text.contains("old"), "{text}");
        assert!(text.ends_with(&format!("{END}\n  other:\n    image: x\n")), "{text}");
        assert_eq!(with_consumers(&text, ["toys"].into_iter()).unwrap(), text);
        assert!(with_consumers("services:\n", ["toys"].into_iter()).is_err());
    }
}
