//! The parser of the command line: the commands of [`args`](crate::args), with the help of each list from its own
//! declaration.

use clap::{Command, CommandFactory, FromArgMatches};

use crate::args::Cli;
use crate::domains;

/// Reads the command line; exits with a message if it is invalid.
pub fn parse() -> Cli {
    Cli::from_arg_matches(&tree().get_matches()).unwrap_or_else(|error| error.exit())
}

/// The commands; each list with its description and its filters.
pub fn tree() -> Command {
    Cli::command().mut_subcommands(|parent| {
        let Some(view) = domains::views().find(|view| view.name == parent.get_name()) else { return parent };
        let about = format!("{}, the newest first.", view.about);
        let (example, fields) = (view.example, view.filters().join(", "));
        let filters = format!("Only rows with this value, such as `--where {example}`; fields: {fields}");
        parent.about(view.about).mut_subcommands(|list| match list.get_name() {
            "list" => list.about(about.clone()).mut_args(|arg| match arg.get_id().as_str() {
                "filters" => arg.help(filters.clone()),
                _ => arg,
            }),
            _ => list,
        })
    })
}

#[cfg(test)]
mod tests {
    use view::View;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        tree().debug_assert();
    }

    #[test]
    fn every_list_says_what_it_lists_and_what_it_is_filtered_by() {
        let help = |name: &str| {
            let mut tree = tree();
            let list = tree.find_subcommand_mut(name).unwrap().find_subcommand_mut("list").unwrap();
            list.render_help().to_string()
        };
        assert!(
            help("dead")
                .starts_with("Dead letters: events that a consumer gave up, with the error, the newest")
        );
        assert!(help("rejected").contains("fields: id, source, provider"));
        let is_filtered = |view: &&View| view.name != "dead/groups" && !view.example.is_empty();
        for view in domains::views().filter(is_filtered) {
            assert!(help(view.name).contains(&format!("--where {}", view.example)), "{}", view.name);
        }
    }
}
