//! A value that does not print itself. Values only.

use std::fmt;

/// A secret. `Debug` and `Display` both print `***`; [`Secret::expose`] is the only way in, and easy to search for.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. For the one place that hands it to the service it belongs to.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_three_stars_and_nothing_else() {
        let s = Secret::new("hunter2".to_string());
        assert_eq!(format!("{s} {s:?} {:#?}", Some(&s)), "*** *** Some(\n    ***,\n)");
        assert_eq!(s.expose(), "hunter2");
    }
}
