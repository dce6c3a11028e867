//! The reference of all commands as Markdown, from the same tree that parses them.

use clap::{Arg, Command};

use crate::parser;

/// The reference, command by command.
pub fn reference() -> String {
    let mut root = parser::tree();
    root.build();
    let mut text = format!("# The command line\n\n{}\n", about(&root));
    let global: Vec<&Arg> = root.get_arguments().filter(|arg| is_shown(arg)).collect();
    text += "\nEvery command takes:\n\n";
    global.iter().for_each(|arg| text += &argument(arg));
    for command in root.get_subcommands().filter(|command| is_listed(command)) {
        section(command, "malote", &mut text);
    }
    text
}

fn section(command: &Command, parent: &str, text: &mut String) {
    let name = format!("{parent} {}", command.get_name());
    let children: Vec<_> = command.get_subcommands().filter(|command| is_listed(command)).collect();
    if children.is_empty() || !command.is_subcommand_required_set() {
        let arguments: Vec<_> =
            command.get_arguments().filter(|arg| is_shown(arg) && !arg.is_global_set()).collect();
        let positionals =
            arguments.iter().filter(|arg| arg.is_positional()).map(|arg| format!(" <{}>", arg.get_id()));
        *text += &format!("\n## `{name}{}`\n\n{}\n", positionals.collect::<String>(), about(command));
        if !arguments.is_empty() {
            *text += "\n";
            arguments.iter().for_each(|arg| *text += &argument(arg));
        }
    }
    children.into_iter().for_each(|child| section(child, &name, text));
}

fn argument(arg: &Arg) -> String {
    let mut name = match arg.get_long() {
        Some(long) => format!("--{long}"),
        None => format!("<{}>", arg.get_id()),
    };
    if arg.get_action().takes_values()
        && !arg.is_positional()
        && let Some(value) = arg.get_value_names().and_then(|names| names.first())
    {
        name += &format!(" <{value}>");
    }
    let mut help = arg.get_help().map(|help| sentence(&help.to_string())).unwrap_or_default();
    let possible: Vec<_> = match arg.get_action().takes_values() {
        true => arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect(),
        false => Vec::new(),
    };
    if !possible.is_empty() {
        help += &format!(" One of {}.", possible.join(", "));
    }
    let default: Vec<_> = match arg.get_action().takes_values() {
        true => arg.get_default_values().iter().map(|value| format!("`{}`", value.display())).collect(),
        false => Vec::new(),
    };
    if !default.is_empty() {
        help += &format!(" Default: {}.", default.join(", "));
    }
    if let Some(variable) = arg.get_env() {
        help += &format!(" Environment: `{}`.", variable.display());
    }
    format!("- `{name}`: {help}\n")
}

fn about(command: &Command) -> String {
    command.get_about().map(|about| sentence(&about.to_string())).unwrap_or_default()
}

fn sentence(text: &str) -> String {
    format!("{}.", text.trim_end_matches('.'))
}

fn is_shown(arg: &Arg) -> bool {
    !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str())
}

fn is_listed(command: &Command) -> bool {
    !command.is_hide_set() && command.get_name() != "help"
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_reference_has_every_command_with_its_options() {
        let text = super::reference();
        for expect in [
            "## `malote demo`",
            "## `malote consume <consumer>`",
            "## `malote events show <id>`",
            "One of `pending`, `handled`, `routed`, `dead`, `unrouted`, `discarded`, `duplicate`.",
            "- `--config <FILE>`",
            "Default: `50`.",
        ] {
            assert!(text.contains(expect), "{expect} in {text}");
        }
        assert!(!text.contains("help-markdown") && !text.contains("`malote help"));
    }
}
