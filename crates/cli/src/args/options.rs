//! Options that a list declares: a parameter of its filter is an option of the commands that choose among its rows.

use std::marker::PhantomData;

use access::{AUDIT, AuditFilter};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use event::Zone;
use ledger::jobs::JobFilter;
use ledger::{DEAD, DeadFilter, EVENTS, EventFilter, JOBS};
use subscriptions::{ATTEMPTS, AttemptFilter};
use view::{Field, Kind, View};

use super::values::{Moment, moment};

/// The filter of a list, which gives commands their options.
pub trait Filtered: 'static {
    /// Its list.
    const VIEW: &'static View;
    /// The parameters of its filter that are options. Without any, all are but the ids and the source, which commands take in
    /// other ways.
    const ONLY: &'static [&'static str] = &[];
}

impl Filtered for EventFilter {
    const VIEW: &'static View = &EVENTS;
}

impl Filtered for DeadFilter {
    const VIEW: &'static View = &DEAD;
    const ONLY: &'static [&'static str] = &["group", "consumer"];
}

/// The filter of lists of dead letters, where `--group` is another option.
#[derive(Clone, Debug)]
pub struct DeadListFilter;

impl Filtered for DeadListFilter {
    const VIEW: &'static View = &DEAD;
    const ONLY: &'static [&'static str] = &["consumer", "provider"];
}

/// Also for their report and for what is undelivered.
impl Filtered for AttemptFilter {
    const VIEW: &'static View = &ATTEMPTS;
    const ONLY: &'static [&'static str] = &["subscription", "from", "to"];
}

impl Filtered for JobFilter {
    const VIEW: &'static View = &JOBS;
}

impl Filtered for AuditFilter {
    const VIEW: &'static View = &AUDIT;
}

/// The given options of a list's filter.
#[derive(Clone, Debug)]
pub struct Options<F> {
    given: Vec<(&'static str, Given)>,
    filter: PhantomData<F>,
}

#[derive(Clone, Debug)]
enum Given {
    Text(String),
    Time(Moment),
}

impl<F> Options<F> {
    /// The parameters of the filter, with days of this zone.
    pub fn parameters(self, zone: &Zone) -> impl Iterator<Item = (String, String)> {
        let parameter = |(name, given): (&str, Given)| match given {
            Given::Text(text) => (name.to_owned(), text),
            Given::Time(moment) => (name.to_owned(), moment.time(zone, crate::local::zone()).to_string()),
        };
        self.given.into_iter().map(parameter)
    }
}

impl<F: Filtered> Args for Options<F> {
    fn augment_args(command: Command) -> Command {
        command.args(options::<F>().map(|(name, kind, about)| {
            let option = Arg::new(name).long(static_text(name.replace('_', "-")));
            let about = about.trim_end_matches('.').to_owned();
            match kind {
                Kind::Text => option.help(about + "."),
                Kind::Word(words) => option
                    .help(about + ".")
                    .value_parser(PossibleValuesParser::new(words.into_iter().map(static_text))),
                Kind::Time => option
                    .value_name("TIME")
                    .value_parser(moment)
                    .visible_alias(if name == "from" { "since" } else { "until" })
                    .help(
                        about
                            + ": 2026-11-22T16:00:00Z, \"2026-11-22 13:00\" (clocks of TZ), 2026-11-22, yesterday (days of time.zone), or 30m, \
                               2h, 7d ago.",
                    ),
            }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<F: Filtered> FromArgMatches for Options<F> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = options::<F>().filter_map(|(name, kind, _)| {
            let given = match kind {
                Kind::Time => Given::Time(*matches.get_one::<Moment>(name)?),
                Kind::Text | Kind::Word(_) => Given::Text(matches.get_one::<String>(name)?.clone()),
            };
            Some((name, given))
        });
        Ok(Self { given: given.collect(), filter: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The options: the fields of the list's filter that are some.
fn options<F: Filtered>() -> impl Iterator<Item = (&'static str, Kind, String)> {
    let is_option = |name: &str| match F::ONLY {
        [] => !["id", "source"].contains(&name),
        only => only.contains(&name),
    };
    let fields = F::VIEW.fields().into_iter().filter(move |field| is_option(&field.name));
    fields.map(|Field { name, about, kind }| (static_text(name), kind, about))
}

/// clap keeps names as long as the process lives.
fn static_text(text: String) -> &'static str {
    text.leak()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<F: Filtered>(given: &[&str]) -> Result<Vec<(String, String)>, clap::Error> {
        let command = Options::<F>::augment_args(Command::new("list"));
        let matches = command.try_get_matches_from([&["list"], given].concat())?;
        Ok(Options::<F>::from_arg_matches(&matches)?.parameters(&Zone::default()).collect())
    }

    #[test]
    fn options_are_the_parameters_of_the_filter() {
        let given = ["--caused-by", "x", "--state", "dead", "--since", "2026-11-22", "--topic", "a"];
        let expect =
            [("topic", "a"), ("state", "dead"), ("caused_by", "x"), ("from", "2026-11-22T03:00:00Z")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(parsed::<EventFilter>(&given).unwrap(), expect);
        assert_eq!(parsed::<EventFilter>(&[]).unwrap(), []);
        for wrong in [["--state", "died"], ["--id", "1"], ["--source", "x"], ["--from", "tomorrow"]] {
            assert!(parsed::<EventFilter>(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_option_that_a_list_names_is_a_parameter_of_its_filter() {
        fn check<F: Filtered>() {
            assert_eq!(options::<F>().count(), F::ONLY.len());
        }
        check::<DeadFilter>();
        check::<DeadListFilter>();
        check::<AttemptFilter>();
    }
}
