//! Patterns of file names, as Litestream 0.5 reads them: Go's `filepath.Match` on the name alone. Values only.
//!
//! `*` is any run of characters, `?` any one, `[a-z]` one of a class, `[^a-z]` one outside of it, and `\` takes the
//! meaning from the character behind it.

use std::fmt;

/// A pattern that is well-formed. Prints as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    #[error("it ends in a backslash")]
    Backslash,
    #[error("a [ has no ] behind it")]
    Unclosed,
    #[error("a class in [ ] is empty or begins or ends with a -")]
    Class,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Run,
    One,
    Char(char),
    Class { inverted: bool, ranges: Vec<(char, char)> },
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        let mut rest = text.chars().peekable();
        let mut parts = Vec::new();
        while let Some(c) = rest.next() {
            parts.push(match c {
                '*' => Part::Run,
                '?' => Part::One,
                '\\' => Part::Char(rest.next().ok_or(BadPattern::Backslash)?),
                '[' => {
                    let inverted = rest.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    loop {
                        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
                            break;
                        }
                        let low = class_char(&mut rest)?;
                        let high = match rest.next_if_eq(&'-') {
                            Some(_) => class_char(&mut rest)?,
                            None => low,
                        };
                        ranges.push((low, high));
                    }
                    Part::Class { inverted, ranges }
                }
                other => Part::Char(other),
            });
        }
        Ok(Self { text: text.into(), parts })
    }

    /// Does it fit the whole of `name`?
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut part, mut at) = (0, 0);
        // The last run, and how far it reaches so far: one character more whenever what follows does not fit.
        let mut run = None;
        loop {
            match self.parts.get(part) {
                Some(Part::Run) => {
                    run = Some((part, at));
                    part += 1;
                    continue;
                }
                Some(one) if name.get(at).is_some_and(|c| one.fits(*c)) => {
                    (part, at) = (part + 1, at + 1);
                    continue;
                }
                None if at == name.len() => return true,
                Some(_) | None => {}
            }
            match run {
                Some((start, reach)) if reach < name.len() => {
                    run = Some((start, reach + 1));
                    (part, at) = (start + 1, reach + 1);
                }
                Some(_) | None => return false,
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Part {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Run => false,
            Self::One => true,
            Self::Char(own) => *own == c,
            Self::Class { inverted, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *inverted
            }
        }
    }
}

/// A character of a class, which stands for itself.
fn class_char(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, BadPattern> {
    match rest.next() {
        None => Err(BadPattern::Unclosed),
        Some('-' | ']') => Err(BadPattern::Class),
        Some('\\') => rest.next().ok_or(BadPattern::Backslash),
        Some(c) => Ok(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_gos_do() {
        for (pattern, name, want) in [
            ("*.db", "a.db", true),
            ("*.db", ".db", true),
            ("*.db", "a.db-wal", false),
            ("*", "", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("?.db", "é.db", true),
            ("?.db", ".db", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[ab-]x", "-x", false),
            ("[a\\-b]x", "-x", true),
            ("\\*.db", "*.db", true),
            ("\\*.db", "a.db", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Pattern::new(pattern).is_ok_and(|p| p.matches(name)), want, "{pattern} {name}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for (pattern, why) in [
            ("[a.db", BadPattern::Unclosed),
            ("[", BadPattern::Unclosed),
            ("[]a]", BadPattern::Class),
            ("[a-]", BadPattern::Class),
            ("[-a]", BadPattern::Class),
            ("a\\", BadPattern::Backslash),
        ] {
            assert_eq!(Pattern::new(pattern), Err(why), "{pattern}");
        }
    }
}
