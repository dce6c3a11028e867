//! `malote completions` and `malote manual`: what a shell and `man` know of the commands, from the one registry.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap_complete::Shell;

use super::complete::OPTIONS;
use crate::{parser, report};

/// In bash: what `malote complete` prints, and where that is nothing, what the generated function knows.
const BASH: &str = r#"_malote_values() {
    local value
    COMPREPLY=()
    while IFS= read -r value; do COMPREPLY+=("$value"); done \
        < <(malote complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    [ "${#COMPREPLY[@]}" -gt 0 ] || _malote "$@"
}

"#;

/// The same in zsh, at the beginning of the generated function.
const ZSH: &str = r#"    local -a values
    values=("${(@f)$(malote complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${values[1]}" ]]; then
        [[ "$PREFIX" == --*=* ]] && compset -P '*='
        compadd -a values
        return
    fi
"#;

/// The same in fish, beside the generated lines.
const FISH: &str = r#"function __malote_values
    set -l words (commandline -opc) (commandline -ct)
    malote complete -- $words[2..-1] 2>/dev/null
end
complete -c malote -a "(__malote_values)"
"#;

/// The completions for a shell. Ids and names are asked for as they are typed, by `malote complete`.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut parser::tree(), "malote", &mut script);
    let script = String::from_utf8(script).expect("a script is made of the texts of the commands");
    match shell {
        Shell::Bash => {
            BASH.to_owned() + &script.replace("complete -F _malote ", "complete -F _malote_values ")
        }
        Shell::Zsh => script.replacen("_malote() {\n", &format!("_malote() {{\n{ZSH}"), 1),
        Shell::Fish => {
            let option = |name: &&str| format!("complete -c malote -l {name} -r -a \"(__malote_values)\"\n");
            script + FISH + &OPTIONS.iter().map(option).collect::<String>()
        }
        _ => script,
    }
}

/// Writes a page of section 1 for each command to a folder, which is made if it is missing.
pub fn manual(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(parser::tree(), folder))
        .with_context(|| format!("cannot write the manual to {}", folder.display()))?;
    report::line(format!("Written. `man -l {}` shows the first page.", folder.join("malote.1").display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{Command, ValueEnum};

    use super::*;

    /// The paths of all commands that are listed, such as `malote-events-list`.
    fn paths(command: &Command, path: &str, all: &mut Vec<String>) {
        all.push(path.to_owned());
        for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
            paths(child, &format!("{path}-{}", child.get_name()), all);
        }
    }

    #[test]
    fn every_shell_completes_commands_and_their_options() {
        for shell in Shell::value_variants() {
            let script = completions(*shell);
            for expect in ["events", "tail", "caused-by", "prescriptions", "rotate-secret"] {
                assert!(script.contains(expect), "{shell}: {expect}");
            }
        }
    }

    #[test]
    fn the_scripts_ask_for_values_before_they_complete_as_they_are() {
        let script = |shell| completions(shell);
        assert!(script(Shell::Bash).contains("complete -F _malote_values -o nosort"));
        assert!(!script(Shell::Bash).contains("complete -F _malote "));
        let zsh = script(Shell::Zsh);
        let function = zsh.split("\n_malote() {\n").nth(1).unwrap();
        assert!(function.starts_with(ZSH), "{zsh}");
        assert!(script(Shell::Fish).contains("complete -c malote -l source -r -a \"(__malote_values)\""));
    }

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        manual(&folder.path().join("man1")).unwrap();
        let mut all = Vec::new();
        paths(&parser::tree(), "malote", &mut all);
        assert!(all.contains(&"malote-events-tail".to_owned()));
        for path in all {
            let page = fs::read_to_string(folder.path().join(format!("man1/{path}.1"))).expect(&path);
            assert!(page.contains(".TH ") && page.contains("SYNOPSIS"), "{path}: {page}");
        }
    }
}
