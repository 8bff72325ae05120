//! A command's `--help`, made from its table. Values in, text out.

use std::fmt::Write;

use super::words::{Command, Flag};

/// Columns: as wide as a terminal that nobody asked.
const WIDTH: usize = 100;

pub(crate) fn text(command: &Command) -> String {
    let mut text = String::new();
    for paragraph in command.about {
        wrap(&mut text, 0, paragraph);
        text.push('\n');
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, "Usage: {}", command.usage);
    if let Some(about) = command.command {
        text.push_str("\nArguments:\n  [COMMAND]...\n");
        wrap(&mut text, INDENT, about);
    }
    text.push_str("\nOptions (one dash will do):\n");
    for flag in command.flags {
        describe(&mut text, flag);
    }
    text.push_str("  -h, --help\n          Print this\n\n  -V, --version\n          Print the version\n");
    text
}

fn describe(text: &mut String, flag: &Flag) {
    let value = if flag.value.is_empty() { String::new() } else { format!(" <{}>", flag.value) };
    let _ = writeln!(text, "      --{}{value}", flag.name);
    wrap(text, INDENT, flag.about);
    for (what, value) in [("env", flag.env), ("default", flag.default)] {
        if let Some(value) = value {
            let _ = writeln!(text, "{:INDENT$}[{what}: {value}]", "");
        }
    }
    text.push('\n');
}

/// `words` in lines of at most [`WIDTH`] columns, unless one of them is longer, all of them `indent` from the left.
fn wrap(text: &mut String, indent: usize, words: &str) {
    let mut column = 0;
    for word in words.split_whitespace() {
        let long = word.chars().count();
        if column > 0 && column + 1 + long > WIDTH {
            text.push('\n');
            column = 0;
        }
        if column == 0 {
            text.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += long;
    }
    text.push('\n');
}

const INDENT: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_wide_as_they_may_be_and_no_word_is_lost() {
        let words = "0123456789 ".repeat(40) + &"x".repeat(120) + " end";
        let mut text = String::new();
        wrap(&mut text, 10, &words);
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), words.split_whitespace().collect::<Vec<_>>());
        let wide = |line: &str| line.chars().count() > WIDTH;
        assert_eq!(text.lines().filter(|line| wide(line)).count(), 1, "the word that does not fit:\n{text}");
        assert!(text.lines().all(|line| line.starts_with("          ")), "{text}");
        assert!(text.lines().any(|line| line.len() > WIDTH - 11), "{text}");
    }
}
