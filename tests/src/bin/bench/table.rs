//! The table: one line a figure, one column a program, the bounds for ours, and whether they hold. Values only.

use std::fmt;

use clap::ValueEnum;

use crate::column::Column;

/// What a figure of ours must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// At most twice what ours is in the v0.3 layout.
    Twice,
    /// No bound was set.
    Told,
}

/// What ours must reach, in the v0.3 layout and with LTX files.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Must {
    pub(crate) ours: Bound,
    pub(crate) ltx: Bound,
}

impl Must {
    pub(crate) const TOLD: Self = Self::both(Bound::Told);

    pub(crate) const fn both(bound: Bound) -> Self {
        Self { ours: bound, ltx: bound }
    }

    /// So much, and with LTX files at most twice of what it is then.
    pub(crate) const fn at_most(most: f64) -> Self {
        Self { ours: Bound::AtMost(most), ltx: Bound::Twice }
    }
}

/// The figures so far.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Line>);

#[derive(Debug)]
struct Line {
    what: String,
    unit: &'static str,
    must: Must,
    cells: Vec<(Column, f64)>,
}

impl Table {
    /// Adds one figure; a line is made for it when `what` is new.
    pub(crate) fn set(&mut self, what: &str, unit: &'static str, must: Must, column: Column, value: f64) {
        println!("  {what}: {column} {}{unit}", Number(value));
        let line = match self.0.iter().position(|line| line.what == what) {
            Some(at) => &mut self.0[at],
            None => {
                self.0.push(Line { what: what.to_owned(), unit, must, cells: Vec::new() });
                self.0.last_mut().expect("a line was added")
            }
        };
        line.cells.push((column, value));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Table {
    /// Markdown, so that it can be pasted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n| work |")?;
        for column in Column::value_variants() {
            write!(f, " {column} |")?;
        }
        writeln!(f, " better Litestream / ours | 0.5.17 / LTX | ours must be | LTX must be |")?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |")?;
        for line in &self.0 {
            write!(f, "| {} |", line.what)?;
            for column in Column::value_variants() {
                write!(f, " {} |", Cell(line.of(*column), line.unit))?;
            }
            write!(f, " {} |", Cell(line.factor(&[Column::V03, Column::V05], Column::Ours), ""))?;
            write!(f, " {} |", Cell(line.factor(&[Column::V05], Column::Ltx), ""))?;
            writeln!(f, " {} | {} |", line.judged(Column::Ours), line.judged(Column::Ltx))?;
        }
        Ok(())
    }
}

impl Line {
    fn of(&self, column: Column) -> Option<f64> {
        self.cells.iter().find(|(c, _)| *c == column).map(|(_, value)| *value)
    }

    /// How many times ours the best of theirs is: bounds are of one class of machine, this is of this one.
    fn factor(&self, theirs: &[Column], ours: Column) -> Option<f64> {
        let ours = self.of(ours).filter(|value| *value > 0.0)?;
        let theirs = theirs.iter().filter_map(|column| self.of(*column));
        let best = match self.must.ours {
            Bound::AtLeast(_) => theirs.reduce(f64::max),
            Bound::AtMost(_) | Bound::Twice | Bound::Told => theirs.reduce(f64::min),
        };
        best.map(|theirs| theirs / ours)
    }

    /// The bound, and whether the column's figure keeps to it.
    fn judged(&self, column: Column) -> String {
        let bound = if column == Column::Ltx { self.must.ltx } else { self.must.ours };
        let (sign, limit) = match bound {
            Bound::AtMost(most) => ("≤", Some(most)),
            Bound::AtLeast(least) => ("≥", Some(least)),
            Bound::Twice => ("≤", self.of(Column::Ours).map(|ours| 2.0 * ours)),
            Bound::Told => return String::new(),
        };
        let Some(limit) = limit else { return String::new() };
        let holds = |value| if sign == "≤" { value <= limit } else { value >= limit };
        let verdict = match self.of(column).map(holds) {
            Some(true) => " ✓",
            Some(false) => " **missed**",
            None => "",
        };
        format!("{sign} {}{}{verdict}", Number(limit), self.unit)
    }
}

/// A figure and its unit, or nothing.
struct Cell(Option<f64>, &'static str);

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{}{}", Number(value), self.1),
            None => Ok(()),
        }
    }
}

/// Three significant figures are more than a shared machine supports.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0.0 => f.write_str("0"),
            n if n.abs() < 0.1 => write!(f, "{n:.3}"),
            n if n.abs() < 10.0 => write!(f, "{n:.2}"),
            n if n.abs() < 100.0 => write!(f, "{n:.1}"),
            n => write!(f, "{n:.0}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_every_column_and_judges_only_ours() {
        let mut table = Table::default();
        let must = Must::at_most(0.9);
        for (column, value) in
            [(Column::V03, 2.3), (Column::V05, 5.9), (Column::Ours, 1.15), (Column::Ltx, 1.18)]
        {
            table.set("restore", " s", must, column, value);
        }
        table.set("rate", "", Must::both(Bound::AtLeast(1.1)), Column::Ours, 1.2);
        let text = table.to_string();
        let restore = "| restore |  | 2.30 s | 5.90 s | 1.15 s | 1.18 s | 2.00 | 5.00 | ≤ 0.90 s **missed** | ≤ 2.30 s ✓ |";
        assert!(text.contains(restore), "{text}");
        assert!(text.contains("| rate |  |  |  | 1.20 |  |  |  | ≥ 1.10 ✓ | ≥ 1.10 |"), "{text}");
    }
}
