//! A command line against a table of what may stand on it. Words and variables in, values out; nothing is looked up.
//!
//! `lexopt` cuts the words. A library that knows the table, too, is a tenth of this program's size, which stays in memory
//! beside every app: what is left is this file and [`super::help`].

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

/// One command of the program: what it is told, and what is said of it.
#[derive(Debug)]
pub(crate) struct Command {
    /// As it is called, `holdfast-supervisor` first.
    pub(crate) name: &'static str,
    pub(crate) usage: &'static str,
    /// Paragraphs.
    pub(crate) about: &'static [&'static str],
    pub(crate) flags: &'static [Flag],
    /// What the words after `--` are, for a command that takes some.
    pub(crate) command: Option<&'static str>,
}

/// One flag.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    /// What its value is: a word like `DURATION`, or all that it may be, as in `none|quick|full`. Empty: a switch, which
    /// may be given `=true` or `=false` and is off unless it is named.
    pub(crate) value: &'static str,
    /// The variable that says the same where the flag is not given.
    pub(crate) env: Option<&'static str>,
    pub(crate) default: Option<&'static str>,
    pub(crate) about: &'static str,
}

impl Flag {
    /// The values there are, if they can be listed.
    fn choices(&self) -> Option<impl Iterator<Item = &'static str> + Clone> {
        self.value.contains('|').then(|| self.value.split('|'))
    }
}

/// Why a command line does not become a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// An answer, for stdout: help, or the version.
    Answer(String),
    /// A mistake, for stderr.
    Mistake(String),
}

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Answer(text) | Self::Mistake(text)) = self;
        f.write_str(text)
    }
}

/// What was said, flag by flag, and not yet understood.
#[derive(Debug)]
pub(crate) struct Given {
    command: &'static Command,
    said: Vec<(&'static str, OsString, Source)>,
}

/// Who said it: a mistake is mended where it was made.
#[derive(Debug, Clone, Copy)]
enum Source {
    Flag,
    Variable(&'static str),
}

impl Given {
    /// Cuts `words`, without the program's name and what follows `--`, and asks `variable` for what is not in them. The
    /// last of two equal flags counts: a wrapper's can be overruled. An empty variable is none: `${NAME:-}` makes one.
    pub(crate) fn read(
        command: &'static Command,
        words: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Stop> {
        use lexopt::Arg::{Long, Short, Value};
        let mut given = Self { command, said: Vec::new() };
        let mut words = lexopt::Parser::from_args(words.into_iter().map(two_dashes));
        while let Some(word) = words.next().map_err(|e| given.mistake(&e))? {
            let name = match word {
                Long("help") | Short('h') => return Err(Stop::Answer(super::help::text(command))),
                Long("version") | Short('V') => {
                    return Err(Stop::Answer(format!("{} {}\n", command.name, env!("CARGO_PKG_VERSION"))));
                }
                Long(name) => name.to_owned(),
                Short(letter) => return Err(given.mistake(&format_args!("there is no flag -{letter}"))),
                Value(word) => {
                    let begins = command.command.map_or("", |_| ": the app's command begins after `--`");
                    return Err(given.mistake(&format_args!("{word:?} is no flag{begins}")));
                }
            };
            let Some(flag) = command.flags.iter().find(|flag| flag.name == name) else {
                return Err(given.mistake(&format_args!("there is no flag -{name}{}", alike(command, &name))));
            };
            let value = match flag.value {
                "" => words.optional_value().unwrap_or_else(|| "true".into()),
                what => value_of(&mut words)
                    .ok_or_else(|| given.mistake(&format_args!("-{name} needs a value: {what}")))?,
            };
            given.said.push((flag.name, value, Source::Flag));
        }
        for flag in command.flags {
            let unsaid = !given.said.iter().any(|(name, ..)| *name == flag.name);
            if let Some(env) = flag.env.filter(|_| unsaid)
                && let Some(value) = variable(env).filter(|value| !value.is_empty())
            {
                given.said.push((flag.name, value, Source::Variable(env)));
            }
        }
        Ok(given)
    }

    /// The value of `name` as it was given, by whoever; its default is nobody's.
    pub(crate) fn raw(&self, name: &str) -> Option<&OsStr> {
        self.last(name).map(|(value, _)| value)
    }

    fn last(&self, name: &str) -> Option<(&OsStr, Source)> {
        let (_, value, source) = self.said.iter().rev().find(|(said, ..)| *said == name)?;
        Some((value, *source))
    }

    /// The value of `name` as `read` understands it, if it was given.
    pub(crate) fn maybe<T, E: Display>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Stop> {
        let Some((value, source)) = self.last(name) else { return Ok(None) };
        let Some(text) = value.to_str() else {
            return Err(self.mistake(&format_args!("{}: not UTF-8", called(name, value, source))));
        };
        match read(text) {
            Ok(value) => Ok(Some(value)),
            Err(why) => Err(self.mistake(&format_args!("{}: {why}", called(name, value, source)))),
        }
    }

    /// The value of `name`, or what its default means.
    pub(crate) fn value<T, E: Display>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, Stop> {
        if let Some(value) = self.maybe(name, &read)? {
            return Ok(value);
        }
        let default = self.flag(name).and_then(|flag| flag.default).unwrap_or_default();
        read(default).map_err(|why| self.mistake(&format_args!("-{name} {default}: {why}")))
    }

    /// One of the values that the table lists for `name`.
    pub(crate) fn choice<T: Copy>(&self, name: &str, means: &[(&str, T)]) -> Result<T, Stop> {
        self.value(name, |text| match means.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(*value),
            None => Err(format!("write {}", self.listed(name))),
        })
    }

    /// One of the values that the table lists for `name`, as its word.
    pub(crate) fn word(&self, name: &str) -> Result<String, Stop> {
        let choices = self.flag(name).and_then(Flag::choices);
        self.value(name, |text| match &choices {
            Some(choices) if !choices.clone().any(|choice| choice == text) => {
                Err(format!("write {}", self.listed(name)))
            }
            _ => Ok(text.to_owned()),
        })
    }

    /// Whether the switch `name` is on.
    pub(crate) fn switch(&self, name: &str) -> Result<bool, Stop> {
        Ok(self.maybe(name, yes_or_no)?.unwrap_or(false))
    }

    fn flag(&self, name: &str) -> Option<&'static Flag> {
        self.command.flags.iter().find(|flag| flag.name == name)
    }

    fn listed(&self, name: &str) -> String {
        let words: Vec<_> = self.flag(name).and_then(Flag::choices).into_iter().flatten().collect();
        match words.split_last() {
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
            None => String::new(),
        }
    }

    /// What is wrong with what was said.
    pub(crate) fn mistake(&self, what: &dyn Display) -> Stop {
        mistake(self.command, what)
    }
}

/// What is wrong, and where to read on.
pub(crate) fn mistake(command: &Command, what: &dyn Display) -> Stop {
    Stop::Mistake(format!("holdfast-supervisor: {what}\n`{} --help` lists all flags\n", command.name))
}

/// What follows `=`, or the next word, unless that is a flag itself: where a value is missing it would be taken for one.
fn value_of(words: &mut lexopt::Parser) -> Option<OsString> {
    let value = match words.optional_value() {
        Some(value) => value,
        None => words.value().ok().filter(|value| !value.as_encoded_bytes().starts_with(b"-"))?,
    };
    Some(value).filter(|value| !value.is_empty())
}

fn called(name: &str, value: &OsStr, source: Source) -> String {
    let value = value.to_string_lossy();
    match source {
        Source::Flag => format!("-{name} {value}"),
        Source::Variable(variable) => format!("{variable}={value}"),
    }
}

/// A flag that may be meant by `name`, for the end of a sentence.
fn alike(command: &Command, name: &str) -> String {
    let close = command.flags.iter().map(|flag| (strsim::jaro(flag.name, name), flag.name));
    match close.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((how, close)) if how > 0.8 => format!("; there is -{close}"),
        _ => String::new(),
    }
}

/// `-name` and `-name=value` as `--name` and `--name=value`; single letters stay.
fn two_dashes(word: OsString) -> OsString {
    let bytes = word.as_encoded_bytes();
    let long = bytes.len() > 2 && bytes[0] == b'-' && bytes[1].is_ascii_alphabetic() && bytes[2] != b'=';
    if !long {
        return word;
    }
    let mut two = OsString::from("-");
    two.push(word);
    two
}

/// Durations as people write them.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; write it like 30s or 5m"))
}

/// Switches as people write them in variables.
pub(crate) fn yes_or_no(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "y" | "t" => Ok(true),
        "false" | "no" | "off" | "0" | "n" | "f" => Ok(false),
        _ => Err("write true or false"),
    }
}

/// Whatever reads itself.
pub(crate) fn parsed<T: FromStr>(text: &str) -> Result<T, T::Err> {
    text.parse()
}
