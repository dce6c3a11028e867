//! Personal data on pages: masked, with a link that shows it to those who may see it.

use access::Role;

use super::link;
use super::shell::Visit;
use crate::reveal;

/// What a page says about the personal data on it.
pub(super) struct Personal {
    pub(super) about: &'static str,
    /// The text of the link, and where it leads.
    pub(super) link: Option<(&'static str, String)>,
}

/// What a query asks for, apart from personal data; and whether it asks for that.
pub(super) fn split(given: Vec<(String, String)>) -> (Vec<(String, String)>, bool) {
    let is_reveal = |(name, value): &(String, String)| format!("{name}={value}") == reveal::PARAMETER;
    let is_revealed = given.iter().any(is_reveal);
    (given.into_iter().filter(|pair| !is_reveal(pair)).collect(), is_revealed)
}

/// A path of the API, which asks for personal data if the page does.
pub(super) fn asking(path: &str, is_revealed: bool) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    if is_revealed { format!("{path}{separator}{}", reveal::PARAMETER) } else { path.to_owned() }
}

impl Personal {
    /// For the page with this address, whose query is without what asks for personal data.
    pub(super) fn new(visit: &Visit, path: &str, given: &[(String, String)], is_revealed: bool) -> Self {
        let here = link(path, super::borrowed(given));
        match (is_revealed, visit.identity.role >= Role::Operator) {
            (true, _) => Self {
                about: "Personal data is shown, and the audit has that.",
                link: Some(("Mask it", here)),
            },
            (false, true) => Self {
                about: "Personal data is masked.",
                link: Some(("Show it, which the audit then has", asking(&here, true))),
            },
            (false, false) => {
                Self { about: "Personal data is masked. It takes an operator to see it.", link: None }
            }
        }
    }
}
