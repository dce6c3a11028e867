//! The built-in providers: one line for each.

use crate::provider::Provider;
use crate::{beneficio_visao, generic, gestao_online, mercado_eletronico, recuperador};

impl Provider {
    /// The built-in providers.
    pub fn builtin() -> Vec<Provider> {
        [
            mercado_eletronico::declaration(),
            gestao_online::declaration(),
            recuperador::declaration(),
            beneficio_visao::declaration(),
        ]
        .map(Provider::from)
        .into()
    }

    /// The built-in provider of a name.
    pub fn named(name: &str) -> Option<Provider> {
        Self::builtin().into_iter().find(|provider| provider.name().as_str() == name)
    }
}

impl generic::Config {
    /// Every mistake that concerns more than the form of one value, as (path, message). A configuration without
    /// mistakes yields a provider that behaves as configured.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut mistakes = self.own_mistakes();
        if Provider::named(self.name.as_str()).is_some() {
            let message = format!("{} is built in; give another name", self.name);
            mistakes.insert(0, ("name".to_owned(), message));
        }
        mistakes
    }
}
