//! `malote sources`.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};
use providers::presets::{Preset, Text};

use super::{List, Output};

/// `malote sources`
#[derive(Debug, Subcommand)]
pub enum Sources {
    /// Print the lines of a new source for the configuration file, with fresh secrets, and what to enter in its sender's panel.
    Add(Add),
    /// By name, the last first.
    List(List),
    /// One source: its address, what its requests prove, the age and last use of each secret, the last refused requests, what to
    /// enter in the sender's panel, and how polling it goes.
    Show(SourceShow),
    /// The senders that are described beforehand.
    Presets {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `malote sources add`
#[derive(Clone, Debug, Args)]
pub struct Add {
    /// The sender [default: it is asked for].
    #[arg(value_name = "PRESET", value_parser = PossibleValuesParser::new(Preset::names()), hide_possible_values = true)]
    pub preset: Option<String>,
    /// The name of the source, the last part of its address [default: that of the preset].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where senders reach the ingress [default: the configured address].
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The language of what to enter in the panel.
    #[arg(long, value_enum, default_value_t = Language::En)]
    pub language: Language,
}

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// English.
    En,
    /// Portuguese.
    Pt,
}

impl Language {
    /// A text in this language.
    pub fn text(self, text: &Text) -> &str {
        match self {
            Self::En => &text.en,
            Self::Pt => &text.pt,
        }
    }
}

/// `malote sources show`
#[derive(Clone, Debug, Args)]
pub struct SourceShow {
    /// Its name.
    pub name: String,
    /// The language of what to enter in the panel.
    #[arg(long, value_enum, default_value_t = Language::En)]
    pub language: Language,
    /// How it is asked and printed.
    #[command(flatten)]
    pub output: Output,
}

/// `malote provider-pages`
#[derive(Clone, Debug, Args)]
pub struct Pages {
    /// Its page.
    #[arg(value_name = "PRESET", value_parser = PossibleValuesParser::new(Preset::names()))]
    pub preset: Option<String>,
    /// The language of the page.
    #[arg(long, value_enum, default_value_t = Language::En)]
    pub language: Language,
}
