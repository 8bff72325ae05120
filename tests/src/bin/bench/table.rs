//! The table: one line a figure, one column a program, the bound for ours, and whether it holds. Values only.

use std::fmt;

use holdfast_tests::tool::Tool;

/// Whose figure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Bare,
    Tool(Tool),
}

/// What ours must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// No bound was set.
    Told,
}

/// The figures so far.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Line>);

#[derive(Debug)]
struct Line {
    what: String,
    unit: &'static str,
    bound: Bound,
    cells: Vec<(Column, f64)>,
}

impl Table {
    /// Adds one figure; a line is made for it when `what` is new.
    pub(crate) fn set(&mut self, what: &str, unit: &'static str, bound: Bound, column: Column, value: f64) {
        println!("  {what}: {} {}{unit}", column.name(), Number(value));
        let line = match self.0.iter().position(|line| line.what == what) {
            Some(at) => &mut self.0[at],
            None => {
                self.0.push(Line { what: what.to_owned(), unit, bound, cells: Vec::new() });
                self.0.last_mut().expect("a line was added")
            }
        };
        line.cells.push((column, value));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Column {
    fn name(self) -> String {
        match self {
            Self::Bare => "bare".to_owned(),
            Self::Tool(tool) => tool.to_string(),
        }
    }
}

const COLUMNS: [Column; 4] =
    [Column::Bare, Column::Tool(Tool::V03), Column::Tool(Tool::V05), Column::Tool(Tool::Holdfast)];

impl fmt::Display for Table {
    /// Markdown, so that it can be pasted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| work | bare | 0.3.13 | 0.5.17 | ours | better Litestream / ours | ours must be | |"
        )?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")?;
        for line in &self.0 {
            write!(f, "| {} |", line.what)?;
            for column in COLUMNS {
                match line.of(column) {
                    Some(value) => write!(f, " {}{} |", Number(value), line.unit)?,
                    None => write!(f, " |")?,
                }
            }
            let (bound, verdict) = line.judged();
            match line.factor() {
                Some(factor) => writeln!(f, " {} | {bound} | {verdict} |", Number(factor))?,
                None => writeln!(f, " | {bound} | {verdict} |")?,
            }
        }
        Ok(())
    }
}

impl Line {
    fn of(&self, column: Column) -> Option<f64> {
        self.cells.iter().find(|(c, _)| *c == column).map(|(_, value)| *value)
    }

    /// How many times the better Litestream's figure is ours: bounds are of one class of machine, this is of this one.
    fn factor(&self) -> Option<f64> {
        let ours = self.of(Column::Tool(Tool::Holdfast)).filter(|value| *value > 0.0)?;
        let theirs = [Tool::V03, Tool::V05].into_iter().filter_map(|tool| self.of(Column::Tool(tool)));
        let better = match self.bound {
            Bound::AtLeast(_) => theirs.reduce(f64::max),
            Bound::AtMost(_) | Bound::Told => theirs.reduce(f64::min),
        };
        better.map(|theirs| theirs / ours)
    }

    fn judged(&self) -> (String, &'static str) {
        let ours = self.of(Column::Tool(Tool::Holdfast));
        let verdict = |holds: Option<bool>| match holds {
            Some(true) => "✓",
            Some(false) => "**missed**",
            None => "",
        };
        match self.bound {
            Bound::AtMost(most) => {
                (format!("≤ {}{}", Number(most), self.unit), verdict(ours.map(|value| value <= most)))
            }
            Bound::AtLeast(least) => {
                (format!("≥ {}{}", Number(least), self.unit), verdict(ours.map(|value| value >= least)))
            }
            Bound::Told => (String::new(), ""),
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
        table.set("restore", " s", Bound::AtMost(0.9), Column::Tool(Tool::V03), 2.3);
        table.set("restore", " s", Bound::AtMost(0.9), Column::Tool(Tool::V05), 5.9);
        table.set("restore", " s", Bound::AtMost(0.9), Column::Tool(Tool::Holdfast), 1.15);
        table.set("rate", "", Bound::AtLeast(1.1), Column::Tool(Tool::Holdfast), 1.2);
        let text = table.to_string();
        assert!(
            text.contains("| restore | | 2.30 s | 5.90 s | 1.15 s | 2.00 | ≤ 0.90 s | **missed** |"),
            "{text}"
        );
        assert!(text.contains("| rate | | | | 1.20 | | ≥ 1.10 | ✓ |"), "{text}");
    }
}
