//! Environment variables inside a value. Values only.
//!
//! | written | gives |
//! | --- | --- |
//! | `$NAME`, `${NAME}` | the value; an error if unset |
//! | `${NAME:-word}` | the value; `word` if unset or empty |
//! | `${NAME:?text}` | the value; an error that says `text` if unset or empty |
//! | `${NAME:+word}` | nothing if unset or empty, else `word` |
//! | the same without `:` | as above, but an empty value counts as set |
//! | `$$` | `$` |
//! | `$` before anything else | itself |
//!
//! A word may hold further references; those in a word that is not used are not looked up. Values are put in as they
//! are and never read again, so a secret may hold `$`, `}` or quotes. A name is a letter or `_`, then letters, digits
//! and `_`.

use crate::env::Env;

/// A value with its variables put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// The template was one reference and nothing else. If it gave nothing, the key counts as absent.
    pub(crate) whole: bool,
}

/// Why a value cannot be expanded. Never holds a variable's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadReference {
    /// No such variable, and no default. `whole`: the value is this one reference and nothing else.
    Unset { name: String, whole: bool },
    /// `${NAME:?text}` of a variable that is unset or empty.
    Demanded { name: String, text: String },
    /// The variable is set, but not to UTF-8.
    NotText { name: String },
    /// `${` without `}`.
    Open,
    /// What stands between `${` and `}` (or before the operator) is no name, or the operator is unknown.
    Syntax { inside: String },
    /// Words within words, deeper than [`DEEPEST`].
    Deep,
}

impl BadReference {
    /// The sentence for the reader, and what to do.
    pub(crate) fn explain(&self) -> (String, String) {
        match self {
            // Litestream 0.5.7 and later put the number of their process in.
            Self::Unset { name, .. } if name == "PID" => (
                "the number of the process is not put in: a replica named by it would be another at every start".into(),
                "write a name that stays".into(),
            ),
            Self::Unset { name, .. } => (
                format!("the variable {name} is not set"),
                format!("set it, or write ${{{name}:-default}} (a literal dollar sign is $$)"),
            ),
            Self::Demanded { name, text } if text.is_empty() => {
                (format!("the variable {name} is not set"), "set it".into())
            }
            Self::Demanded { name, text } => (format!("the variable {name} is not set: {text}"), "set it".into()),
            Self::NotText { name } => (format!("the variable {name} is not UTF-8"), "set it to plain text".into()),
            Self::Open => (
                "`${` has no closing `}`".into(),
                "close it, or write $$ for a literal dollar sign".into(),
            ),
            Self::Syntax { inside } => (
                format!("`${{{inside}` is not a variable"),
                "write ${NAME}, ${NAME:-default}, ${NAME:?message} or ${NAME:+text} (a literal dollar sign is $$)"
                    .into(),
            ),
            Self::Deep => ("variables are nested too deeply".into(), format!("use at most {DEEPEST} levels")),
        }
    }
}

/// Puts the variables into `template`.
pub(crate) fn expand(template: &str, env: &Env) -> Result<Expanded, BadReference> {
    let mut text = String::with_capacity(template.len());
    let mut scan = Scan { template, at: 0, env };
    let mut first_ends = None;
    if scan.peek() == Some('$') {
        scan.dollar(&mut text, true, 0)?;
        first_ends = Some(scan.at);
    }
    scan.word(&mut text, Inside::Template, true, 0)?;
    let whole = first_ends == Some(template.len()) && template != "$" && template != "$$";
    Ok(Expanded { text, whole })
}

/// Words within words; far beyond use, and far from the stack's end.
const DEEPEST: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Template,
    Braces,
}

struct Scan<'a> {
    template: &'a str,
    at: usize,
    env: &'a Env,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<char> {
        self.template[self.at..].chars().next()
    }

    fn skip(&mut self, c: char) -> bool {
        let hit = self.peek() == Some(c);
        if hit {
            self.at += c.len_utf8();
        }
        hit
    }

    /// Reads to the end, or to the `}` that closes the braces we are in. `live` is false in a word nobody needs.
    fn word(
        &mut self,
        out: &mut String,
        inside: Inside,
        live: bool,
        depth: usize,
    ) -> Result<(), BadReference> {
        while let Some(c) = self.peek() {
            match c {
                '}' if inside == Inside::Braces => return Ok(()),
                '$' => self.dollar(out, live, depth)?,
                _ => {
                    self.at += c.len_utf8();
                    out.push(c);
                }
            }
        }
        if inside == Inside::Braces { Err(BadReference::Open) } else { Ok(()) }
    }

    fn dollar(&mut self, out: &mut String, live: bool, depth: usize) -> Result<(), BadReference> {
        self.at += 1;
        match self.peek() {
            Some('$') => {
                self.at += 1;
                out.push('$');
                Ok(())
            }
            Some('{') => {
                self.at += 1;
                self.braces(out, live, depth + 1)
            }
            Some(c) if starts_name(c) => {
                let name = self.name();
                if live {
                    out.push_str(self.required(name)?);
                }
                Ok(())
            }
            _ => {
                out.push('$');
                Ok(())
            }
        }
    }

    fn braces(&mut self, out: &mut String, live: bool, depth: usize) -> Result<(), BadReference> {
        if depth > DEEPEST {
            return Err(BadReference::Deep);
        }
        let opened = self.at;
        let name = self.name();
        if self.peek() == Some('}') && !name.is_empty() {
            self.at += 1;
            if live {
                out.push_str(self.required(name)?);
            }
            return Ok(());
        }
        let colon = self.skip(':');
        let operator = self.peek();
        let Some(operator @ ('-' | '?' | '+')) = operator.filter(|_| !name.is_empty()) else {
            return Err(self.no_variable(opened));
        };
        self.at += 1;
        let value = self.lookup(name)?.filter(|v| !(colon && v.is_empty()));
        let word_starts = self.at;
        let mut word = String::new();
        let word_is_used = match operator {
            '-' => value.is_none(),
            '+' => value.is_some(),
            _ => false,
        };
        self.word(&mut word, Inside::Braces, live && word_is_used, depth)?;
        let raw_word = &self.template[word_starts..self.at];
        self.at += 1;
        match (operator, value) {
            ('+', Some(_)) | ('-', None) => out.push_str(&word),
            ('+', None) => {}
            (_, Some(value)) => out.push_str(value),
            (_, None) if live => {
                return Err(BadReference::Demanded { name: name.into(), text: raw_word.into() });
            }
            (_, None) => {}
        }
        Ok(())
    }

    /// The name here, empty if there is none.
    fn name(&mut self) -> &'a str {
        let rest = &self.template[self.at..];
        let end = if rest.starts_with(starts_name) {
            rest.find(|c: char| !starts_name(c) && !c.is_ascii_digit()).unwrap_or(rest.len())
        } else {
            0
        };
        self.at += end;
        &rest[..end]
    }

    fn lookup(&self, name: &str) -> Result<Option<&'a str>, BadReference> {
        if self.env.is_not_text(name) {
            return Err(BadReference::NotText { name: name.into() });
        }
        Ok(self.env.get(name))
    }

    fn required(&self, name: &str) -> Result<&'a str, BadReference> {
        self.lookup(name)?.ok_or_else(|| {
            let whole = self.template.strip_prefix('$').is_some_and(|t| {
                t == name || t.strip_prefix('{').and_then(|t| t.strip_suffix('}')) == Some(name)
            });
            BadReference::Unset { name: name.into(), whole }
        })
    }

    /// The braces opened at `opened` hold no variable: show what they hold, or say that they never close.
    fn no_variable(&self, opened: usize) -> BadReference {
        match self.template[opened..].split_once('}') {
            Some((inside, _)) => BadReference::Syntax { inside: format!("{inside}}}") },
            None => BadReference::Open,
        }
    }
}

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn env() -> Env {
        Env::from_pairs([("A", "alpha"), ("B_2", "b$A}\"#"), ("EMPTY", "")])
    }

    fn text(template: &str) -> Result<String, BadReference> {
        expand(template, &env()).map(|e| e.text)
    }

    #[test]
    fn references_expand_as_the_table_says() {
        let cases = [
            ("", ""),
            ("plain # text", "plain # text"),
            ("$A", "alpha"),
            ("${A}", "alpha"),
            ("x${A}y$A/z", "xalphayalpha/z"),
            ("${B_2}", "b$A}\"#"),
            ("${EMPTY}", ""),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NONE-d}", "d"),
            ("${A:-d}", "alpha"),
            ("${NONE:-}", ""),
            ("${NONE:-$A and ${B:-${A}!}}", "alpha and alpha!"),
            ("${NONE:-a:-b?c+d}", "a:-b?c+d"),
            ("${A:-$NONE}", "alpha"),
            ("${A:+yes}", "yes"),
            ("${EMPTY:+yes}", ""),
            ("${EMPTY+yes}", "yes"),
            ("${NONE:+$ALSO_NONE}", ""),
            ("${A:?must be set}", "alpha"),
            ("${EMPTY?ok when empty}", ""),
            ("$$A", "$A"),
            ("$$$A", "$alpha"),
            ("$${A}", "${A}"),
            ("${NONE:-$$}", "$"),
            ("5$", "5$"),
            ("$ 5", "$ 5"),
            ("$1 $* $- $}", "$1 $* $- $}"),
            ("é${A}ü", "éalphaü"),
        ];
        for (template, want) in cases {
            assert_eq!(text(template).as_deref(), Ok(want), "{template}");
        }
    }

    #[test]
    fn a_bad_reference_says_what_is_wrong_and_what_to_write() {
        let cases = [
            (
                "$NONE",
                "the variable NONE is not set; set it, or write ${NONE:-default} (a literal dollar sign is $$)",
            ),
            (
                "a${NONE}",
                "the variable NONE is not set; set it, or write ${NONE:-default} (a literal dollar sign is $$)",
            ),
            (
                "${NONE:?the bucket for backups}",
                "the variable NONE is not set: the bucket for backups; set it",
            ),
            ("${EMPTY:?}", "the variable EMPTY is not set; set it"),
            ("${A", "`${` has no closing `}`; close it, or write $$ for a literal dollar sign"),
            ("${A:-x", "`${` has no closing `}`; close it, or write $$ for a literal dollar sign"),
        ];
        for (template, want) in cases {
            let (problem, fix) = text(template).unwrap_err().explain();
            assert_eq!(format!("{problem}; {fix}"), want, "{template}");
        }
        for template in ["${}", "${1}", "${A B}", "${#A}", "${A%x}", "${A:=x}", "${A:1}", "${-x}", "${ A }"] {
            assert!(matches!(text(template), Err(BadReference::Syntax { .. })), "{template}");
        }
        assert_eq!(text("${A%x}").unwrap_err().explain().0, "`${A%x}` is not a variable");
        assert_eq!(text(&"${N:-".repeat(1000)), Err(BadReference::Deep));
    }

    #[test]
    fn a_value_that_is_one_reference_and_nothing_else_is_told_apart() {
        for (template, whole) in [
            ("$A", true),
            ("${A}", true),
            ("${N:-x}", true),
            ("${A}b", false),
            ("a", false),
            ("", false),
            ("$$", false),
        ] {
            assert_eq!(expand(template, &env()).map(|e| e.whole), Ok(whole), "{template}");
        }
        assert_eq!(expand("${N}", &env()), Err(BadReference::Unset { name: "N".into(), whole: true }));
        assert_eq!(expand("$N", &env()), Err(BadReference::Unset { name: "N".into(), whole: true }));
        assert_eq!(expand("x$N", &env()), Err(BadReference::Unset { name: "N".into(), whole: false }));
        assert_eq!(expand("${A}${N}", &env()), Err(BadReference::Unset { name: "N".into(), whole: false }));
    }

    /// A template by its parts, and what it must give.
    fn part() -> impl Strategy<Value = (String, String)> {
        let literal = "[a-z#\"' {:é-]{0,6}".prop_map(|t| (t.clone(), t));
        let dollar = Just(("$$".to_string(), "$".to_string()));
        let set = Just(("${B_2}".to_string(), "b$A}\"#".to_string()));
        let leaf = prop_oneof![literal, dollar, set];
        leaf.prop_recursive(4, 24, 3, |inner| {
            let words = prop::collection::vec(inner, 0..3).prop_map(|w| {
                w.into_iter().fold((String::new(), String::new()), |a, b| (a.0 + &b.0, a.1 + &b.1))
            });
            prop_oneof![
                words.clone().prop_map(|(t, v)| (format!("${{NONE:-{t}}}"), v)),
                words.clone().prop_map(|(t, v)| (format!("${{A:+{t}}}"), v)),
                words.clone().prop_map(|(t, _)| (format!("${{A:-{t}}}"), "alpha".into())),
                words.prop_map(|(t, _)| (format!("${{EMPTY:+{t}}}"), String::new())),
            ]
        })
    }

    proptest! {
        #![proptest_config(crate::seed::seeded())]

        #[test]
        fn a_template_gives_what_its_parts_give(parts in prop::collection::vec(part(), 0..6)) {
            let (template, want) = parts.into_iter().fold((String::new(), String::new()), |a, b| (a.0 + &b.0, a.1 + &b.1));
            prop_assert_eq!(text(&template), Ok(want));
        }

        #[test]
        fn any_text_with_its_dollars_doubled_is_itself(original in ".*") {
            prop_assert_eq!(text(&original.replace('$', "$$")), Ok(original));
        }

        #[test]
        fn a_value_goes_in_as_it_is_and_is_never_read_again(value in ".*") {
            let env = Env::from_pairs([("V", value.clone())]);
            prop_assert_eq!(expand("<${V}|$V|${V-}|${V:-$V}>", &env).map(|e| e.text),
                Ok(format!("<{value}|{value}|{value}|{value}>")));
        }

        #[test]
        fn any_template_gives_an_answer_without_a_panic(template in "[${}:?+A_-]{0,40}|.*") {
            let _ = text(&template);
        }
    }
}
