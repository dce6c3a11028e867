//! The parser of the command line: the commands of [`args`](crate::args), with the help of each list from its own
//! declaration.

use clap::{Command, CommandFactory, FromArgMatches};
use view::View;

use crate::args::Cli;
use crate::registry;

/// Reads the command line; exits with a message if it is invalid.
pub fn parse() -> Cli {
    Cli::from_arg_matches(&tree().get_matches()).unwrap_or_else(|error| error.exit())
}

/// The commands; each list with its description and its filters.
pub fn tree() -> Command {
    let view_of = |name: &str| registry::views().find(|view| view.name == name);
    Cli::command().mut_subcommands(|parent| {
        let name = parent.get_name().to_owned();
        let Some(view) = view_of(&name) else { return parent };
        parent.about(view.about).mut_subcommands(|list| match list.get_name() {
            "list" => filtered(list.about(format!("{}, the newest first.", view.about)), view),
            // Another list beside it: `attempts report`.
            other => match view_of(&format!("{name}/{other}")) {
                Some(view) => filtered(list, view),
                None => list,
            },
        })
    })
}

fn filtered(list: Command, view: &View) -> Command {
    let (example, fields) = (view.example, view.filters().join(", "));
    let columns = view.table(&[]).unwrap_or_default();
    let dropped: Vec<_> = columns.droppable().into_iter().map(|index| columns.columns[index].0).collect();
    let list = match dropped.as_slice() {
        [] => list,
        dropped => list.after_help(format!(
            "Where not all columns have room, they are left out in this order: {}. --json has everything.",
            dropped.join(", ")
        )),
    };
    list.mut_args(|arg| match arg.get_id().as_str() {
        "filters" => {
            arg.help(format!("Only rows with this value, such as `--where {example}`; fields: {fields}"))
        }
        "reveal" => arg.hide(view.personal().is_empty()),
        _ => arg,
    })
}

#[cfg(test)]
mod tests {
    use view::Form;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        tree().debug_assert();
    }

    #[test]
    fn every_list_fits_into_80_columns_without_what_it_leaves_out() {
        let widest = |title: &str, form: Form| {
            let value = match form {
                Form::Time => "2026-11-22 13:01:34-03".len(),
                Form::Id => "0199d3c0-1f2e-7abc".len(),
                Form::TaxId => "11.222.333/0001-81".len(),
                Form::State(tones) => tones.iter().map(|(state, _)| state.len()).max().unwrap_or(0),
                Form::Text | Form::Number | Form::Money | Form::States(_) => 10,
                Form::Flag | Form::Count => 3,
            };
            value.max(title.len()) + 2
        };
        for view in registry::views() {
            let table = view.table(&[]).unwrap();
            let dropped = table.droppable();
            let kept = table.without(&dropped).columns;
            let width: usize = kept.iter().map(|(title, form)| widest(title, *form)).sum();
            assert!(width <= 80 + 2, "{}: {width} of {kept:?}", view.name);
        }
    }

    #[test]
    fn every_list_says_what_it_lists_and_what_it_is_filtered_by() {
        let help = |name: &str| {
            let mut tree = tree();
            let (parent, list) = name.split_once('/').unwrap_or((name, "list"));
            let list = tree.find_subcommand_mut(parent).unwrap().find_subcommand_mut(list).unwrap();
            // Lines end where the terminal does.
            list.render_help().to_string().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(
            help("dead")
                .starts_with("Dead letters: events that a consumer gave up, with the error, the newest")
        );
        assert!(help("rejected").contains("fields: id, source, provider"));
        // The groups of dead letters are an option of their list.
        let is_filtered = |view: &&View| view.name != "dead/groups" && !view.example.is_empty();
        for view in registry::views().filter(is_filtered) {
            assert!(help(view.name).contains(&format!("--where {}", view.example)), "{}", view.name);
        }
    }
}
