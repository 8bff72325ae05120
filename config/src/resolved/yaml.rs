//! The tree as YAML. Values only.

use super::{Entry, Node, Value};

/// The tree, each value's origin behind it as a comment.
pub(super) fn print(entries: &[Entry], expand: bool) -> String {
    let mut lines = Vec::new();
    map(entries, 0, expand, &mut lines);
    // Origins in one column, unless a line is longer than most.
    let widths = lines.iter().filter(|(_, origin)| !origin.is_empty()).map(|(text, _)| text.chars().count());
    let column = widths.filter(|w| *w <= WIDEST).max().unwrap_or_default();
    let mut out = String::new();
    for (text, origin) in lines {
        match origin.as_str() {
            "" => out.push_str(&text),
            origin => out.push_str(&format!("{text:column$}  # {origin}")),
        }
        out.push('\n');
    }
    out
}

/// Wider lines do not push the others' origins to the right.
const WIDEST: usize = 60;

fn map(entries: &[Entry], depth: usize, expand: bool, lines: &mut Vec<(String, String)>) {
    let indent = "  ".repeat(depth);
    for Entry { key, node } in entries {
        match node {
            Node::Value(value, source) => {
                lines.push((format!("{indent}{key}: {}", scalar(value, expand)), source.to_string()));
            }
            Node::Comment(text, source) => {
                let text = text.as_deref().unwrap_or("\"***\"");
                lines.push((format!("{indent}# {key}: {text}"), source.to_string()));
            }
            Node::Map(entries) => {
                lines.push((format!("{indent}{key}:"), String::new()));
                map(entries, depth + 1, expand, lines);
            }
            Node::List(items) if items.is_empty() => {
                lines.push((format!("{indent}{key}: []"), String::new()))
            }
            Node::List(items) => {
                lines.push((format!("{indent}{key}:"), String::new()));
                for item in items {
                    let first = lines.len();
                    map(item, depth + 2, expand, lines);
                    if let Some((line, _)) = lines.get_mut(first) {
                        line.replace_range(indent.len() + 2..indent.len() + 4, "- ");
                    }
                }
            }
        }
    }
}

fn scalar(value: &Value, expand: bool) -> String {
    match value {
        Value::Text(text) if expand => quoted(&text.replace('$', "$$")),
        Value::Text(text) => quoted(text),
        Value::Word(word) => word.clone(),
        Value::Number(n) => n.to_string(),
        Value::Switch(on) => on.to_string(),
    }
}

/// Plain where nothing in it can mean anything to YAML, else in double quotes, which for YAML are JSON's.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-@$".contains(c))
        && crate::reader::parse_switch(text).is_none()
        && !matches!(text.to_ascii_lowercase().as_str(), "null");
    if plain { text.into() } else { serde_json::Value::from(text).to_string() }
}
