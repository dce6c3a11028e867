//! The providers whose contracts are built in: one line for each.

use crate::provider::Provider;
use crate::{beneficio_visao, generic, gestao_online, mercado_eletronico, recuperador};

impl Provider {
    /// The providers whose contracts are built in.
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
    /// Every mistake that is about more than one value's form, as (path, message). A configuration without
    /// any makes a provider that does what it says.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut mistakes = self.own_mistakes();
        if Provider::named(self.name.as_str()).is_some() {
            let message = format!("{} is built in; give another name", self.name);
            mistakes.insert(0, ("name".to_owned(), message));
        }
        mistakes
    }
}
