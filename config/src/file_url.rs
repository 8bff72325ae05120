//! What a file URL names, read as Litestream 0.3.13 reads it, because that is where its replicas lie; and
//! percent sequences. Values only.
//!
//! Everything after the scheme is the path, percent sequences stay as they are, and a character a URL may not hold is
//! written as one (`file:///my dir` is the directory `/my%20dir`).

use std::path::{Path, PathBuf};

use crate::s3::Flaw;

/// The path a file URL names, from what follows `file:`.
pub(crate) fn path(rest: &str) -> Result<PathBuf, Flaw> {
    let (full, rooted) = match rest.strip_prefix("//") {
        Some(full) => (full, true),
        None => (rest, rest.starts_with('/')),
    };
    if full.is_empty() {
        return Err(Flaw::new("path", "it is missing", "write file:///PATH"));
    }
    let (path, tail) = full.split_at(full.find(['?', '#']).unwrap_or(full.len()));
    let path = if rooted { as_go_writes(path)? } else { path.into() };
    let root = if rooted { "/" } else { "" };
    Ok(Path::new(&format!("{root}{path}{tail}")).into())
}

/// A URL path as Go prints it: untouched if every character may stand there, else decoded and encoded anew.
fn as_go_writes(path: &str) -> Result<String, Flaw> {
    let bad = || Flaw::new("path", "a % is not followed by two hexadecimal digits", "write %25 for a %");
    let bytes = decoded_bytes(path).ok_or_else(bad)?;
    let may_stand = |b: u8| is_plain(b) || b"!'()*[]%".contains(&b);
    if path.bytes().all(may_stand) {
        return Ok(path.into());
    }
    let mut out = String::with_capacity(path.len() + 16);
    for b in bytes {
        if is_plain(b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    Ok(out)
}

/// Go leaves these as they are in a path.
fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b)
}

/// Percent sequences decoded; `None` if one is broken or the result is not UTF-8.
pub(crate) fn decoded(text: &str) -> Option<String> {
    String::from_utf8(decoded_bytes(text)?).ok()
}

fn decoded_bytes(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    Some(out)
}
